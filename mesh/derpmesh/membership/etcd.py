"""The registry in etcd: read everything once, then follow it.

Membership is made of what operators want alone; what live nodes say of themselves is
kept beside it. So a lease that ends, or all of them, changes no link.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

from derpmesh.etcd.answers import Delete, Put
from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import Compacted, EtcdError, StaleAnswer
from derpmesh.membership.errors import RegistryUnavailable, RevisionCompacted
from derpmesh.membership.keys import Keys, Kind
from derpmesh.membership.model import Change, Membership, Region, Rule, difference
from derpmesh.membership.records import (
    HOMING,
    BadRecord,
    ClientIntent,
    HomingOrder,
    LiveMember,
    LiveStatus,
    NodeIntent,
    RegionIntent,
    Stored,
)
from derpmesh.membership.status import INTERVAL
from derpnode.wire.keys import NodeKey


logger = logging.getLogger(__name__)

_Record = TypeVar("_Record", bound=Stored)

RELIST = (60.0, 90.0)
"""Seconds between two readings of everything, though the watch told of no change."""

SILENCE = 2 * INTERVAL + 2.0
"""Seconds without a change after which a watch is dead, where somebody reports.

Where nobody is known to, all is read anew: a watch that was never alive has not even
brought what this node says of itself.
"""

RELISTS = ("start", "lost", "routine", "silent", "compacted", "stale")
"""Why everything is read: nothing was known, etcd was away, it was time, the watch was
silent, what came meanwhile is forgotten, or the answer was from the past."""

STALE_ANSWERS = 2
"""Answers from the past, or another cluster, after which that is what etcd is now."""

_TEMPORARY = "it is older than what was known"


class _Silent(Exception):
    """A watch brings nothing, where there must be something."""


class EtcdRegistry:
    """Reads the records of one region, and follows them.

    Args:
        etcd: Where they are.
        keys: Under which keys.
        region: What the region is called while nobody has said so.
        uniform: Draws a number between two.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        region: Region,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._uniform = uniform
        self._default = RegionIntent(id=region.id, code=region.code, name=region.name)
        self._values: dict[bytes, bytes] = {}
        self._good: dict[bytes, tuple[bytes, Stored]] = {}  # could be read, the last
        self._bad: dict[bytes, bytes] = {}
        self._live: Mapping[str, LiveMember] = {}
        self._intents: dict[bytes, Stored] = {}  # as each was last, never forgotten
        self._lost: set[bytes] = set()
        self._rules: dict[NodeKey, Rule] = {}  # replaced, never changed
        self._generation = 0
        self._stale = 0
        self.has_read = False
        """Whether it was ever read."""

        self.relists: Counter[str] = Counter()
        """Readings of everything, by what made them necessary: see `RELISTS`."""

        self.heard: Callable[[LiveStatus], None] = lambda _: None
        """Told of each status that the watch brings."""

        self._why = "start"  # the next reading is necessary

    @property
    def live(self) -> Mapping[str, LiveMember]:
        """What the nodes whose lease lives say of themselves."""
        return self._live

    @property
    def statuses(self) -> Mapping[str, LiveStatus]:
        """How those nodes fare, as far as they have said."""
        return self._records("status", LiveStatus)

    @property
    def order(self) -> HomingOrder | None:
        """What the leader ordered last."""
        return self._records("orders", HomingOrder).get(HOMING)

    @property
    def brings_home(self) -> bool:
        """Whether operators want clients moved to the node that they prefer."""
        region = self._record(RegionIntent, self._keys.region) or self._default
        return region.bring_home

    @property
    def bad(self) -> list[str]:
        """Keys whose record cannot be read."""
        return sorted(key.decode("utf-8", "replace") for key in self._bad)

    def lost(self, key: bytes) -> Stored | None:
        """Give an intent as it was last, if the registry as a whole forgot it.

        None if it is there, or vanished while what is said of the region stayed: then
        somebody may have meant it.
        """
        return self._intents[key] if key in self._lost else None

    async def read(self) -> Membership:
        """See the port."""
        try:
            listing = await self._etcd.range_prefix(self._keys.root)
        except StaleAnswer as exc:
            self._stale += 1
            self._why = "stale"
            if self._stale < STALE_ANSWERS:
                self._etcd.rotate("its answer is from the past")
                raise RegistryUnavailable("etcd", f"{exc}; {_TEMPORARY}") from exc
            logger.warning("etcd: %s; taken as it is from now on", exc)
            self._stale = 0
            self._generation += 1
            self._lost |= self._intents.keys()  # those that are there are told next
            self._etcd.forget()
            return await self.read()
        except EtcdError as exc:
            raise RegistryUnavailable("etcd", str(exc)) from exc
        self._stale = 0
        self.has_read = True
        self.relists[self._why] += 1
        self._why = "lost"
        self._values, self._rules = {}, {}
        self._take({item.key: item.value for item in listing.items})
        return self._membership(listing.revision)

    async def changes(self, after: int) -> AsyncGenerator[Change, None]:
        """See the port."""
        before = self._membership(after)
        async with aclosing(self._states(before)) as states:
            async for now in states:
                if now.generation != before.generation:
                    raise RevisionCompacted(before.revision)
                change = difference(before, now)
                before = now
                if change != Change(now.revision):
                    yield change

    async def _states(self, since: Membership) -> AsyncGenerator[Membership, None]:
        """Yield the membership after everything that etcd tells."""
        now = since
        while True:
            silent = False
            try:
                async with aclosing(self._watched(now.revision)) as states:
                    async for now in states:
                        yield now
            except _Silent:
                silent = True
                self._why = "silent"
                logger.warning("etcd: the watch is silent; trying another")
                self._etcd.rotate("its watch is silent")
            except Compacted as exc:
                self._why = "compacted"
                raise RevisionCompacted(now.revision) from exc
            except EtcdError as exc:
                raise RegistryUnavailable("etcd", str(exc)) from exc
            else:
                self._why = "routine"
            last, now = now, await self.read()
            if difference(last, now) != Change(now.revision) and not silent:
                logger.warning("etcd: the watch missed a change, which a reading found")
                self._etcd.rotate("its watch misses changes")
            yield now

    async def _watched(self, revision: int) -> AsyncGenerator[Membership, None]:
        """Yield the membership after each change, until all is to be read again.

        Raises:
            _Silent: Not even what nodes report all the time has come.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._uniform(*RELIST)
        watch = self._etcd.watch(self._keys.root, revision + 1)
        async with aclosing(watch) as batches:
            while True:
                silent = loop.time() + SILENCE
                try:
                    async with asyncio.timeout_at(min(end, silent)):
                        batch = await anext(batches)
                except TimeoutError:
                    if silent < end and self.live:
                        raise _Silent from None
                    return
                self._take(
                    {
                        event.key: event.value if isinstance(event, Put) else None
                        for event in batch.events
                    }
                )
                for event in batch.events:
                    self._hear(event)
                yield self._membership(batch.revision)

    def _hear(self, event: Put | Delete) -> None:
        """Tell of a status, if that is what the watch has brought."""
        place = self._keys.read(event.key)
        if place is not None and place[0] == "status" and isinstance(event, Put):
            record = self._record(LiveStatus, event.key)
            if record is not None:
                self.heard(record)

    def _take(self, values: Mapping[bytes, bytes | None]) -> None:
        """Take over what stands under some keys now; None: nothing does.

        Rules of clients may be many, and are read once, when they come.
        """
        rules: dict[NodeKey, Rule | None] = {}
        for key, value in values.items():
            client = self._keys.read_client(key)
            if client is not None:
                rules[client] = self._rule(key, value, self._rules.get(client))
            elif value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        if rules:
            merged = {**self._rules, **rules}
            self._rules = {c: rule for c, rule in merged.items() if rule is not None}

    def _rule(self, key: bytes, value: bytes | None, last: Rule | None) -> Rule | None:
        """Read the rule of a client; if it is broken, the last good one stays."""
        self._bad.pop(key, None)
        if value is None:
            return None
        try:
            record = ClientIntent.read(key, value)
            _check_owner(record, key, key.removeprefix(self._keys.clients))
        except BadRecord as exc:
            self._bad[key] = value
            logger.warning("etcd: %s", exc)
            return last
        return record.rule

    def _membership(self, revision: int) -> Membership:
        """Make a membership of the records that can be read."""
        for key in (self._good.keys() | self._bad.keys()) - self._values.keys():
            self._good.pop(key, None)  # or it would be back with the next bad record
            if self._keys.read_client(key) is None:
                self._bad.pop(key, None)
        self._live = self._records("members", LiveMember)
        region = self._record(RegionIntent, self._keys.region) or self._default
        intents = self._records("intent", NodeIntent)
        found = {
            name: intent.node for name, intent in intents.items() if not intent.removed
        }
        self._note_lost()
        order = [name for name in region.order if name in found]
        names = [*order, *sorted(found.keys() - set(order))]
        return Membership(
            revision,
            region.region,
            {name: found[name] for name in names},
            struck=frozenset(intents.keys() - found.keys()),
            drains={
                name: intent.drain
                for name, intent in intents.items()
                if name in found and intent.drain is not None
            },
            clients=self._rules,
            generation=self._generation,
        )

    def _note_lost(self) -> None:
        """Note which intents vanished with what is said of the region."""
        gone = self._intents.keys() - self._values.keys()
        if self._keys.region in gone:
            self._lost |= gone
        self._lost &= gone

    def _records(self, kind: Kind, model: type[_Record]) -> dict[str, _Record]:
        """Read every record of a kind, by name."""
        found: dict[str, _Record] = {}
        for key in self._values:
            place = self._keys.read(key)
            if place is not None and place[0] == kind:
                record = self._record(model, key)
                if record is not None:
                    found[place[1]] = record
        return found

    def _record(self, model: type[_Record], key: bytes) -> _Record | None:
        """Read a record; if that is broken, give the last good one of its key."""
        value = self._values.get(key)
        if value is None:
            return None
        known = self._good.get(key)
        if known is not None and known[0] == value and isinstance(known[1], model):
            self._bad.pop(key, None)  # what was good before was put back
            return known[1]
        try:
            record = model.read(key, value)
            place = self._keys.read(key)
            _check_owner(record, key, place[1].encode() if place is not None else b"")
        except BadRecord as exc:
            if self._bad.get(key) != value:
                self._bad[key] = value
                logger.warning("etcd: %s", exc)
            last = known[1] if known is not None else None
            return last if isinstance(last, model) else None
        self._bad.pop(key, None)
        self._good[key] = value, record
        if isinstance(record, RegionIntent | NodeIntent):
            self._intents[key] = record
        return record


def _check_owner(record: Stored, key: bytes, owner: bytes) -> None:
    """See that a record is of whom its key says.

    Raises:
        BadRecord: It is not.
    """
    if record.owner.encode() != owner:
        where = key.decode("utf-8", "replace")
        raise BadRecord(where, f"it is of {record.owner}")
