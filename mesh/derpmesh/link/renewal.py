"""Which link is dialled again when the mesh key is replaced: one at a time. Pure."""

from collections.abc import Iterable, Mapping

from derpmesh.link.link import Link, LinkState
from derpnode.wire.meshring import MeshRing


PATIENCE = 10.0
"""Seconds that a link may take to be up again; then the next one is dialled."""


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

        A link that is up needs no new one while its key is taken. One to a peer that
        is not ours, with a key that is dropped, is left as it is: it has none better.
        """
        is_other = ring.current != self._ring.current
        self._ring = ring
        self._under_way = None
        for link in links:
            is_lost = link.target.is_member and link.mesh_key not in ring.keys
            is_stale = link.mesh_key is not None and link.mesh_key != ring.current
            link.renewing = is_stale and (is_other or is_lost)

    def due(self, links: Mapping[str, Link], now: float) -> str | None:
        """Name the link that is to be dialled again now, if any."""
        if not self._is_settled(links, now):
            return None
        for name, link in links.items():
            if not link.renewing or link.state is LinkState.CONNECTING:
                continue
            if link.state is LinkState.UP and link.mesh_key != self._ring.current:
                self._under_way, self._since = link, now
                return name
            link.renewing = False  # whatever is dialled anew begins with the right key
        return None

    def _is_settled(self, links: Mapping[str, Link], now: float) -> bool:
        """Tell whether the link that was dialled last is up, or will not be."""
        link = self._under_way
        if link is None:
            return True
        is_there = links.get(link.target.name) is link
        is_up = link.state is LinkState.UP
        if is_there and not is_up and now - self._since < PATIENCE:
            return False
        link.renewing = False
        self._under_way = None
        return True
