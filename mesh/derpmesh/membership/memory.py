"""A registry in memory, for tests and for regions of one process."""

import asyncio
from collections.abc import AsyncGenerator

from derpmesh.membership.errors import RegistryError, RevisionCompacted
from derpmesh.membership.model import Change, Membership, difference


class MemoryRegistry:
    """Holds the membership and its history."""

    def __init__(self, membership: Membership) -> None:
        self._now = membership
        self._history: list[Change] = []
        self._compacted = -1
        self._changed = asyncio.Condition()
        self.failure: RegistryError | None = None
        """Raised by every call while it is set."""

    async def put(self, membership: Membership) -> None:
        """Replace the membership; its revision must be higher."""
        async with self._changed:
            self._history.append(difference(self._now, membership))
            self._now = membership
            self._changed.notify_all()

    async def fail(self, failure: RegistryError | None) -> None:
        """Begin to fail, or stop; readers that wait notice at once."""
        async with self._changed:
            self.failure = failure
            self._changed.notify_all()

    async def compact(self) -> None:
        """Forget the history."""
        async with self._changed:
            self._history.clear()
            self._compacted = self._now.revision

    async def read(self) -> Membership:
        """See the port."""
        if self.failure is not None:
            raise self.failure
        return self._now

    async def changes(self, after: int) -> AsyncGenerator[Change, None]:
        """See the port."""
        while True:
            for change in await self._since(after):
                after = change.revision
                yield change

    async def _since(self, revision: int) -> list[Change]:
        """Wait for changes after a revision, and return them."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.failure is not None or self._now.revision > revision
            )
            if self.failure is not None:
                raise self.failure
            if revision < self._compacted:
                raise RevisionCompacted(revision)
            return [change for change in self._history if change.revision > revision]
