"""The mesh keys that a node goes by: the one that it sends, and those it also takes.

A key is replaced in three steps, so that no two nodes ever disagree: the next one is
staged, and taken everywhere; then it is sent; then the one before is taken no more.
"""

import enum
from dataclasses import dataclass
from typing import Self

from derpnode.wire.keys import MeshKey


class Phase(enum.Enum):
    """How far the replacement of the key has come."""

    STEADY = "steady"
    """There is one key."""

    STAGED = "staged"
    """The next one is taken, too; not yet sent."""

    SWITCHED = "switched"
    """The next one has become the one that is sent; the one before is still taken."""


@dataclass(frozen=True)
class MeshRing:
    """The keys of a node. Two rings are equal if their keys are."""

    current: MeshKey
    """What links prove."""

    next: MeshKey | None = None
    """What they will prove; peers may already."""

    previous: MeshKey | None = None
    """What they proved before; peers may still."""

    @classmethod
    def of(
        cls, current: MeshKey, following: MeshKey | None, previous: MeshKey | None
    ) -> Self:
        """Make a ring of keys that may be the same: each is in it once."""
        if following == current:
            following = None
        if previous in (current, following):
            previous = None
        return cls(current, following, previous)

    @property
    def keys(self) -> tuple[MeshKey, ...]:
        """All of them, in the order to try them with a peer that may have any."""
        found = (self.current, self.next, self.previous)
        return tuple(key for key in found if key is not None)

    @property
    def phase(self) -> Phase:
        """How far the replacement of the key has come."""
        if self.next is not None:
            return Phase.STAGED
        return Phase.SWITCHED if self.previous is not None else Phase.STEADY

    def accepts(self, candidate: bytes | None) -> bool:
        """Tell whether a peer proved one of the keys.

        All are compared, whichever it is, and each in constant time. None, a peer
        that sent no key, never matches.
        """
        matches = [key.matches(candidate) for key in self.keys]
        return any(matches)

    def fingerprints(self) -> dict[str, str | None]:
        """Name the keys, for JSON; None where there is none."""
        found = {
            "current": self.current,
            "next": self.next,
            "previous": self.previous,
        }
        return {
            name: key.fingerprint() if key is not None else None
            for name, key in found.items()
        }

    def __str__(self) -> str:
        named = self.fingerprints().items()
        return ", ".join(f"{name} {value}" for name, value in named if value)
