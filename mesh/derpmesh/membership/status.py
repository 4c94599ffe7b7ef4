"""How a node fares, told through etcd every few seconds, under its lease.

It also shows that watches live: what every node writes, every watch must bring.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import EtcdError
from derpmesh.membership.keys import Keys
from derpmesh.membership.records import LiveStatus


logger = logging.getLogger(__name__)

INTERVAL = 13.0
"""Seconds between two reports: two that are missed show a dead watch within 30 s."""


class Reporter:
    """Writes the status of a node, for as long as it has a lease.

    Args:
        etcd: Where to.
        keys: Under which keys.
        lease: Gives the node's lease; 0: it has none now.
        about: Gives its status; the count is of reports so far.
        sleep: Waits so many seconds.
        clock: Gives seconds, monotonic.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        *,
        lease: Callable[[], int],
        about: Callable[[int], LiveStatus],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._lease = lease
        self._about = about
        self._sleep = sleep
        self._clock = clock
        self._awaited: dict[int, float] = {}  # reports on their way, and since when
        self._lag: float | None = None

    @property
    def lag(self) -> float | None:
        """Seconds that the watch takes to bring what is written; None: not known yet.

        While a report is on its way for longer than the last one, it is that long.
        """
        waiting = min(self._awaited.values(), default=None)
        if waiting is None:
            return self._lag
        return max(self._lag or 0.0, self._clock() - waiting)

    def heard(self, record: LiveStatus) -> None:
        """Note that the watch has brought a report of this node."""
        since = self._awaited.pop(record.count, None)
        if since is not None:
            self._lag = self._clock() - since
        for count in [c for c in self._awaited if c < record.count]:
            del self._awaited[count]

    async def run(self) -> None:
        """Report until cancelled. A report that fails is the next one's business."""
        count = 0
        while True:
            lease = self._lease()
            if lease:
                count += 1
                record = self._about(count)
                key = self._keys.of("status", record.name)
                self._awaited[count] = self._clock()
                try:
                    await self._etcd.put(key, record.write(), lease)
                except EtcdError as exc:
                    del self._awaited[count]
                    logger.debug("etcd: status not written: %s", exc)
            await self._sleep(INTERVAL if lease else 1.0)
