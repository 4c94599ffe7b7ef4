"""Who leads a region: one node at a time, for what must be done once and not by all.

The leader's record is put by whoever finds none, under the lease of its own member
record, and ends with it. A leader that was paused may not know that it is none any
more, so that every write of a leader is fenced: etcd compares the revision of the
record in the same transaction. Source: peers-threats-faults.md 5, rule 10.
"""

import logging
from collections.abc import Callable

from derpmesh.etcd.client import Etcd
from derpmesh.membership.keys import Keys
from derpmesh.membership.records import BadRecord, Leader, Stored


logger = logging.getLogger(__name__)


class Leadership:
    """One node's part in having a leader.

    Args:
        etcd: Where the record is.
        keys: Under which keys.
        name: Of the node.
        instance: Of the process: another one of the same node has another.
        lease: Gives the node's lease; 0: it has none now.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        name: str,
        instance: str,
        lease: Callable[[], int],
    ) -> None:
        self._etcd = etcd
        self._key = keys.leader
        self._me = Leader(name=name, instance=instance)
        self._lease = lease
        self._fence = 0
        self.leader = ""
        """Name of the leader, as far as this node knows."""

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._fence != 0

    async def look(self) -> bool:
        """See who leads, and do so if nobody does; say whether this node does.

        Raises:
            EtcdError: That cannot be known, so nobody may act on it.
        """
        was, self._fence = self._fence, 0
        lease = self._lease()
        item = await self._etcd.get(self._key)
        if item is None and lease:
            revision = await self._etcd.txn_put(self._key, self._me.write(), 0, lease)
            if revision is not None:
                logger.info("region: %s leads from now on", self._me.name)
                self._fence, self.leader = revision, self._me.name
                return True
            item = await self._etcd.get(self._key)
        found = self._read(item.value) if item is not None else None
        self.leader = found.name if found is not None else ""
        if item is not None and found == self._me and item.lease == lease != 0:
            self._fence = item.mod_revision
        if was and not self._fence:
            logger.info("region: %s leads no more", self._me.name)
        return self.is_leader

    async def put(self, key: bytes, record: Stored) -> bool:
        """Write a record as the leader; say whether this node still was that.

        Raises:
            EtcdError: It is not known whether it was written.
        """
        if not self._fence:
            return False
        item = await self._etcd.get(key)
        before = item.mod_revision if item is not None else 0
        fence = {self._key: self._fence}
        done = await self._etcd.txn_put(key, record.write(), before, given=fence)
        if done is None:
            self._fence = 0  # found out at the next look
        return done is not None

    def _read(self, value: bytes) -> Leader | None:
        try:
            return Leader.read(self._key, value)
        except BadRecord as exc:
            logger.warning("etcd: %s", exc)
            return None
