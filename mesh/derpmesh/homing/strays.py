"""Clients of one node that would rather be on another one. Pure; the clock is given.

A client stays where it is until its connection ends, so after a failover it would stay
for days. Those that are moved and come back at once cannot reach their node: they are
left alone for a day, and when there are many of them nobody is moved there for a while.
Source: peers-threats-faults.md 2, idea 2.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from derpnode.wire.keys import NodeKey


IDLE = 30.0
"""Seconds without a packet after which a client is idle: such go first."""

LEFT_ALONE = 86_400.0
"""Seconds for which nobody is moved twice."""

RETURNED_SHARE = 0.2
"""Part of those moved that may come back; with more, the way there is broken."""

RETURNED_LEAST = 3
"""Clients that must have come back before that is judged."""

PAUSE = 3_600.0
"""Seconds for which nobody is moved to a node that is not reached."""

MOST_REMEMBERED = 100_000
"""Clients whose move is remembered; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A connection of a client whose map prefers another node."""

    connection: int
    key: NodeKey
    ideal: str
    """Name of that node."""
    packets: int
    """That went over the connection so far, either way."""


@dataclass(slots=True)
class _Stray:
    guest: Guest
    since: float
    """When its last packet was noticed."""


@dataclass(slots=True)
class _Tally:
    """Of those that were moved to one node."""

    moved: int = 0
    returned: int = 0
    paused_until: float = 0.0


class Strays:
    """Knows the strays of one node, and who was moved.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._strays: dict[int, _Stray] = {}
        self._moved: dict[NodeKey, tuple[str, float]] = {}
        self._tallies: dict[str, _Tally] = {}
        self.moved = 0
        """Clients that were moved since the start."""

    def look(self, guests: Iterable[Guest]) -> None:
        """Take note of all strays there are now. Call it every few seconds."""
        now = self._clock()
        found: dict[int, _Stray] = {}
        for guest in guests:
            known = self._strays.get(guest.connection)
            if known is None:
                self._came(guest, now)
            if known is None or known.guest.packets != guest.packets:
                found[guest.connection] = _Stray(guest, now)
            else:
                found[guest.connection] = known
        self._strays = found

    def counts(self) -> Mapping[str, int]:
        """Count the strays by the node that they would rather be on."""
        return Counter(stray.guest.ideal for stray in self._strays.values())

    def movable(self) -> Mapping[str, int]:
        """Count those that may be moved, likewise."""
        return Counter(stray.guest.ideal for stray in self._movable())

    def paused(self) -> list[str]:
        """Name the nodes to which nobody is moved: those who were came back."""
        now = self._clock()
        return sorted(n for n, one in self._tallies.items() if one.paused_until > now)

    def take(self, ideal: str, count: int) -> list[int]:
        """Choose connections to close, and remember whose they are.

        Those that are idle go first, then those that have been quiet for longest.

        Args:
            ideal: The node that they are to go to.
            count: How many, at most.
        """
        found = sorted(
            (one for one in self._movable() if one.guest.ideal == ideal),
            key=lambda one: one.since,
        )[:count]
        now = self._clock()
        tally = self._tallies.setdefault(ideal, _Tally())
        for stray in found:
            self._moved[stray.guest.key] = ideal, now
            self._strays.pop(stray.guest.connection, None)
        tally.moved += len(found)
        self.moved += len(found)
        while len(self._moved) > MOST_REMEMBERED:
            del self._moved[next(iter(self._moved))]
        return [stray.guest.connection for stray in found]

    def _movable(self) -> Iterable[_Stray]:
        now = self._clock()
        paused = set(self.paused())
        for stray in self._strays.values():
            _, moved_at = self._moved.get(stray.guest.key, ("", -LEFT_ALONE))
            was_moved = now - moved_at < LEFT_ALONE
            if not was_moved and stray.guest.ideal not in paused:
                yield stray

    def _came(self, guest: Guest, now: float) -> None:
        """Note a stray that is new: it may be one that was moved, and came back."""
        ideal, moved_at = self._moved.get(guest.key, ("", 0.0))
        if ideal != guest.ideal or now - moved_at >= LEFT_ALONE:
            return
        tally = self._tallies.setdefault(ideal, _Tally())
        tally.returned += 1
        if tally.returned >= RETURNED_LEAST and (
            tally.returned > RETURNED_SHARE * tally.moved
        ):
            self._tallies[ideal] = _Tally(paused_until=now + PAUSE)
