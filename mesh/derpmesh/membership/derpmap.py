"""The DERP map that a region's records make: what nodes serve, and derpctl renders.

A function of what operators want alone: how a node fares is not in it. No I/O.
Source: tailscale ``tailcfg/derpmap.go``: names, order, and what zero leaves out.
"""

from collections.abc import Iterable

from derpmesh.membership.model import Member, Region


def map_tree(region: Region, members: Iterable[Member]) -> dict[str, object]:
    """Give the map of one region, as JSON has it; members are in its order."""
    return {"Regions": {str(region.id): region_tree(region, members)}}


def region_tree(region: Region, members: Iterable[Member]) -> dict[str, object]:
    """Describe a region as a `DERPRegion`."""
    fields: dict[str, object] = {
        "Latitude": _as_go(region.latitude),
        "Longitude": _as_go(region.longitude),
        "NoMeasureNoHome": not region.measure,
    }
    return {
        "RegionID": region.id,
        "RegionCode": region.code,
        "RegionName": region.name,
        **{name: value for name, value in fields.items() if value},
        "Nodes": [member.map_entry(region.id) for member in members],
    }


def _as_go(number: float) -> float:
    """Give a number as Go writes it: whole ones without a point."""
    return int(number) if number.is_integer() else number
