"""A node's own records in etcd: its intent, once; its member record, under a lease."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

from derpmesh.etcd.answers import Item
from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import EtcdError, LeaseLost
from derpmesh.membership.edits import node_edit, region_edit
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Member
from derpmesh.membership.records import (
    BadRecord,
    LiveMember,
    NodeIntent,
    RegionIntent,
    Stored,
)
from derpmesh.membership.store import stored
from derpnode.kinds import Kind
from derpnode.server.journal import Journal


logger = logging.getLogger(__name__)

BEATS = 3
"""Times that a lease is kept alive while it lasts once."""

EARLY = (0.8, 0.95)
"""Part of a beat after which it is due: nodes do not march in step; none is late."""

LOOK = 0.5
"""Seconds between two looks at whether the node has something new to say."""

GOODBYE = 2.0
"""Seconds that taking the record back may cost at the end."""

Sleep = Callable[[float], Awaitable[None]]
About = Callable[[int], LiveMember]
"""What the node says of itself, at an epoch."""


class NotListed(Exception):
    """The region takes only nodes that an operator has listed, or took this one out."""


class Enrolment:
    """Keeps a node recorded, for as long as it runs.

    Args:
        etcd: Where the records are.
        keys: Under which keys.
        region: What the region is to be, should nobody have said so.
        entry: Gives the node as others must know it.
        about: Gives what it says of itself.
        ttl: Seconds that its lease lasts.
        backoff: Starts a fresh run of retry delays, in seconds.
        journal: Told when the node is recorded, and when not.
        lost: Gives an intent that the registry as a whole forgot; None: it did not.
        sleep: Waits that long.
        uniform: Draws a number between two.
    """

    def __init__(  # noqa: PLR0913 - what it needs, one by one
        self,
        etcd: Etcd,
        keys: Keys,
        region: RegionIntent,
        *,
        entry: Callable[[], Member],
        about: About,
        ttl: int,
        backoff: Callable[[], Iterator[float]],
        journal: Journal,
        lost: Callable[[bytes], Stored | None] = lambda _: None,
        sleep: Sleep = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._region = region
        self._entry = entry
        self._about = about
        self._ttl = ttl
        self._backoff = backoff
        self._journal = journal
        self._lost = lost
        self._told = False  # that the node is recorded
        self._sleep = sleep
        self._uniform = uniform
        self._epoch = 0
        self.lease = 0
        """The lease of the record; 0: it is not recorded."""

        self.problem = ""
        """Why it is not recorded."""

    async def run(self) -> None:
        """Be recorded, again and again, until cancelled; then take the record back."""
        delays = self._backoff()
        while True:
            try:
                await self._list_itself()
                async with self._recorded() as (lease, said):
                    delays = self._backoff()
                    self._note("")
                    await self._stay(lease, said)
            except LeaseLost:
                logger.warning("etcd: the lease of this node is lost; taking a new one")
                self._journal.add(Kind.LEASE_LOST, text="taking a new one")
                self._told = False
            except (EtcdError, NotListed, BadRecord) as exc:
                self._note(str(exc))
                await self._sleep(next(delays))

    def _note(self, problem: str) -> None:
        """Say what is wrong, once."""
        if problem and problem != self.problem:
            logger.warning("etcd: this node is not recorded: %s", problem)
            self._journal.add(Kind.NOT_RECORDED, text=problem)
        elif not problem and not self._told:
            text = "the registry has the record of this node"
            self._journal.add(Kind.RECORDED, text=text)
        self._told = not problem
        self.problem = problem

    async def _list_itself(self) -> None:
        """See that there is an intent for the node; write it if it may.

        What a registry forgot as a whole is written again as it was: whether the node
        is to be drained, or was taken out.

        Raises:
            NotListed: It may not.
        """
        name = self._entry().name
        key = self._keys.of("intent", name)
        item = await self._etcd.get(key)
        if item is not None:
            if _is_struck(item):
                message = f"{name} was taken out of the region; an operator may add it"
                raise NotListed(message)
            with suppress(BadRecord):  # who is listed may be in it all the same
                await self._join_region()  # somebody must say what the region is
            return
        region = await self._join_region()
        intent = self._lost(key)
        if intent is None:
            if region.join != "open":
                message = (
                    f"the region takes listed nodes only; an operator may add {name}"
                )
                raise NotListed(message)
            server_key = self._about(0).server_key
            intent = NodeIntent(node=self._entry(), author=name, server_key=server_key)
        edit = node_edit(None, intent, name) if isinstance(intent, NodeIntent) else None
        also = stored(self._keys, edit)
        if await self._etcd.txn_put(key, intent.write(), 0, also=also) is not None:
            logger.info("etcd: %s has recorded itself in the region", name)

    async def _join_region(self) -> RegionIntent:
        """Give what is wanted of the region; the first node says so itself."""
        key = self._keys.region
        item = await self._etcd.get(key)
        if item is None:
            last = self._lost(key)
            region = last if isinstance(last, RegionIntent) else self._region
            also = stored(self._keys, region_edit(None, region, self._entry().name))
            if await self._etcd.txn_put(key, region.write(), 0, also=also) is not None:
                return region
            item = await self._etcd.get(key)
        return RegionIntent.read(key, item.value) if item is not None else self._region

    @asynccontextmanager
    async def _recorded(self) -> AsyncGenerator[tuple[int, LiveMember]]:
        """Put the member record under a lease of its own; end that at last."""
        lease = (await self._etcd.lease_grant(self._ttl)).id
        self._epoch += 1
        try:
            record = self._about(self._epoch)
            await self._claim(record, lease)
            self.lease = lease
            yield lease, record
        finally:
            self.lease = 0
            with suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await self._etcd.lease_revoke(lease)

    async def _claim(self, record: LiveMember, lease: int) -> None:
        """Put the record, unless another node has the name and lives.

        A process that starts takes over the record of the one before it, which may
        have been killed. One that loses its record to another process of the same
        node leaves it that: the two would take it from each other for ever.

        Raises:
            NotListed: It does.
        """
        key = self._keys.of("members", record.name)
        item = await self._etcd.get(key)
        expected = 0
        if item is not None:
            expected = item.mod_revision
            with suppress(BadRecord):
                other = LiveMember.read(key, item.value)
                if other.server_key != record.server_key:
                    message = (
                        f"another node is called {record.name}: {other.server_key};"
                        " give this one another name"
                    )
                    raise NotListed(message)
                if other.instance != record.instance and record.epoch > 1:
                    message = (
                        f"another process runs as {record.name}, with this node's key;"
                        " stop one, or give it a name and a state_dir of its own"
                    )
                    raise NotListed(message)
        if await self._etcd.txn_put(key, record.write(), expected, lease) is None:
            message = (
                f"somebody else wrote the record of {record.name} at the same time"
            )
            raise NotListed(message)

    async def _stay(self, lease: int, said: LiveMember) -> None:
        """Keep the lease alive, and the record true.

        Raises:
            LeaseLost: It ended all the same.
        """
        clock = asyncio.get_running_loop().time
        beat = self._ttl / BEATS
        due = clock() + beat * self._uniform(*EARLY)
        deadline = clock() + self._ttl
        while True:
            await self._sleep(max(min(LOOK, due - clock()), 0.0))
            try:
                if clock() >= due:
                    await self._etcd.lease_keepalive(lease)
                    now = clock()
                    due = now + beat * self._uniform(*EARLY)
                    deadline = now + self._ttl
                    await self._confirm(said, lease)
                    self._note("")  # not before etcd has answered: once an outage
                said = await self._repeat(said, lease)
            except LeaseLost:
                raise
            except EtcdError as exc:
                self._note(str(exc))
                if clock() >= deadline:
                    raise LeaseLost(lease) from exc
                due = clock() + LOOK

    async def _confirm(self, said: LiveMember, lease: int) -> None:
        """See that the record is there, under this lease, and the intent as well.

        An intent that is not there was deleted by mistake, and is written again: one
        that an operator takes out stays, and says so.

        Raises:
            LeaseLost: Somebody deleted the record, or put another one there.
            NotListed: The intent is gone, and only an operator may write it; or it
                says that the node was taken out.
        """
        item = await self._etcd.get(self._keys.of("members", said.name))
        if item is None or item.lease != lease:
            raise LeaseLost(lease)
        intent = await self._etcd.get(self._keys.of("intent", said.name))
        with suppress(BadRecord):  # the last good one says otherwise
            is_there = intent is not None and not _is_struck(intent)
            if not is_there or self._lost(self._keys.region) is not None:
                await self._list_itself()

    async def _repeat(self, said: LiveMember, lease: int) -> LiveMember:
        """Put the record again if the node has become otherwise."""
        now = self._about(self._epoch)
        if now != said:
            key = self._keys.of("members", now.name)
            await self._etcd.put(key, now.write(), lease)
        return now


def _is_struck(intent: Item) -> bool:
    """Whether an operator took the node out.

    Raises:
        BadRecord: What is stored is no intent.
    """
    return NodeIntent.read(intent.key, intent.value).removed
