"""Which link is dialled again when the mesh key is replaced: one at a time. Pure."""

from collections.abc import Iterable, Mapping

from derpmesh.link.link import Link, LinkState
from derpnode.wire.meshring import MeshRing


PATIENCE = 10.0
"""Seconds that a link may take to be up again; then the next one is dialled."""

SECOND_TRY = 1.0
"""Seconds after which a node of ours that came up with another key is dialled again:
why it hung up on the current one may have passed."""


class Renewal:
    """Goes from link to link, so that a node never loses more than one at a time.

    Args:
        ring: The keys as they are.
    """

    def __init__(self, ring: MeshRing) -> None:
        self._ring = ring
        self._under_way: Link | None = None
        self._since = 0.0

    def begin(self, links: Iterable[Link], ring: MeshRing) -> None:
        """Mark the links that are to be dialled again, as the keys are others now.

        Whenever they are others, a node of ours takes the current one. A relay that is
        not ours may take another only: it is asked once, when the current one changes.
        """
        is_other = ring.current != self._ring.current
        self._ring = ring
        self._under_way = None
        for link in links:
            is_stale = link.mesh_key is not None and link.mesh_key != ring.current
            link.renewing = is_stale and (is_other or link.target.is_member)

    def due(self, links: Mapping[str, Link], now: float) -> str | None:
        """Name the link that is to be dialled again now, if any."""
        again = self._under_way
        if again is not None and not self._is_settled(again, links, now):
            is_up = again.state is LinkState.UP and now - again.changed >= SECOND_TRY
            return again.target.name if is_up else None
        self._under_way = None
        for name, link in links.items():
            if not link.renewing or link.state is LinkState.CONNECTING:
                continue
            if link.state is LinkState.UP and link.mesh_key != self._ring.current:
                self._under_way, self._since = link, now
                return name
            link.renewing = False  # whatever is dialled anew begins with the right key
        return None

    def _is_settled(self, link: Link, links: Mapping[str, Link], now: float) -> bool:
        """Tell whether the link that was dialled last is up, or will not be."""
        is_right = link.mesh_key == self._ring.current or not link.target.is_member
        is_done = link.state is LinkState.UP and is_right
        is_there = links.get(link.target.name) is link
        if is_there and not is_done and now - self._since < PATIENCE:
            return False
        link.renewing = False
        return True
