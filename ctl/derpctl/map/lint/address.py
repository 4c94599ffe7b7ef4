"""What an address in a map is: of which family, for whom, and what is served there."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from derpctl.map.model import DEFAULT_DERP_PORT, DEFAULT_STUN_PORT, Node


MOST_PORT = 65_535
LOOPBACK = "loopback"

_KINDS = tuple(
    (ipaddress.ip_network(network), kind)
    for kind, networks in (
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
    for network in networks
)
"""Source: IANA's registries of special-purpose addresses. A table of our own, as what
Python's `ipaddress` says of them differs between its versions."""


@dataclass(frozen=True, slots=True)
class Service:
    """Something at an address that two nodes cannot both be."""

    address: str
    """In one spelling."""
    kind: str
    """`relay` or `STUN`."""
    port: int | None
    """None is all ports."""


def is_address(text: str, family: int) -> bool:
    """Tell whether clients would dial it, in this family."""
    try:
        return ipaddress.ip_address(text).version == family
    except ValueError:
        return False


def kind_of(text: str) -> str:
    """Say who alone can reach an address; nothing if the Internet can."""
    address = ipaddress.ip_address(text)
    for network, kind in _KINDS:
        if address.version == network.version and address in network:
            return kind
    return ""


def literals(node: Node) -> Iterator[tuple[str, str]]:
    """Yield the addresses that clients dial without a look-up, by field."""
    for field, text, family in (("IPv4", node.ipv4, 4), ("IPv6", node.ipv6, 6)):
        if is_address(text, family):
            yield field, text


def services(node: Node) -> Iterator[Service]:
    """Yield what a node is at its addresses."""
    for _, text in literals(node):
        yield from services_at(node, text)


def services_at(node: Node, text: str) -> Iterator[Service]:
    """Yield what a node is at one address; the most certain clash comes first."""
    address = str(ipaddress.ip_address(text))
    if not node.stun_only:
        yield Service(address, "relay", node.derp_port or DEFAULT_DERP_PORT)
    if has_stun(node):
        yield Service(address, "STUN", node.stun_port or DEFAULT_STUN_PORT)
    if not node.stun_only:
        yield Service(address, "relay", None)


def has_stun(node: Node) -> bool:
    """Tell whether clients would ask it for their address."""
    return 0 <= node.stun_port <= MOST_PORT
