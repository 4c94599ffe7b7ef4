"""The port that every registry keeps: read all, then follow."""

from collections.abc import AsyncGenerator
from typing import Protocol

from derpmesh.membership.model import Change, Membership


class Registry(Protocol):
    """Where the members of a region are recorded."""

    async def read(self) -> Membership:
        """Return the membership as it is now.

        Raises:
            RegistryError: It cannot be had, or cannot be used. Try again later.
        """

    def changes(self, after: int) -> AsyncGenerator[Change, None]:
        """Yield every change since a revision, in order, and never end.

        Raises:
            RevisionCompacted: What came after that revision is forgotten; read anew.
            RegistryError: The registry is lost. Try again later.
        """
