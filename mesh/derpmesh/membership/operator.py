"""What operators do to a region in etcd: read intents, and write them.

Every write is compare-and-put: an intent that somebody else changed meanwhile is read
and judged anew, never overwritten.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from derpmesh.config import EtcdSection
from derpmesh.etcd.client import Etcd, Patience
from derpmesh.etcd.endpoint import load_transport
from derpmesh.etcd.errors import ClientMissing, FileUnusable
from derpmesh.etcd.login import Credentials
from derpmesh.etcd.tls import client_context
from derpmesh.membership.archive import Archive
from derpmesh.membership.edits import Wanted
from derpmesh.membership.errors import RegistryError
from derpmesh.membership.keys import Keys, Kind
from derpmesh.membership.model import Drain, Member, Rule
from derpmesh.membership.records import (
    BadRecord,
    ClientIntent,
    LiveMember,
    LiveStatus,
    NodeIntent,
    RegionIntent,
)
from derpmesh.membership.regionfile import RegionText, dump_region
from derpmesh.membership.store import Found, IntentStore, answering
from derpnode.errors import ConfigError
from derpnode.wire.keys import NodeKey, node_key_text


_Live = TypeVar("_Live", LiveMember, LiveStatus)

ATTEMPTS = 5
"""Times that a write is tried while others write the same."""

PATIENCE = Patience(deadline=3.0)
"""How long etcd may take: somebody waits, and drains a node without it if need be."""


@dataclass(eq=False)
class UnknownNode(RegistryError):
    """Nobody has listed a node of that name, or it was taken out."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        there = ", ".join(self.known) or "no node"
        return f"{self.name}: no such node in the region; there is {there}"


@dataclass(eq=False)
class AlreadyListed(RegistryError):
    """There is a node of that name."""

    name: str
    author: str

    def __str__(self) -> str:
        return f"{self.name} is in the region, as {self.author or 'somebody'} wrote"


@dataclass(eq=False)
class OthersDrain(RegistryError):
    """Another node is to be drained already."""

    name: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.others)} is drained; {self.name} as well would be more"


@dataclass(eq=False)
class Contended(RegistryError):
    """Others write the same record all the time."""

    name: str

    def __str__(self) -> str:
        return f"{self.name}: somebody else writes it at the same time; try again"


@dataclass(frozen=True)
class Written:
    """What came of a write."""

    intent: NodeIntent
    revision: int
    """At which the region is as was asked for."""


