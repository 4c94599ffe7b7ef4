"""IP addresses as the wire has them: IPv4 inside 16 bytes, and back out."""

from ipaddress import IPv4Address, IPv6Address


IPAddress = IPv4Address | IPv6Address

ADDRESS_SIZE = 16
"""Bytes of an address inside a frame, whatever its family."""

_V4_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2


def unmap(ip: IPAddress) -> IPAddress:
    """Give the IPv4 address inside a v4-mapped one; any other as it is.

    A dual-stack socket reports IPv4 peers as ``::ffff:a.b.c.d``.
    Source: Go ``net/netip``, ``Addr.Unmap``.
    """
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def to_wire(ip: IPAddress | None) -> bytes:
    """Pack an address into 16 bytes; None becomes zeros.

    Source: Go ``net/netip``, ``Addr.As16``.
    """
    if ip is None:
        return bytes(ADDRESS_SIZE)
    return _V4_MAPPED + ip.packed if isinstance(ip, IPv4Address) else ip.packed


def from_wire(packed: bytes) -> IPAddress | None:
    """Unpack 16 bytes; zeros, the address of nobody, become None."""
    return unmap(IPv6Address(packed)) if any(packed) else None
