"""What an address in a map is: of which family, for whom, and what is served there.

Somebody waits while a large map is judged, so that each text is read once.
"""

import bisect
import functools
import ipaddress
import socket
from collections.abc import Iterator
from typing import NamedTuple

from derpctl.map.model import DEFAULT_DERP_PORT, DEFAULT_STUN_PORT, Node


MOST_PORT = 65_535
LOOPBACK = "loopback"

_MANY = 1 << 14  # texts that are kept; a map of 1 MiB has hardly more
_DIGITS = frozenset("0123456789.")
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_KINDS = (
    (LOOPBACK, ("127.0.0.0/8", "::1/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
    ("shared by carrier-grade NAT", ("100.64.0.0/10",)),
    (
        "for documentation",
        (
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
            "3fff::/20",
        ),
    ),
    ("of no host", ("0.0.0.0/8", "::/128", "240.0.0.0/4", "::ffff:0:0/96")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
)
"""Source: IANA's registries of special-purpose addresses. A table of our own, as what
Python's `ipaddress` says of them differs between its versions. None overlap."""


class Service(NamedTuple):
    """Something at an address that two nodes cannot both be."""

    address: bytes
    """As it is on the wire, however it is spelt."""
    kind: str
    """`relay` or `STUN`."""
    port: int | None
    """None is all ports."""


class _Read(NamedTuple):
    """An address, and what it is."""

    version: int
    packed: bytes
    kind: str
    """Who alone can reach it; empty if the Internet can."""


@functools.cache
def _ranges(version: int) -> tuple[list[int], list[tuple[int, str]]]:
    """Give where ranges of a family begin; where each ends, and of what kind it is."""
    found = sorted(
        (int(network.network_address), int(network.broadcast_address), kind)
        for kind, texts in _KINDS
        for network in map(ipaddress.ip_network, texts)
        if network.version == version
    )
    return [first for first, _, _ in found], [(last, kind) for _, last, kind in found]


@functools.lru_cache(maxsize=_MANY)
def _read(text: str) -> _Read | None:
    """Take a text for an address; None if it is none."""
    version = 6 if ":" in text else 4
    if version == 4 and not _DIGITS.issuperset(text):  # noqa: PLR2004 - IPv4
        return None  # names are many, and errors cost time
    try:
        if "%" in text:  # a zone, which only Python's module takes apart
            packed = ipaddress.IPv6Address(text).packed
        else:
            packed = socket.inet_pton(_FAMILIES[version], text)
    except (OSError, ValueError):
        return None
    number = int.from_bytes(packed)
    firsts, ranges = _ranges(version)
    place = bisect.bisect_right(firsts, number) - 1
    last, kind = ranges[place] if place >= 0 else (-1, "")
    return _Read(version, packed, kind if number <= last else "")


def is_address(text: str, family: int) -> bool:
    """Tell whether clients would dial it, in this family."""
    found = _read(text)
    return found is not None and found.version == family


def kind_of(text: str) -> str:
    """Say who alone can reach an address; nothing if the Internet can."""
    found = _read(text)
    return "" if found is None else found.kind


def literals(node: Node) -> Iterator[tuple[str, str]]:
    """Yield the addresses that clients dial without a look-up, by field."""
    if is_address(node.ipv4, 4):
        yield "IPv4", node.ipv4
    if is_address(node.ipv6, 6):
        yield "IPv6", node.ipv6


def services(node: Node) -> Iterator[Service]:
    """Yield what a node is at its addresses."""
    for _, text in literals(node):
        yield from services_at(node, text)


def services_at(node: Node, text: str) -> Iterator[Service]:
    """Yield what a node is at one address; the most certain clash comes first."""
    found = _read(text)
    if found is None:
        return
    address = found.packed
    if not node.stun_only:
        yield Service(address, "relay", node.derp_port or DEFAULT_DERP_PORT)
    if has_stun(node):
        yield Service(address, "STUN", node.stun_port or DEFAULT_STUN_PORT)
    if not node.stun_only:
        yield Service(address, "relay", None)


def has_stun(node: Node) -> bool:
    """Tell whether clients would ask it for their address."""
    return 0 <= node.stun_port <= MOST_PORT