class Operator:
    """Reads and writes the intents of one region; see `operating`.

    Every call raises `RegistryUnavailable` if etcd does not answer, and `BadRecord` if
    what is there is no record.

    Args:
        client: Speaks to etcd.
        keys: Of the region.
        author: Who writes, as others will read it.
    """

    def __init__(self, client: Etcd, keys: Keys, author: str) -> None:
        self._client = client
        self._keys = keys
        self._author = author
        self._store = IntentStore(client, keys, author)
        self.archive = Archive(self._store)
        """What the map was, and how it becomes that again."""

    # Nodes.

    async def nodes(self) -> Mapping[str, Found]:
        """Give every intent, by name; those that were taken out too.

        One that is broken is skipped: it must not keep anybody from the others.
        """
        return (await self._store.read()).nodes

    async def live(self) -> Mapping[str, LiveMember]:
        """Give what nodes whose lease lives say of themselves; skip what is broken."""
        return await self._records("members", LiveMember)

    async def statuses(self) -> Mapping[str, LiveStatus]:
        """Give how those nodes fare; skip what is broken."""
        return await self._records("status", LiveStatus)

    async def _records(self, kind: Kind, model: type[_Live]) -> dict[str, _Live]:
        found: dict[str, _Live] = {}
        with answering():
            listing = await self._client.range_prefix(self._keys.of(kind, ""))
        for item in listing.items:
            with suppress(BadRecord):
                record = model.read(item.key, item.value)
                found[record.owner] = record
        return found

    async def put(self, intent: NodeIntent, before: Found | None = None) -> bool:
        """Write an intent, if it is as it was read; say whether.

        Args:
            intent: What is wanted.
            before: The intent that was read; None: there was none.
        """
        return await self._store.put(intent, before) is not None

    async def drain(self, name: str, wish: Drain | None) -> Written:
        """Wish that a node drains, or not any more.

        Raises:
            UnknownNode: There is none of that name.
            OthersDrain: Another one is to be drained, and the wish has no force.
            Contended: Others write it all the time.
        """

        def change(found: Mapping[str, Found]) -> NodeIntent:
            others = tuple(
                sorted(
                    other
                    for other, one in found.items()
                    if other != name and one.intent.drain and not one.intent.removed
                )
            )
            if wish is not None and others and not wish.force:
                raise OthersDrain(name, others)
            return found[name].intent.model_copy(update={"drain": wish})

        return await self._change(name, change, with_others=wish is not None)

    async def add(self, member: Member) -> tuple[str, int]:
        """List a node, or list again one that was taken out; say at which revision.

        Raises:
            AlreadyListed: There is one of that name.
            Contended: Others write it all the time.
        """
        for _ in range(ATTEMPTS):
            there = await self._store.read()
            there.check(member.name)
            before = there.nodes.get(member.name)
            if before is not None and not before.intent.removed:
                raise AlreadyListed(member.name, before.intent.author)
            intent = NodeIntent(node=member, author=self._author)
            done = await self._store.put(intent, before)
            if done is not None:
                return member.name, done
        raise Contended(member.name)

    async def import_region(self, text: RegionText) -> list[str]:
        """List what a region file lists and is not there yet; name what was written.

        What is there stays as it is, whoever wrote it.
        """
        written: list[str] = []
        found, revision = await self.region()
        if found is None:
            order = [member.name for member in text.members]
            intent = RegionIntent(**text.region.model_dump(), order=order)
            if await self.put_region(intent, revision) is not None:
                written.append("region")
        there = (await self._store.read()).nodes
        for member in text.members:
            drain = text.drains.get(member.name)
            intent_ = NodeIntent(node=member, author=self._author, drain=drain)
            if member.name not in there and await self.put(intent_):
                written.append(member.name)
        known = await self.clients()
        for client, rule in text.clients.items():
            if client not in known:
                await self.rule(client, rule)
                written.append(node_key_text(client))
        return written

    async def wanted(self) -> Wanted | None:
        """Give the region as it is wanted; None if nobody said it. See `Intents`."""
        return (await self._store.read()).wanted

    async def export_region(self) -> str:
        """Write the region as a file; what only etcd has a place for is left out."""
        found = await self.wanted()
        if found is None:
            raise UnknownNode("region", ())
        rules = {key: one.rule for key, one in (await self.clients()).items()}
        return dump_region(found.intent.region, found.members, rules)

    async def remove(self, name: str) -> Written:
        """Take a node out, so that it does not come back by itself.

        Raises:
            UnknownNode: There is none of that name.
            Contended: Others write it all the time.
        """
        update = {"removed": True, "drain": None}
        return await self._change(
            name, lambda found: found[name].intent.model_copy(update=update)
        )

    async def _change(
        self,
        name: str,
        change: Callable[[Mapping[str, Found]], NodeIntent],
        *,
        with_others: bool = False,
    ) -> Written:
        """Change the intent of a node that is in the region.

        Args:
            name: Of the node.
            change: Gives the intent as it is to be, from all that there are.
            with_others: Whether those of all others must be as they were read.
        """
        for _ in range(ATTEMPTS):
            there = await self._store.read()
            there.check(name)
            found = there.nodes
            if name not in found or found[name].intent.removed:
                known = (n for n, one in found.items() if not one.intent.removed)
                raise UnknownNode(name, tuple(sorted(known)))
            intent = change(found)
            if intent == found[name].intent:
                return Written(intent, there.revision)
            intent = intent.model_copy(update={"author": self._author})
            given = {
                self._keys.of("intent", other): one.revision
                for other, one in found.items()
                if with_others and other != name
            }
            revision = await self._store.put(intent, found[name], given)
            if revision is not None:
                return Written(intent, revision)
        raise Contended(name)

    # The region as a whole.

    async def region(self) -> tuple[RegionIntent | None, int]:
        """Give what is wanted of the region, and at which revision that was written."""
        with answering():
            item = await self._client.get(self._keys.region)
        if item is None:
            return None, 0
        return RegionIntent.read(item.key, item.value), item.mod_revision

    async def put_region(self, intent: RegionIntent, revision: int) -> int | None:
        """Write it, if it is as it was read; give the new revision, or None."""
        before, there = await self.region()
        if there != revision:
            return None
        said = intent.model_copy(update={"author": self._author})
        return await self._store.put_region(said, before, revision)

    async def regions(self) -> list[int]:
        """Give the ids of all regions that are recorded beside this one."""
        root = self._keys.all_regions
        with answering():
            listing = await self._client.range_prefix(root)
        words = (one.key.removeprefix(root).split(b"/")[0] for one in listing.items)
        return sorted({int(word) for word in words if word.isdigit()})

    # Clients.

    async def clients(self) -> Mapping[NodeKey, ClientIntent]:
        """Give the rules for clients that there are; skip what is broken."""
        with answering():
            listing = await self._client.range_prefix(self._keys.clients)
        found: dict[NodeKey, ClientIntent] = {}
        for item in listing.items:
            client = self._keys.read_client(item.key)
            if client is None:
                continue
            try:
                found[client] = ClientIntent.read(item.key, item.value)
            except BadRecord:
                continue
        return found

    async def rule(self, client: NodeKey, rule: Rule) -> int:
        """Let a client in, keep it out, or say no more of it; give the revision.

        Raises:
            Contended: Others write it all the time.
        """
        key = self._keys.client(client)
        intent = ClientIntent(key=node_key_text(client), rule=rule, author=self._author)
        for _ in range(ATTEMPTS):
            with answering():
                item = await self._client.get(key)
                before = item.mod_revision if item is not None else 0
                revision = await self._client.txn_put(key, intent.write(), before)
            if revision is not None:
                return revision
        raise Contended(node_key_text(client))


