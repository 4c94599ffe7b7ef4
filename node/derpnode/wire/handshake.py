"""The handshake: who the server is, who the client is, what both can do.

ServerKey goes first, in the clear; ClientInfo answers, sealed to that key;
ServerInfo confirms, sealed to the client's.
Source: tailscale ``derp/derp.go``, ``derp/derpserver/derpserver.go`` and
``derp/derp_client.go``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nacl.public import Box

from derpnode.wire import gojson
from derpnode.wire.errors import (
    BadHandshake,
    BadKeyText,
    BadPayload,
    FrameTooLarge,
    FrameTooShort,
)
from derpnode.wire.frames import (
    MAX_CLIENT_INFO,
    MAX_SERVER_INFO,
    MAX_SERVER_KEY,
    MIN_CLIENT_INFO,
    MIN_SERVER_KEY,
    FrameType,
    encode_frame,
)
from derpnode.wire.keys import (
    KEY_SIZE,
    NONCE_SIZE,
    NodeKey,
    PrivateKey,
    open_box,
    parse_hex,
)
from derpnode.wire.payloads import MAX_APP_NAME, valid_app_name


PROTOCOL_VERSION: Final = 2
"""Source: tailscale ``derp/derp.go``, ``ProtocolVersion``."""

MAGIC: Final = b"DERP\xf0\x9f\x94\x91"
"""First bytes of ServerKey: "DERP" and a key. Source: ``derp/derp.go``, ``Magic``."""

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What a client says of itself. Source: ``derp/derp.go``, ``ClientInfo``."""

    mesh_key: bytes | None = field(default=None, repr=False)
    """32 bytes to prove the mesh right with; None if it sent none."""
    version: int = PROTOCOL_VERSION
    """Ignored by servers. Zero if it sent none."""
    can_ack_pings: bool = False
    """It answers pings, so that one left unanswered tells something."""
    is_prober: bool = False
    """It only measures."""
    app_name: str = ""
    """What the program calls itself: 0 to 32 printable ASCII characters."""


@dataclass(frozen=True, slots=True)
class Login:
    """A client that proved to have its key."""

    key: NodeKey
    info: ClientInfo
    nonce: bytes
    """24 bytes the client chose; one seen before is a replay."""
    box: Box = field(repr=False)
    """Seals what the server says back to this client."""


def server_key_frame(public: NodeKey) -> bytes:
    """Introduce the server; the first frame of every connection."""
    return encode_frame(FrameType.SERVER_KEY, MAGIC + public)


def parse_server_key(payload: bytes) -> NodeKey:
    """Read the server's key. Bytes after it are left to extensions.

    Raises:
        FrameTooShort: No room for the key.
        FrameTooLarge: More than `frames.MAX_SERVER_KEY` bytes.
        BadHandshake: The magic is missing: this is no DERP server.
    """
    _check(FrameType.SERVER_KEY, payload, MIN_SERVER_KEY, MAX_SERVER_KEY)
    if not payload.startswith(MAGIC):
        raise BadHandshake(reason="ServerKey does not start with the magic")
    return NodeKey(payload[len(MAGIC) : MIN_SERVER_KEY])


def client_info_frame(
    info: ClientInfo, private: PrivateKey, server_key: NodeKey, nonce: bytes
) -> bytes:
    """Introduce a client to a server whose key is known.

    Fields are present when Go would write them: ``CanAckPings`` always, the
    others when they are not zero.

    Args:
        info: What to say.
        private: The client's key.
        server_key: From ServerKey, or from the meta certificate.
        nonce: 24 random bytes.

    Raises:
        BadHandshake: The server's key is no key.
    """
    members: dict[str, object] = {}
    if info.mesh_key is not None:
        members["meshKey"] = info.mesh_key.hex()
    if info.version:
        members["version"] = info.version
    members["CanAckPings"] = info.can_ack_pings
    if info.is_prober:
        members["IsProber"] = True
    if info.app_name:
        members["AppName"] = info.app_name
    sealed = private.seal(server_key, _dump(members), nonce)
    return encode_frame(FrameType.CLIENT_INFO, private.public + sealed)


