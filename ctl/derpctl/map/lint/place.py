"""What a rule is given: a region or the whole map, and what must be known around it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from derpctl.map.lint.address import Service, services
from derpctl.map.lint.finding import Finding
from derpctl.map.model import DerpMap, Node, Region


class Target(StrEnum):
    """Who hands the map to clients."""

    TAILSCALE = "tailscale"
    HEADSCALE = "headscale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an operator says of the map that is judged."""

    allow_system_ids: bool = False
    """Do not mind regions outside 900 to 999."""
    allow_insecure: bool = False
    """What only tests may do is a warning."""
    target: Target | None = None
    """None goes by the form of the file: YAML is headscale's."""


@dataclass(frozen=True, slots=True)
class World:
    """The whole map, and what is looked up in it more than once."""

    derp_map: DerpMap
    terms: Terms
    names: Counter[str] = field(default_factory=Counter)
    """How often each node name is there."""
    codes: Counter[str] = field(default_factory=Counter)
    """How often each region code is there."""
    firsts: Mapping[Service, str] = field(default_factory=dict)
    """Where each address, and each port of it, is first: the path of the node."""

    @property
    def is_for_headscale(self) -> bool:
        """Whether headscale hands the map on."""
        return self.terms.target is Target.HEADSCALE

    def places(self) -> Iterator["Place"]:
        """Yield each region, by number."""
        for key, region in sorted(self.derp_map.regions.items()):
            path = f"Regions.{key}"
            nodes = [
                (f"{path}.Nodes[{number}]", node)
                for number, node in enumerate(region.nodes)
            ]
            yield Place(self, key, region, path, nodes)


@dataclass(frozen=True, slots=True)
class Place:
    """A region, and the map around it."""

    world: World
    key: int
    """What the region is filed under."""
    region: Region
    path: str
    """`Regions.900`."""
    _nodes: Sequence[tuple[str, Node]]

    def nodes(self) -> Sequence[tuple[str, Node]]:
        """Give each node with its path."""
        return self._nodes


RegionRule = Callable[[Place], Iterator[Finding]]
MapRule = Callable[[World], Iterator[Finding]]


def look_around(derp_map: DerpMap, terms: Terms) -> World:
    """Go through a map once, so that no rule has to."""
    regions = derp_map.regions.values()
    firsts: dict[Service, str] = {}
    for place in World(derp_map, terms).places():
        for path, node in place.nodes():
            for service in services(node):
                firsts.setdefault(service, path)
    return World(
        derp_map,
        terms,
        names=Counter(node.name for region in regions for node in region.nodes),
        codes=Counter(region.region_code for region in regions),
        firsts=firsts,
    )
