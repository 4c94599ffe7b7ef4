"""A map as rows, for eyes and for programs that want rows."""

from derpctl.map.lint.finding import printable
from derpctl.map.model import (
    DEFAULT_DERP_PORT,
    DEFAULT_STUN_PORT,
    DerpMap,
    Node,
    Region,
)


_FLAGS = {
    "stun_only": "stun-only",
    "can_port80": "port80",
    "insecure_for_tests": "insecure",
}

_PIN_SHOWN = len("sha256-raw:") + 12

COLUMNS = (
    "REGION",
    "NODE",
    "ORDER>",
    "HOST",
    "IPV4",
    "IPV6",
    "DERP>",
    "STUN>",
    "CERTIFICATE",
    "FLAGS",
)


def items(derp_map: DerpMap) -> list[dict[str, object]]:
    """Give a row for each node, in the order of the map."""
    return [
        {
            "region": number,
            "code": region.region_code,
            "node": node.name,
            "order": order,
            "host": node.host_name,
            "ipv4": node.ipv4 or None,
            "ipv6": node.ipv6 or None,
            "derp_port": None
            if node.stun_only
            else node.derp_port or DEFAULT_DERP_PORT,
            "stun_port": _stun_port(node),
            "certificate": node.cert_name or node.host_name,
            "flags": _flags(derp_map, number, region, node),
        }
        for number, region in sorted(derp_map.regions.items())
        for order, node in enumerate(region.nodes, 1)
    ]


def rows(derp_map: DerpMap) -> list[list[str]]:
    """Give the cells of each row; a pin is cut short."""
    return [[printable(_cell(name, row)) for name in _NAMES] for row in items(derp_map)]


_NAMES = (
    "region",
    "node",
    "order",
    "host",
    "ipv4",
    "ipv6",
    "derp_port",
    "stun_port",
    "certificate",
    "flags",
)


def _cell(name: str, row: dict[str, object]) -> str:
    value = row[name]
    match name:
        case "region":
            return f"{value} {row['code']}".rstrip()
        case "certificate":
            text = str(value)
            pinned = text.startswith("sha256-raw:")
            return f"{text[:_PIN_SHOWN]}…" if pinned else text
        case "flags":
            return ", ".join(map(str, value)) if isinstance(value, list) else "-"
        case _:
            return "-" if value is None else str(value)


def _stun_port(node: Node) -> int | None:
    return node.stun_port or DEFAULT_STUN_PORT if node.stun_port >= 0 else None


def _flags(derp_map: DerpMap, number: int, region: Region, node: Node) -> list[str]:
    found = [word for name, word in _FLAGS.items() if getattr(node, name)]
    if region.no_measure_no_home:
        found.append("no-home")
    if region.avoid:
        found.append("avoid")
    scores = derp_map.home_params.region_score if derp_map.home_params else {}
    if number in scores:
        found.append(f"score {scores[number]:g}")
    return found