@asynccontextmanager
async def operating(
    settings: EtcdSection, region_id: int, author: str
) -> AsyncGenerator[Operator]:
    """Be an operator of a region until the block ends.

    Args:
        settings: Where etcd is.
        region_id: Of the region.
        author: Who writes, as others will read it.

    Raises:
        ConfigError: A file for etcd cannot be used.
    """
    client = client_of(settings, PATIENCE)
    try:
        yield Operator(client, Keys(settings.prefix, region_id), author)
    finally:
        await client.close()


def client_of(settings: EtcdSection, patience: Patience | None = None) -> Etcd:
    """Make a client; it asks nothing before it is asked.

    Args:
        settings: Where etcd is.
        patience: How long it may take; None: as long as for a node.

    Raises:
        ConfigError: A file for etcd cannot be used, or what speaks to etcd is missing.
    """
    try:
        load_transport()
    except ClientMissing as exc:
        endpoints = ", ".join(settings.endpoints)
        raise ConfigError("registry.etcd", endpoints, exc.reason, exc.hint) from exc
    credentials = None
    if settings.user is not None and settings.password_file is not None:
        credentials = Credentials(settings.user, settings.password_file)
    try:
        tls = client_context(settings.ca_file, settings.certificate, settings.key)
    except FileUnusable as exc:
        raise ConfigError("registry.etcd", exc.path, exc.reason, exc.hint) from exc
    found = patience or Patience()
    return Etcd(settings.endpoints, credentials=credentials, tls=tls, patience=found)
