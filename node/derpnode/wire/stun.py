"""STUN, as much of it as Tailscale's clients use to learn their address.

Source: tailscale ``net/stun/stun.go``; RFC 8489 for the formats.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from zlib import crc32

from derpnode.wire.addresses import IPAddress, unmap
from derpnode.wire.errors import BadPayload


TRANSACTION_SIZE: Final = 12
"""Bytes of transaction id. Source: RFC 8489, section 5."""

SOFTWARE_NAME: Final = b"tailnode"
"""What every Tailscale client calls itself, and the password to an answer."""

# Message types, RFC 8489, 18.2, with the class folded in.
_REQUEST = 0x0001
_SUCCESS = 0x0101

_COOKIE = bytes.fromhex("2112a442")  # RFC 8489, section 5
_HEADER = struct.Struct("!HH4s12s")  # type, length, cookie, transaction id
_ATTRIBUTE = struct.Struct("!HH")  # type, length without padding
_PADDING = 4

# Attributes, RFC 8489, 18.3.
_MAPPED_ADDRESS = 0x0001  # 1B zero + 1B family + 2B port + address
_XOR_MAPPED_ADDRESS = 0x0020  # the same, port and address masked
_XOR_MAPPED_ADDRESS_OLD = 0x8020  # drafts of RFC 5389 had this number
_SOFTWARE = 0x8022
_FINGERPRINT = 0x8028  # 4B CRC-32 of all before it, masked

_FINGERPRINT_SIZE = 8  # with its attribute header
_FINGERPRINT_MASK = 0x5354554E  # "STUN", RFC 8489, 14.7

_ADDRESS = struct.Struct("!xBH")
_PORT_MASK = 0x2112  # RFC 8489, 14.2; the address is masked by cookie + id
_IPV4, _IPV4_SIZE = 1, 4
_IPV6, _IPV6_SIZE = 2, 16


def parse_binding_request(data: bytes | memoryview) -> bytes | None:
    """Give the transaction id of a request that deserves an answer, or None.

    Only requests of Tailscale clients do: SOFTWARE is theirs and FINGERPRINT,
    the last attribute, is right. All else is dropped in silence, as derper
    does. The header's length field is not looked at; the attributes must
    fill the datagram exactly.

    Source: tailscale ``net/stun/stun.go``, ``ParseBindingRequest``.
    """
    if len(data) < _HEADER.size:
        return None
    kind, _, cookie, transaction = _HEADER.unpack_from(data)
    if kind != _REQUEST or cookie != _COOKIE:
        return None
    try:
        attributes = list(_attributes(data[_HEADER.size :]))
    except BadPayload:
        return None
    if (_SOFTWARE, SOFTWARE_NAME) not in attributes:
        return None
    expected = _fingerprint(data[:-_FINGERPRINT_SIZE])
    return transaction if attributes[-1] == (_FINGERPRINT, expected) else None


def binding_response(transaction: bytes, ip: IPAddress, port: int) -> bytes:
    """Tell a client how its address looks from here: 32 or 44 bytes.

    A v4-mapped address, as dual-stack sockets report it, is told as IPv4.

    Args:
        transaction: The request's.
        ip: The source address of the request.
        port: The source port of the request.

    Source: tailscale ``net/stun/stun.go``, ``Response``.
    """
    ip = unmap(ip)
    family = _IPV4 if isinstance(ip, IPv4Address) else _IPV6
    packed = _xor(ip.packed, _COOKIE + transaction)
    address = _ADDRESS.pack(family, port ^ _PORT_MASK) + packed
    body = _ATTRIBUTE.pack(_XOR_MAPPED_ADDRESS, len(address)) + address
    return _HEADER.pack(_SUCCESS, len(body), _COOKIE, transaction) + body


def binding_request(transaction: bytes) -> bytes:
    """Ask a node how our address looks from there.

    Args:
        transaction: 12 random bytes.

    Source: tailscale ``net/stun/stun.go``, ``Request``.
    """
    software = _ATTRIBUTE.pack(_SOFTWARE, len(SOFTWARE_NAME)) + SOFTWARE_NAME
    size = len(software) + _FINGERPRINT_SIZE
    message = _HEADER.pack(_REQUEST, size, _COOKIE, transaction) + software
    fingerprint = _fingerprint(message)
    return message + _ATTRIBUTE.pack(_FINGERPRINT, len(fingerprint)) + fingerprint


def parse_binding_response(data: bytes) -> tuple[bytes, IPAddress, int]:
    """Read the transaction id, and the address and port seen by the server.

    Source: tailscale ``net/stun/stun.go``, ``ParseResponse``.

    Raises:
        BadPayload: Not a success response with an address in it.
    """
    if len(data) < _HEADER.size:
        raise BadPayload(
            what="STUN response", reason=f"{len(data)} bytes, needs {_HEADER.size}"
        )
    kind, size, cookie, transaction = _HEADER.unpack_from(data)
    if kind != _SUCCESS or cookie != _COOKIE:
        raise BadPayload(what="STUN response", reason="not a binding success")
    body = data[_HEADER.size :]
    if len(body) < size:
        raise BadPayload(
            what="STUN response", reason=f"{len(body)} bytes, header says {size}"
        )
    found: tuple[IPAddress, int] | None = None
    fallback: tuple[IPAddress, int] | None = None
    for kind, value in _attributes(body[:size]):
        if kind in {_XOR_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS_OLD}:
            ip, port = _address(value, _COOKIE + transaction)
            found = ip, port ^ _PORT_MASK
        elif kind == _MAPPED_ADDRESS:
            fallback = _address(value, mask=bytes(_IPV6_SIZE))
    found = found or fallback
    if found is None:
        raise BadPayload(what="STUN response", reason="no address in it")
    return transaction, *found


def _attributes(body: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Yield ``(type, value)`` of each attribute.

    Raises:
        BadPayload: One is cut short, its padding included.
    """
    offset = 0
    while offset < len(body):
        if len(body) - offset < _ATTRIBUTE.size:
            raise BadPayload(what="STUN attribute", reason="header is cut short")
        kind, size = _ATTRIBUTE.unpack_from(body, offset)
        start = offset + _ATTRIBUTE.size
        offset = start + size + -size % _PADDING
        if offset > len(body):
            raise BadPayload(what="STUN attribute", reason="value is cut short")
        yield kind, bytes(body[start : start + size])


def _fingerprint(message: bytes | memoryview) -> bytes:
    """Compute the value of FINGERPRINT. Source: RFC 8489, 14.7."""
    return (crc32(message) ^ _FINGERPRINT_MASK).to_bytes(4)


def _xor(packed: bytes, mask: bytes) -> bytes:
    """Mask or unmask an address with the front of the mask."""
    return bytes(a ^ b for a, b in zip(packed, mask, strict=False))


def _address(value: bytes, mask: bytes) -> tuple[IPAddress, int]:
    """Read an address attribute; the port comes as it is."""
    if len(value) < _ADDRESS.size:
        raise BadPayload(
            what="STUN address", reason=f"{len(value)} bytes, needs {_ADDRESS.size}"
        )
    family, port = _ADDRESS.unpack_from(value)
    packed = _xor(value[_ADDRESS.size :], mask)
    if family == _IPV4 and len(packed) >= _IPV4_SIZE:
        return IPv4Address(packed[:_IPV4_SIZE]), port
    if family == _IPV6 and len(packed) == _IPV6_SIZE:
        return unmap(IPv6Address(packed)), port
    raise BadPayload(what="STUN address", reason=f"family {family}, wrong size")
