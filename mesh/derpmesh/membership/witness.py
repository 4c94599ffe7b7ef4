"""Who of a region is alive, by two witnesses: its lease in etcd, and the link to it.

One of them alone proves no death, and none of them changes the map: it is shown to
operators, who take a node out if that is meant. Pure; the clock is given.
Source: peers-threats-faults.md 5, rule 7.
"""

from collections.abc import Callable, Collection


PATIENCE = 5.0
"""Seconds for which a node may be without a lease before it is told: it takes a new
one in that time, if it lives. Source: peers-threats-faults.md 4.5, F3."""


class Witnesses:
    """Knows since when members have been without a lease.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def look(self, members: Collection[str], live: Collection[str]) -> None:
        """Take note of who has a lease now. Call it often.

        Args:
            members: Names of the other members in force.
            live: Names of those whose lease lives.
        """
        now = self._clock()
        self._since = {
            name: self._since.get(name, now) for name in members if name not in live
        }

    def forget(self) -> None:
        """Know nothing: etcd is away, so that no lease can be seen."""
        self._since = {}

    def notes(self, linked: Collection[str]) -> list[str]:
        """Say who is in doubt, a line each.

        Args:
            linked: Names of those that a link of this node reaches.
        """
        now = self._clock()
        return [
            f"{name}: unverified: it has no lease in etcd, and its link is up"
            if name in linked
            else f"{name}: lost: it has no lease in etcd, and its link is down; it"
            f" stays in the map until: derpctl node remove {name}"
            for name, since in self._since.items()
            if now - since > PATIENCE
        ]
