"""The addresses of nodes: that there are some, of the right kind, each of one node."""

from collections.abc import Iterator

from derpctl.map.lint.address import (
    LOOPBACK,
    is_address,
    kind_of,
    literals,
    services_at,
)
from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.lint.place import Place
from derpctl.map.model import DISABLED, Node


def families(place: Place) -> Iterator[Finding]:
    """DM008: a node has a family to dial, and addresses are of theirs."""
    for path, node in place.nodes():
        for field, text, family in (("IPv4", node.ipv4, 4), ("IPv6", node.ipv6, 6)):
            yield from _address(f"{path}.{field}", text, family)
        off = [
            text and not is_address(text, family)
            for text, family in ((node.ipv4, 4), (node.ipv6, 6))
        ]
        if all(off):
            message = (
                "both families are turned off, so that no client can dial it; give one"
                " address, or leave one empty for DNS"
            )
            yield Finding("DM008", Severity.ERROR, path, message)


def _address(path: str, text: str, family: int) -> Iterator[Finding]:
    if not text or text == DISABLED or is_address(text, family):
        return
    if is_address(text, 10 - family):
        message = f"{text} is an address of IPv{10 - family}; clients take it for none"
        yield Finding("DM008", Severity.ERROR, path, message)
    else:
        message = (
            f"{text!r:.60} is no address, which turns IPv{family} off; correct it, or"
            f' say "{DISABLED}"'
        )
        yield Finding("DM008", Severity.WARNING, path, message)


def explicit(place: Place) -> Iterator[Finding]:
    """DM009: clients need no DNS to dial a node."""
    for path, node in place.nodes():
        if not node.ipv4:
            message = (
                "no address, so that clients need DNS, which may need the relay; give"
                f' it, or "{DISABLED}" if there is none'
            )
            yield Finding("DM009", Severity.WARNING, f"{path}.IPv4", message)


def port_80(place: Place) -> Iterator[Finding]:
    """DM013: a node that answers for captive portals says at which address."""
    for path, node in place.nodes():
        if node.can_port80 and not is_address(node.ipv4, 4):
            message = (
                "true without an IPv4 address, which is where clients look for captive"
                " portals; give IPv4, or take CanPort80 out"
            )
            yield Finding("DM013", Severity.ERROR, f"{path}.CanPort80", message)


def shared(place: Place) -> Iterator[Finding]:
    """DM014: an address is of one node."""
    for path, node in place.nodes():
        for field, text in literals(node):
            message = _clash(place, path, node, text)
            if message:
                yield Finding("DM014", Severity.WARNING, f"{path}.{field}", message)


def _clash(place: Place, path: str, node: Node, text: str) -> str:
    """Say with whom a node shares an address; nothing if it is the first there."""
    for service in services_at(node, text):
        first = place.world.firsts[service]
        if first == path:
            continue
        if service.port is not None:
            return (
                f"{text}, {service.kind} port {service.port}, is {first}'s too, so"
                " that one server counts as two; give each its own, or take one out"
            )
        # Nodes of a trial share the loopback address; there is but one.
        if kind_of(text) != LOOPBACK:
            return (
                f"{text} is the address of {first} too, so that both are lost together;"
                " give each its own"
            )
    return ""


def reachable(place: Place) -> Iterator[Finding]:
    """DM019: the Internet can reach the addresses, but for a trial on loopback."""
    found = [
        (f"{path}.{field}", text, kind_of(text))
        for path, node in place.nodes()
        for field, text in literals(node)
    ]
    if found and all(kind == LOOPBACK for _, _, kind in found):
        message = (
            "all addresses are on loopback, so that only clients on the node's own"
            " machine reach it; right for a trial, else give public ones"
        )
        yield Finding("DM019", Severity.INFO, f"{place.path}.Nodes", message)
        return
    for path, text, kind in found:
        if kind:
            message = (
                f"{text} is {kind}, so that clients elsewhere do not reach it; give"
                " the public address"
            )
            yield Finding("DM019", Severity.WARNING, path, message)
