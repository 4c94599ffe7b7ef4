"""Where the map, the registry and the nodes say different things: DM027. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.model import (
    DEFAULT_DERP_PORT,
    DEFAULT_STUN_PORT,
    DISABLED,
    DerpMap,
    Node,
)


@dataclass(frozen=True, slots=True)
class Known:
    """A region as it is registered, and as its nodes are."""

    derp_map: DerpMap
    """What is registered."""
    source: str
    """Who says so: `etcd`, or the names of nodes."""
    live: Mapping[str, Node]
    """What each node that answers says of itself."""
    stale: str = ""
    """Why it may not be the last word; empty if it is."""


def drift(derp_map: DerpMap, known: Known) -> Iterator[Finding]:
    """Compare; other regions of the map are none of the registry's."""
    for number, region in sorted(known.derp_map.regions.items()):
        here = derp_map.regions.get(number)
        registered = {node.name: node for node in region.nodes}
        if here is None:
            names = ", ".join(registered)
            message = (
                f"region {number} is registered, with {names}, and not in the map; add"
                " it, as derpctl map export has it"
            )
            yield _finding("Regions", message)
        else:
            where = f"Regions.{number}.Nodes"
            yield from _nodes(where, here.nodes, registered, known)
        yield from _alive(number, here.nodes if here else (), registered, known)


def _nodes(
    where: str, nodes: Sequence[Node], registered: Mapping[str, Node], known: Known
) -> Iterator[Finding]:
    """Compare what clients have with what is registered."""
    for number, node in enumerate(nodes):
        path = f"{where}[{number}]"
        wanted = registered.get(node.name)
        if wanted is None:
            message = (
                f"{node.name} is in the map and not registered, as {known.source} has"
                " it; take it out, or add it by derpctl node add"
            )
            yield _finding(path, message)
            continue
        for field, has, wants in _differences(node, wanted):
            message = (
                f"{has} in the map, and registered is {wants}; correct one of them"
            )
            yield _finding(f"{path}.{field}", message)
    there = {node.name for node in nodes}
    for name in registered:
        if name not in there:
            message = (
                f"{name} is registered, as {known.source} has it, and not in the map;"
                " add it, or take it out by derpctl node remove"
            )
            yield _finding(where, message)


def _alive(
    region: int, nodes: Sequence[Node], registered: Mapping[str, Node], known: Known
) -> Iterator[Finding]:
    """Compare what is registered with what the nodes are."""
    paths = {
        node.name: f"Regions.{region}.Nodes[{number}]"
        for number, node in enumerate(nodes)
    }
    for name, wanted in registered.items():
        if name not in known.live:
            continue
        path = paths.get(name, f"Regions.{region}.Nodes" if nodes else "Regions")
        for field, is_now, wants in _differences(known.live[name], wanted):
            message = (
                f"{name} says that its {field} is {is_now}, and registered is {wants};"
                " correct what is registered, or the node's configuration"
            )
            yield _finding(path, message)


def _differences(one: Node, other: Node) -> Iterator[tuple[str, str, str]]:
    """Yield what differs to clients: the field, and what each has there."""
    one, other = _as_dialled(one), _as_dialled(other)
    for field in fields(Node):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine != theirs:
            yield str(field.metadata["json"]), _shown(mine), _shown(theirs)


def _as_dialled(node: Node) -> Node:
    """Say it as clients take it, whatever was left to them."""
    version = _version(node.host_name)
    ipv4, ipv6 = _address(node.ipv4, 4), _address(node.ipv6, 6)
    if version is not None:  # such a host has no other family to look up
        ipv4 = ipv4 or (_address(node.host_name, 4))
        ipv6 = ipv6 or (_address(node.host_name, 6))
    return replace(
        node,
        ipv4=ipv4,
        ipv6=ipv6,
        derp_port=node.derp_port or DEFAULT_DERP_PORT,
        stun_port=max(node.stun_port or DEFAULT_STUN_PORT, -1),
        host_name=node.host_name.rstrip(".").lower(),
    )


def _address(text: str, family: int) -> str:
    """Write an address in one spelling; what is none turns the family off."""
    if not text:
        return ""
    return str(ipaddress.ip_address(text)) if _version(text) == family else DISABLED


def _version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


def _shown(value: object) -> str:
    return "not set" if value in ("", False) else str(value)


def _finding(path: str, message: str) -> Finding:
    return Finding("DM027", Severity.WARNING, path, message)
