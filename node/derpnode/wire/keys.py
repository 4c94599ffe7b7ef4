"""Keys: the node's own, its peers', and the one that a mesh shares.

Source: tailscale ``types/key``, ``node.go`` and ``derp.go``.
"""

import base64
import binascii
import hmac
import json
from typing import NewType, Self

import nacl.exceptions
import nacl.public

from derpnode.wire import gojson
from derpnode.wire.errors import BadHandshake, BadKeyText, BadPayload


KEY_SIZE = 32
"""Bytes of every key, public, private or shared."""

NONCE_SIZE = 24
"""Bytes of nonce in front of a sealed box. Source: NaCl ``crypto_box``."""

NodeKey = NewType("NodeKey", bytes)
"""A Curve25519 public key: who a client or a node is."""

ZERO_KEY = NodeKey(bytes(KEY_SIZE))
"""Nobody. Peers use it for "no key"; it can open nothing."""

_HEX_SIZE = 2 * KEY_SIZE
_NODE_PREFIX = "nodekey:"
_PRIVATE_PREFIX = "privkey:"
_SHORT_SIZE = 5  # base64 characters that identify a key in a log
_FINGERPRINT_SIZE = 16  # hex digits
_FINGERPRINT_OF = b"derpmesh mesh key"


def node_key(raw: bytes) -> NodeKey:
    """Take 32 bytes as a node key.

    Raises:
        BadKeyText: Not 32 bytes.
    """
    return NodeKey(_key_bytes("node key", raw))


def parse_node_key(text: str) -> NodeKey:
    """Read ``nodekey:`` and 64 hex digits, of either case.

    Raises:
        BadKeyText: Anything else, white space included.
    """
    return NodeKey(_parse_prefixed("node key", _NODE_PREFIX, text))


def node_key_text(key: NodeKey) -> str:
    """Write a key as Tailscale does: ``nodekey:`` and 64 hex digits."""
    return _NODE_PREFIX + key.hex()


def parse_untyped(digits: str) -> NodeKey:
    """Read a node key from 64 bare hex digits, of either case.

    Source: ``types/key/node.go``, ``ParseNodePublicUntyped``.

    Raises:
        BadKeyText: Anything else.
    """
    return NodeKey(parse_hex("node key", digits))


def untyped_text(key: NodeKey) -> str:
    """Write a node key as 64 bare hex digits.

    Source: ``types/key/node.go``, ``UntypedHexString``.
    """
    return key.hex()


def short_key(key: NodeKey) -> str:
    """Write a key as logs have it, ``[e06Qm]``; the zero key is empty.

    Source: ``types/key/node.go``, ``ShortString``.
    """
    if key == ZERO_KEY:
        return ""
    return f"[{base64.b64encode(key)[:_SHORT_SIZE].decode()}]"


def parse_hex(what: str, digits: str) -> bytes:
    """Read 32 bytes from exactly 64 hex digits, of either case.

    Args:
        what: The kind of key, for the error; the digits stay out of it.
        digits: Hex digits and nothing else.

    Raises:
        BadKeyText: Another length, or another character.
    """
    if len(digits) != _HEX_SIZE:
        raise BadKeyText(what, f"{len(digits)} hex digits, must be {_HEX_SIZE}")
    try:
        return binascii.unhexlify(digits)
    except ValueError:
        # "from None": the cause would carry the digits into a traceback.
        raise BadKeyText(what, "not hexadecimal") from None


def _parse_prefixed(what: str, prefix: str, text: str) -> bytes:
    if not text.startswith(prefix):
        raise BadKeyText(what, f"does not start with {prefix!r}")
    return parse_hex(what, text.removeprefix(prefix))


def _key_bytes(what: str, raw: bytes) -> bytes:
    if len(raw) != KEY_SIZE:
        raise BadKeyText(what, f"{len(raw)} bytes, must be {KEY_SIZE}")
    return bytes(raw)


def _secret_bytes(what: str, raw: bytes) -> bytes:
    if not any(_key_bytes(what, raw)):
        raise BadKeyText(what, "all zeros, which means no key")
    return bytes(raw)


