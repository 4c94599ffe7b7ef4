"""How a node fares, told through etcd every few seconds, under its lease.

It also shows that watches live: what every node writes, every watch must bring.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import EtcdError
from derpmesh.membership.keys import Keys
from derpmesh.membership.records import LiveStatus


logger = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between two reports. Source: peers-threats-faults.md 5, rule 3."""


class Reporter:
    """Writes the status of a node, for as long as it has a lease.

    Args:
        etcd: Where to.
        keys: Under which keys.
        lease: Gives the node's lease; 0: it has none now.
        about: Gives its status; the count is of reports so far.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        *,
        lease: Callable[[], int],
        about: Callable[[int], LiveStatus],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._lease = lease
        self._about = about
        self._sleep = sleep

    async def run(self) -> None:
        """Report until cancelled. A report that fails is the next one's business."""
        count = 0
        while True:
            lease = self._lease()
            if lease:
                count += 1
                record = self._about(count)
                key = self._keys.of("status", record.name)
                try:
                    await self._etcd.put(key, record.write(), lease)
                except EtcdError as exc:
                    logger.debug("etcd: status not written: %s", exc)
            await self._sleep(INTERVAL if lease else 1.0)
