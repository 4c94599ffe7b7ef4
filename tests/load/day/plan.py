"""What is to happen on a day, and when: drawn from a seed. Pure.

The plan is the same for a seed. Whom a step meets depends on who is there by then, so
each step brings a seed of its own to choose by.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar


class Life(StrEnum):
    """What clients do."""

    JOIN = "joins"
    LEAVE = "leaves"
    VANISH = "vanishes"
    """Its connection is reset, with no goodbye."""

    ROAM = "roams"
    """Closes its connection, and comes to another node."""

    FLEE = "flees"
    """Comes to another node, and leaves a connection that says nothing behind."""

    SEND = "sends"


class NodeFault(StrEnum):
    """What happens to a node; it is over once the node is as before."""

    KILL = "is killed"
    STAND_STILL = "stands still"
    WISH = "is to be drained"
    """As it is wished in the registry."""

    DRAIN = "is told to drain"
    """By its admin listener."""

    RESTART = "restarts"
    REMOVE = "is removed"


class EtcdFault(StrEnum):
    """What happens to etcd, or to the way there."""

    KILL = "is killed"
    STAND_STILL = "stands still"
    CUT = "loses its connections"
    STALL = "is behind a wire that holds everything back"
    REFUSE = "cannot be connected to"
    COMPACT = "forgets its past while nobody is connected"
    REVOKE = "has every lease revoked"
    DELETE_ONE = "has one record deleted"
    DELETE_ALL = "has every record deleted"


Kind = Life | NodeFault | EtcdFault

_Kind = TypeVar("_Kind", bound=Kind)


@dataclass(frozen=True)
class Size:
    """How long a day is, and how much happens."""

    seconds: float
    joins: int
    node_faults: int
    etcd_faults: int
    first: int = 40
    """Of those who join, how many do at once; so many stay until the evening."""

    moves_rate: float = 1.0
    """Clients that move, a second."""

    sends_rate: float = 20.0
    """Packets a second."""

    def scaled(self, seconds: float) -> "Size":
        """Give a day of another length, as full."""
        part = seconds / self.seconds
        counts = (self.joins, self.node_faults, self.etcd_faults)
        return Size(seconds, *(max(round(part * count), 1) for count in counts))


@dataclass(frozen=True, order=True)
class Step:
    """One thing that is to happen."""

    at: float
    """Seconds after the morning."""

    kind: Kind
    seed: int
    """To choose by."""

    @property
    def random(self) -> random.Random:
        """Draws what is open about the step."""
        return random.Random(self.seed)  # noqa: S311 - to be drawn again


def plan(seed: int, size: Size) -> list[Step]:
    """Draw a day, in the order of time."""
    source = random.Random(seed)  # noqa: S311 - to be drawn again
    left = max(size.joins - size.first, 0)
    moves, sends = size.moves_rate * size.seconds, size.sends_rate * size.seconds
    steps = [
        *(Step(0.0, Life.JOIN, source.getrandbits(32)) for _ in range(size.first)),
        *_spread(source, size.seconds, left, [Life.JOIN]),
        *_spread(source, size.seconds, left, [Life.LEAVE, Life.VANISH]),
        *_spread(source, size.seconds, round(moves), [Life.ROAM, Life.FLEE]),
        *_spread(source, size.seconds, round(sends), [Life.SEND]),
        *_spread(source, size.seconds, size.node_faults, list(NodeFault)),
        *_spread(source, size.seconds, size.etcd_faults, list(EtcdFault)),
    ]
    return sorted(steps, key=lambda step: step.at)


def _spread(
    source: random.Random, seconds: float, count: int, kinds: Sequence[_Kind]
) -> Iterator[Step]:
    """Deal a number of steps over the day, of each kind about as many."""
    deck: list[_Kind] = []
    for number in range(count):
        if not deck:
            deck = source.sample(kinds, len(kinds))
        at = (number + source.random()) / count * seconds
        yield Step(at, deck.pop(), source.getrandbits(32))
