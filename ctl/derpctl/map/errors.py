"""What can be wrong with a DERP map.

MapError
├── BadMap          it is no DERP map, or not one that Go would read
├── NodesDisagree   two nodes say different things of their region
├── CannotCarry     the format has no place for something in the map
└── Collides        two maps have the same thing, and only one can count
"""

from dataclasses import dataclass


class MapError(Exception):
    """Something about a map that an operator must see."""


@dataclass(eq=False)
class BadMap(MapError):
    """It is no DERP map, or not one that Go would read."""

    path: str
    """Where: `Regions.900.Nodes[0].DERPPort`."""
    value: object
    """What is there."""
    reason: str
    """Why it will not do."""

    def __str__(self) -> str:
        return f"{self.path or 'map'} = {self.value!r:.80}: {self.reason}"


@dataclass(eq=False)
class NodesDisagree(MapError):
    """Two nodes say different things of their region."""

    field: str
    """What about the region: `code`."""
    said: tuple[tuple[str, object], ...]
    """Who said what."""

    def __str__(self) -> str:
        words = ", ".join(f"{name} says {value!r}" for name, value in self.said)
        return f"region.{self.field}: {words}"


@dataclass(eq=False)
class CannotCarry(MapError):
    """The format has no place for something in the map."""

    what: str
    """What would be lost: `HomeParams.RegionScore`."""
    form: str
    """The format that was asked for."""

    def __str__(self) -> str:
        return f"{self.what} cannot be said in {self.form}"


@dataclass(eq=False)
class Collides(MapError):
    """Two maps have the same thing, and only one can count."""

    kind: str
    """`region` or `node`."""
    name: object
    """Its number, or its name."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} is in both maps"
