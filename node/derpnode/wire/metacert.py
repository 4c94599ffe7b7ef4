"""The meta certificate: the server's key, told during the TLS handshake.

A client that finds it last in the chain knows the server's key one round trip
early, and sends ClientInfo together with its request ("fast start").
Source: tailscale ``derp/derpserver/derpserver.go``, ``initMetacert``, and
``derp/derphttp/derphttp_client.go``, ``parseMetaCert``.

The DER is built and read by hand: the name is 71 characters long, beyond the 64
of X.520, and the usual library refuses or warns about it.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from derpnode.wire.handshake import PROTOCOL_VERSION
from derpnode.wire.keys import ZERO_KEY, NodeKey, parse_untyped, untyped_text


VALIDITY: Final = timedelta(days=30)
"""Before and after the server's start. Nobody checks it."""

_NAME_PREFIX = "derpkey"
_NAME = re.compile(rb"derpkey([0-9A-Fa-f]{64})")
_MAX_VERSION = 255  # parseMetaCert takes a serial number of 8 bits

# ASN.1 tags, X.690 8.1.2.
_BOOLEAN = 0x01
_INTEGER = 0x02
_BIT_STRING = 0x03
_OCTET_STRING = 0x04
_OBJECT_ID = 0x06
_PRINTABLE_STRING = 0x13
_UTC_TIME = 0x17
_SEQUENCE = 0x30
_SET = 0x31
_VERSION = 0xA0  # RFC 5280, 4.1: [0], explicit
_EXTENSIONS = 0xA3  # [3], explicit

_ED25519 = bytes.fromhex("2b6570")  # 1.3.101.112, RFC 8410
_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")  # 2.5.29.19

_SHORT_FORM = 0x80  # lengths below it are one byte, X.690 8.1.3.4


class _BadDer(ValueError):
    """A certificate ends in the middle of a value."""


def meta_certificate(
    server_key: NodeKey, *, now: datetime, signer: Ed25519PrivateKey
) -> bytes:
    """Make the certificate, DER, to send after the real chain.

    Args:
        server_key: The public key of the DERP server.
        now: When the server starts; an aware datetime.
        signer: A key for this certificate alone; Go makes one a start.
    """
    algorithm = _tlv(_SEQUENCE, _tlv(_OBJECT_ID, _ED25519))
    name = _name(_NAME_PREFIX + untyped_text(server_key))
    public = signer.public_key().public_bytes_raw()
    unsigned = _tlv(
        _SEQUENCE,
        _tlv(_VERSION, _tlv(_INTEGER, b"\x02")),  # v3
        _tlv(_INTEGER, bytes([PROTOCOL_VERSION])),  # serial number
        algorithm,
        name,  # issuer
        _tlv(_SEQUENCE, _utc_time(now - VALIDITY), _utc_time(now + VALIDITY)),
        name,  # subject
        _tlv(_SEQUENCE, algorithm, _tlv(_BIT_STRING, b"\0", public)),
        _tlv(_EXTENSIONS, _tlv(_SEQUENCE, _no_authority())),
    )
    signature = signer.sign(unsigned)
    return _tlv(_SEQUENCE, unsigned, algorithm, _tlv(_BIT_STRING, b"\0", signature))


def parse_meta_certificate(der: bytes) -> tuple[NodeKey, int] | None:
    """Read the server's key and protocol version from a certificate.

    Give it every certificate of the chain, in order, and take the first
    answer. None if it is an ordinary one, or no certificate at all; the
    signature proves nothing and is not checked.
    """
    try:
        serial, subject = _serial_and_subject(der)
        matches = [_NAME.fullmatch(text) for text in _common_names(subject)]
    except ValueError:  # cut short, or other fields than a certificate has
        return None
    version = int.from_bytes(serial, signed=True)
    for match in matches:
        if match is not None and 0 < version <= _MAX_VERSION:
            key = parse_untyped(match[1].decode("ascii"))
            return (key, version) if key != ZERO_KEY else None
    return None


def _name(common_name: str) -> bytes:
    text = _tlv(_PRINTABLE_STRING, common_name.encode("ascii"))
    attribute = _tlv(_SEQUENCE, _tlv(_OBJECT_ID, _COMMON_NAME), text)
    return _tlv(_SEQUENCE, _tlv(_SET, attribute))


def _utc_time(moment: datetime) -> bytes:
    text = moment.astimezone(UTC).strftime("%y%m%d%H%M%SZ")
    return _tlv(_UTC_TIME, text.encode("ascii"))


def _no_authority() -> bytes:
    """Say "not a CA", critically. It must stay the only extension.

    A subject key id would make derpprobe watch the expiry of this certificate:
    ``prober/tls.go``, ``validateConnState``.
    """
    return _tlv(
        _SEQUENCE,
        _tlv(_OBJECT_ID, _BASIC_CONSTRAINTS),
        _tlv(_BOOLEAN, b"\xff"),
        _tlv(_OCTET_STRING, _tlv(_SEQUENCE)),
    )


def _tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one DER value: tag, length, content."""
    content = b"".join(parts)
    size = len(content)
    if size < _SHORT_FORM:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, _SHORT_FORM | len(length)]) + length + content


def _serial_and_subject(der: bytes) -> tuple[bytes, bytes]:
    """Walk to the two fields of RFC 5280, 4.1, that a client looks at."""
    (_, certificate), *_ = _values(der)
    (_, unsigned), *_ = _values(certificate)
    fields = [content for tag, content in _values(unsigned) if tag != _VERSION]
    serial, _, _, _, subject, *_ = fields
    return serial, subject


def _common_names(subject: bytes) -> Iterator[bytes]:
    for _, relative_name in _values(subject):
        for _, attribute in _values(relative_name):
            (_, kind), (_, text) = _values(attribute)
            if kind == _COMMON_NAME:
                yield text


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ``(tag, content)`` of each value in a row.

    Raises:
        _BadDer: The bytes end in the middle of one.
    """
    end = 0
    while end < len(der):
        tag, start, end = _bounds(der, end)
        yield tag, der[start:end]


def _bounds(der: bytes, offset: int) -> tuple[int, int, int]:
    """Find the tag of a value, and where its content starts and ends."""
    start = offset + 2  # a tag and a length
    if start > len(der):
        raise _BadDer
    size = der[offset + 1]
    if size >= _SHORT_FORM:
        long_start, start = start, start + size - _SHORT_FORM
        size = int.from_bytes(der[long_start:start])
    if start + size > len(der):
        raise _BadDer
    return der[offset], start, start + size