def open_client_info(payload: bytes, private: PrivateKey) -> Login:
    """Open a client's ClientInfo with the server's key.

    Source: tailscale ``derp/derpserver/derpserver.go``, ``recvClientKey``.

    Raises:
        FrameTooShort: No room for key and nonce.
        FrameTooLarge: More than `frames.MAX_CLIENT_INFO` bytes.
        BadHandshake: Not sealed by the key it names, or for another server,
            or not the JSON that Go would take.
    """
    _check(FrameType.CLIENT_INFO, payload, MIN_CLIENT_INFO, MAX_CLIENT_INFO)
    key = NodeKey(payload[:KEY_SIZE])
    box = private.box(key)
    info = _client_info(_members(open_box(box, payload[KEY_SIZE:])))
    return Login(key, info, nonce=payload[KEY_SIZE:MIN_CLIENT_INFO], box=box)


def server_info_frame(box: Box, nonce: bytes) -> bytes:
    """Confirm a login; to the client it means "you can be reached now".

    Args:
        box: From the `Login`.
        nonce: 24 random bytes.
    """
    sealed = box.encrypt(_dump({"version": PROTOCOL_VERSION}), nonce)
    return encode_frame(FrameType.SERVER_INFO, sealed)


def open_server_info(
    payload: bytes, private: PrivateKey, server_key: NodeKey
) -> dict[str, object]:
    """Open a server's ServerInfo with the client's key.

    Raises:
        FrameTooShort: No room for the nonce.
        FrameTooLarge: More than `frames.MAX_SERVER_INFO` bytes.
        BadHandshake: Not sealed by that server for this client, or no JSON object.
    """
    _check(FrameType.SERVER_INFO, payload, NONCE_SIZE, MAX_SERVER_INFO)
    return dict(_members(private.open(server_key, payload)))


def _check(kind: FrameType, payload: bytes, minimum: int, maximum: int) -> None:
    if len(payload) > maximum:
        raise FrameTooLarge(kind, len(payload), maximum)
    if len(payload) < minimum:
        raise FrameTooShort(kind, len(payload), minimum)


def _dump(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _members(body: bytes) -> tuple[tuple[str, object], ...]:
    try:
        return gojson.parse_object(body)
    except BadPayload as exc:
        raise BadHandshake(str(exc)) from exc


def _client_info(members: tuple[tuple[str, object], ...]) -> ClientInfo:
    """Fill in a ClientInfo, member by member, as Go fills in its struct.

    Of repeated names the last wins, but each must be right. Names match in
    any case; casefold() agrees with Go's folding on all of ours.
    """
    mesh_key: bytes | None = None
    version, can_ack_pings, is_prober, app_name = 0, False, False, ""
    for name, value in members:
        match name.casefold():
            case "meshkey":
                mesh_key = _mesh_key(value)
            case "version":
                version = _integer("version", value, version)
            case "canackpings":
                can_ack_pings = _boolean("CanAckPings", value, can_ack_pings)
            case "isprober":
                is_prober = _boolean("IsProber", value, is_prober)
            case "appname":
                app_name = _text("AppName", value, app_name)
            case _:
                pass  # a newer client has more to say
    if not valid_app_name(app_name):
        raise BadHandshake(reason=f"AppName is not 0 to {MAX_APP_NAME} printable bytes")
    return ClientInfo(mesh_key, version, can_ack_pings, is_prober, app_name)


def _mesh_key(value: object) -> bytes:
    """Read 64 hex digits; a null is as wrong as any other value.

    A well-formed key that is not ours makes an ordinary client.
    Source: tailscale ``types/key/derp.go``, ``UnmarshalJSON``.
    """
    if not isinstance(value, str):
        raise BadHandshake(reason="meshKey is not text")
    try:
        return parse_hex("meshKey", value)
    except BadKeyText as exc:
        raise BadHandshake(str(exc)) from exc


# A null leaves a field as it was: encoding/json, Unmarshal.


def _integer(name: str, value: object, before: int) -> int:
    if value is None:
        return before
    # Python's bool is an int; Go's is not.
    if type(value) is not int or value not in _INT64:
        raise BadHandshake(reason=f"{name} is not a 64-bit integer")
    return value


def _boolean(name: str, value: object, before: bool) -> bool:
    if value is None:
        return before
    if not isinstance(value, bool):
        raise BadHandshake(reason=f"{name} is not true or false")
    return value


def _text(name: str, value: object, before: str) -> str:
    if value is None:
        return before
    if not isinstance(value, str):
        raise BadHandshake(reason=f"{name} is not text")
    return value
