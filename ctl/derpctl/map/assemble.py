"""Puts a map together from what the nodes of a region say of themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

from derpctl.map.errors import BadMap, NodesDisagree
from derpctl.map.model import DerpMap, Node, Region


@dataclass(frozen=True, slots=True)
class Entry:
    """What one node says: its place in the map, and its region."""

    node: Node
    region_id: int
    region_code: str
    region_name: str


def assemble(entries: Sequence[Entry]) -> DerpMap:
    """Make the map of one region; the order of nodes is that of the entries.

    Raises:
        NodesDisagree: They are not of one region, or name it differently.
        BadMap: Two nodes have one name.
    """
    if not entries:
        return DerpMap()
    for field in ("region_id", "region_code", "region_name"):
        said = tuple((entry.node.name, getattr(entry, field)) for entry in entries)
        if len({value for _, value in said}) > 1:
            raise NodesDisagree(field.removeprefix("region_"), said)
    first, names = entries[0], [entry.node.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise BadMap(
                f"Regions.{first.region_id}.Nodes", name, "two nodes, one name"
            )
    region = Region(
        region_id=first.region_id,
        region_code=first.region_code,
        region_name=first.region_name,
        nodes=tuple(entry.node for entry in entries),
    )
    return DerpMap(regions={first.region_id: region})
