"""A map as derpprobe reads it: plain JSON, in which what is no address is left out.

derpprobe takes any text for an address: it sends STUN to IPv4 `none`, and reports a
node whose IPv6 is `none` as down. Source: tailscale ``prober/derp.go``.
"""

import ipaddress
from dataclasses import replace

from derpctl.map.canonical import canonical_json
from derpctl.map.model import DerpMap, Node
from derpctl.map.policy import refuse_scores


def derpprobe(derp_map: DerpMap) -> str:
    """Write a map for `derpprobe -derp-map=file://…`.

    Raises:
        CannotCarry: The map has region scores, which derpprobe does not read.
    """
    refuse_scores(derp_map, "a map for derpprobe")
    regions = {
        number: replace(region, nodes=tuple(map(_probed, region.nodes)))
        for number, region in derp_map.regions.items()
    }
    return canonical_json(replace(derp_map, regions=regions))


def _probed(node: Node) -> Node:
    return replace(
        node,
        ipv4=_address(node.ipv4, ipaddress.IPv4Address),
        ipv6=_address(node.ipv6, ipaddress.IPv6Address),
    )


def _address(
    text: str, family: type[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> str:
    try:
        family(text)
    except ValueError:
        return ""
    return text
