"""Does to a node what is wished for in the registry, each time that the wish changes.

Between two changes an operator may tell the node otherwise by its admin listener, as
when the registry is away: the next change counts again.
"""

import logging
from typing import Protocol

from derpmesh.membership.model import Drain
from derpnode.errors import LastServingNode
from derpnode.server.admincommands import GRACE


logger = logging.getLogger(__name__)

_STATES = ("draining", "drained")


class Drainable(Protocol):
    """The node, as far as it is steered."""

    @property
    def state(self) -> str:
        """One of `starting`, `serving`, `unready`, `draining`, `drained`."""

    def drain(self, *, grace: float, force: bool = False) -> None:
        """Send the clients to the other nodes.

        Raises:
            LastServingNode: There is none that takes clients.
        """

    def undrain(self) -> None:
        """Take clients again."""


class Wishes:
    """Follows the wish that one node drains.

    Args:
        node: The node.
        wish: What was wished last, and the node starts with.
    """

    def __init__(self, node: Drainable, wish: Drain | None) -> None:
        self._node = node
        self._wish = wish
        self._is_owed = False
        self._problem = ""

    @property
    def wish(self) -> Drain | None:
        """What was wished last."""
        return self._wish

    def changed(self, wish: Drain | None) -> None:
        """Take note of the wish as it is now, and follow it if it is another."""
        if wish != self._wish:
            self._wish, self._is_owed = wish, True
            self.follow()

    def follow(self) -> None:
        """Do what is still to be done: a node may have to wait for another one."""
        if not self._is_owed:
            return
        wish = self._wish
        if wish is None:
            self._node.undrain()
        else:
            grace = GRACE if wish.grace is None else wish.grace
            try:
                self._node.drain(grace=grace, force=wish.force)
            except LastServingNode as exc:
                if str(exc) != self._problem:
                    self._problem = str(exc)
                    logger.warning("region: a drain is wished for, but %s", exc)
                return
        self._is_owed, self._problem = False, ""

    def notes(self) -> list[str]:
        """Say where the node is not as it is wished."""
        if self._problem:
            return [f"region: a drain is wished for, but {self._problem}"]
        is_drained = self._node.state in _STATES
        if self._is_owed or is_drained == (self._wish is not None):
            return []
        if is_drained:
            return ["region: it is drained, and the registry does not wish for that"]
        return [
            "region: the registry wishes that it is drained, and it was told otherwise"
        ]
