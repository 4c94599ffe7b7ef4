"""Fills into a configuration what only the pod knows. No I/O."""

from collections.abc import Mapping

from derpmesh.address.place import Place, Pod
from derpnode.config import InvalidConfig
from derpnode.errors import ConfigError


Tree = dict[str, object]

PORTS = ("derp", "stun")
"""Names of the ports of a Service, and of the sections that publish them."""


def has_host(tree: Tree) -> bool:
    """Tell whether the operator said what clients dial.

    Raises:
        InvalidConfig: `node` is no section.
    """
    return "host" in _section(tree, "node")


def fill_place(tree: Tree, place: Place) -> None:
    """Say what clients dial.

    Raises:
        InvalidConfig: `node` is no section.
    """
    node = _section(tree, "node")
    node["host"] = place.host
    for family, address in (("ipv4", place.ipv4), ("ipv6", place.ipv6)):
        if address is not None:
            node.setdefault(family, address)


def fill_admin(tree: Tree, pattern: str, pod: Pod) -> None:
    """Say by which name others reach the admin listener, unless it is said.

    Raises:
        InvalidConfig: `admin` is no section.
    """
    name = pattern.replace("{pod}", pod.name).replace("{ip}", pod.label)
    _section(tree, "admin").setdefault("host", name)


def fill_ports(tree: Tree, ports: Mapping[str, int]) -> None:
    """Say which ports clients dial.

    Raises:
        InvalidConfig: One is no section.
    """
    for name in PORTS:
        if name in ports:
            _section(tree, name)["public_port"] = ports[name]


def _section(tree: Tree, name: str) -> Tree:
    below = tree.setdefault(name, {})
    if not isinstance(below, dict):
        reason, hint = "not a mapping of keys", "see docs/reference/configuration.md"
        raise InvalidConfig([ConfigError(name, below, reason, hint)])
    return below