class PrivateKey:
    """The secret half of an identity. Its repr shows the public half only.

    Args:
        raw: 32 bytes, used as they are; see `from_seed` for making a key.

    Raises:
        BadKeyText: Not 32 bytes, or all of them zero.
    """

    __slots__ = ("_secret", "public")

    def __init__(self, raw: bytes) -> None:
        self._secret = nacl.public.PrivateKey(_secret_bytes("private key", raw))
        self.public = NodeKey(bytes(self._secret.public_key))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make a key from 32 random bytes.

        Clamped as ``types/key/node.go``, ``NewNode`` does it, so that the
        text form is one that Go would have written.

        Raises:
            BadKeyText: Not 32 bytes.
        """
        raw = bytearray(seed)
        if len(raw) == KEY_SIZE:
            raw[0] &= 0xF8
            raw[-1] = raw[-1] & 0x7F | 0x40
        return cls(bytes(raw))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``privkey:`` and 64 hex digits, of either case.

        Raises:
            BadKeyText: Anything else; the message does not repeat the text.
        """
        return cls(_parse_prefixed("private key", _PRIVATE_PREFIX, text))

    def text(self) -> str:
        """Write the secret: ``privkey:`` and 64 hex digits. Not for logs."""
        return _PRIVATE_PREFIX + bytes(self._secret).hex()

    def box(self, peer: NodeKey) -> nacl.public.Box:
        """Make the box that only this key and ``peer`` can seal and open.

        This is the costly step (a scalar multiplication): keep the box for
        as long as the connection lasts.

        Raises:
            BadHandshake: A key with which anybody could open the box: zero,
                or another point of low order. Go panics on the first.
        """
        try:
            return nacl.public.Box(self._secret, nacl.public.PublicKey(peer))
        except nacl.exceptions.CryptoError as exc:
            raise BadHandshake(reason="the peer's key is a point of low order") from exc

    def seal(self, peer: NodeKey, plaintext: bytes, nonce: bytes) -> bytes:
        """Seal for ``peer``: nonce, then tag, then ciphertext.

        Args:
            peer: Who shall open it.
            plaintext: What to say.
            nonce: 24 random bytes, never used before between these two.

        Raises:
            BadHandshake: See `box`.
        """
        return bytes(self.box(peer).encrypt(plaintext, nonce))

    def open(self, peer: NodeKey, sealed: bytes) -> bytes:
        """Open what ``peer`` sealed for us.

        Raises:
            BadHandshake: Not sealed by ``peer`` for this key, or altered.
        """
        return open_box(self.box(peer), sealed)

    def __repr__(self) -> str:
        return f"<PrivateKey of {short_key(self.public)}>"


def open_box(box: nacl.public.Box, sealed: bytes) -> bytes:
    """Open a nonce, tag and ciphertext.

    Raises:
        BadHandshake: Sealed by somebody else, for somebody else, or altered.
    """
    try:
        return box.decrypt(sealed)
    except nacl.exceptions.CryptoError as exc:
        raise BadHandshake(reason="the sealed box cannot be opened") from exc


class MeshKey:
    """The secret that the nodes of a region share. Its repr is a fingerprint.

    Args:
        raw: 32 bytes.

    Raises:
        BadKeyText: Not 32 bytes, or all of them zero, which means "no key".
    """

    __slots__ = ("_secret",)

    def __init__(self, raw: bytes) -> None:
        self._secret = _secret_bytes("mesh key", raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 64 hex digits, of either case, with white space around them.

        Source: ``types/key/derp.go``, ``ParseDERPMesh``.

        Raises:
            BadKeyText: Anything else; the message does not repeat the text.
        """
        return cls(parse_hex("mesh key", text.strip()))

    @property
    def secret(self) -> bytes:
        """The 32 bytes, for the ClientInfo of a link. Not for logs."""
        return self._secret

    def text(self) -> str:
        """Write the secret as 64 hex digits, as in a key file. Not for logs."""
        return self._secret.hex()

    def matches(self, candidate: bytes | None) -> bool:
        """Tell whether a peer proved the key, in constant time.

        None, a peer that sent no key, never matches.
        """
        return candidate is not None and hmac.compare_digest(self._secret, candidate)

    def fingerprint(self) -> str:
        """Give 16 hex digits that differ between keys and do not reveal them."""
        digest = hmac.digest(self._secret, _FINGERPRINT_OF, "sha256")
        return digest.hex()[:_FINGERPRINT_SIZE]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeshKey) and self.matches(other.secret)

    def __hash__(self) -> int:
        return hash(self._secret)

    def __repr__(self) -> str:
        return f"<MeshKey {self.fingerprint()}>"


def identity_json(private: PrivateKey) -> str:
    """Write the identity file, byte for byte as derper does.

    Source: tailscale ``cmd/derper/derper.go``, ``config`` and ``writeNewConfig``.
    """
    return json.dumps({"PrivateKey": private.text()}, indent="\t")


def parse_identity(text: str) -> PrivateKey:
    """Read an identity file, ours or derper's; unknown fields are ignored.

    Source: tailscale ``cmd/derper/derper.go``, ``loadConfig``.

    Raises:
        BadKeyText: No JSON object, or no usable ``PrivateKey`` in it.
    """
    try:
        members = gojson.parse_object(text.encode(errors="replace"))
    except BadPayload as exc:
        raise BadKeyText("identity", str(exc)) from exc
    found = [value for name, value in members if name.casefold() == "privatekey"]
    if not found or not isinstance(found[-1], str):
        raise BadKeyText("identity", "has no text named 'PrivateKey'")
    return PrivateKey.parse(found[-1])
