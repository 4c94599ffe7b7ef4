"""What a node asks of its region. A node alone has nobody to ask."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Protocol

from derpnode.document import Document
from derpnode.wire.keys import NodeKey


class RegionPort(Protocol):
    """The other nodes, as far as this one must know of them."""

    @property
    def siblings_serving(self) -> int:
        """How many other nodes take clients now."""

    def jobs(self) -> Sequence[Coroutine[None, None, None]]:
        """What runs beside the node until it ends."""

    def links(self) -> list[dict[str, object]]:
        """Describe every link to another node, for JSON."""

    def announced(self) -> dict[str, frozenset[NodeKey]]:
        """Give the keys that the peer of each link has announced; of those up."""

    def membership(self) -> dict[str, object]:
        """Describe the membership in force and where it is from, for JSON."""

    def derp_map(self) -> Document | None:
        """Give the map of the membership in force, or of the last whole one."""

    def strays(self) -> Mapping[str, int]:
        """Count clients that may be moved to the node they prefer, by its name."""

    def notes(self) -> list[str]:
        """Say what an operator should look at, a line each."""

    def confirm(self) -> list[str]:
        """Let go the members that the registry has lost; say who they were."""

    def changed(self) -> None:
        """Tell the others at once that this node's state is another."""

    def close(self) -> None:
        """End every link."""


class Alone:
    """The region of a node that knows no other."""

    siblings_serving = 0

    def jobs(self) -> Sequence[Coroutine[None, None, None]]:
        """See the port."""
        return ()

    def links(self) -> list[dict[str, object]]:
        """See the port."""
        return []

    def announced(self) -> dict[str, frozenset[NodeKey]]:
        """See the port."""
        return {}

    def membership(self) -> dict[str, object]:
        """See the port."""
        return {"source": "none", "members": []}

    def derp_map(self) -> Document | None:
        """See the port."""
        return None

    def strays(self) -> Mapping[str, int]:
        """See the port."""
        return {}

    def notes(self) -> list[str]:
        """See the port."""
        return []

    def confirm(self) -> list[str]:
        """See the port."""
        return []

    def changed(self) -> None:
        """See the port."""

    def close(self) -> None:
        """See the port."""
