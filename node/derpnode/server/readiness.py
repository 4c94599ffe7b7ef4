"""Can this node relay? It asks itself, through its own TLS and front.

Clients move to the next node only when TCP is refused, so a node that fails closes
its public listeners, and opens them again when it has been well for a while.
"""

import logging
from collections.abc import Awaitable, Callable


logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two rounds."""

GOOD_ROUNDS = 3
"""Rounds in a row that open a node again after it failed."""

BAD_ROUNDS = 2
"""Rounds in a row that close it; one alone may be a busy moment."""


class Readiness:
    """Follows the rounds and says when to close and open.

    Args:
        check: One round; returns None, or what is wrong.
        changed: Told when the node stops or starts being ready.
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[str | None]],
        changed: Callable[[bool], None],
    ) -> None:
        self._check = check
        self._changed = changed
        self._good = 0
        self._bad = 0
        self.ready = False
        self.failure: str | None = "starting"
        """Why it is not ready; None while it is."""

        self.well = False
        """Whether the last round was good; false sooner than `ready`."""

    async def round(self) -> None:
        """Make one round, and act on what it shows."""
        failure = await self._check()
        first = self.failure == "starting"
        self.well = failure is None
        self._good = self._good + 1 if failure is None else 0
        self._bad = self._bad + 1 if failure is not None else 0
        if failure is not None and not self.ready:
            self.failure = failure
        if self.ready and self._bad >= BAD_ROUNDS:
            logger.warning("readiness: %s; closing the public listeners", failure)
            self.failure = failure
            self.ready = False
            self._changed(False)
        elif not self.ready and (self._good >= GOOD_ROUNDS or (first and self._good)):
            self.failure = None
            self.ready = True
            self._changed(True)

    def failed(self, reason: str) -> None:
        """Take back that the node is ready; the next good round says so again."""
        self.ready = False
        self.failure = reason

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Make rounds until cancelled."""
        while True:
            await self.round()
            await sleep(INTERVAL)
