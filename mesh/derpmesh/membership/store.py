"""The intents of a region in etcd: all of them as they were at once, and safe writes.

Every write is compare-and-put, and notes what it changes of the map in the same moment.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import EtcdError, FileUnusable
from derpmesh.membership.edits import Wanted, in_order, node_edit, region_edit
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Member
from derpmesh.membership.records import (
    BadRecord,
    Edit,
    NodeIntent,
    RegionIntent,
    Stored,
)
from derpnode.errors import ConfigError


_REGION = "the region"  # no node has such a name


@dataclass(frozen=True)
class Found:
    """An intent, and the revision at which it was written."""

    intent: NodeIntent
    revision: int


@dataclass(frozen=True)
class Intents:
    """Every intent of a region, as it was at one revision."""

    revision: int
    regions: Mapping[str, tuple[RegionIntent, int]] = field(default_factory=dict)
    nodes: Mapping[str, Found] = field(default_factory=dict)
    broken: Mapping[str, BadRecord] = field(default_factory=dict)

    @property
    def region(self) -> RegionIntent | None:
        """What is wanted of the region as a whole; None if nobody said it."""
        return self.regions[_REGION][0] if self.regions else None

    @property
    def region_revision(self) -> int:
        """At which that was written; 0: never."""
        return self.regions[_REGION][1] if self.regions else 0

    def check(self, *names: str) -> None:
        """See that what is stored under some names is no garbage; of all, if none.

        Raises:
            BadRecord: It is.
        """
        for name in names or self.broken:
            if name in self.broken:
                raise self.broken[name]

    @property
    def wanted(self) -> Wanted | None:
        """The region as operators want it; None if nobody said it.

        Raises:
            BadRecord: A record is broken: what is made of the others would take a
                node from clients.
        """
        self.check()
        if self.region is None:
            return None
        return in_order(self.region, self.listed, self.revision)

    @property
    def listed(self) -> dict[str, Member]:
        """The nodes that nobody took out."""
        return {
            name: one.intent.node
            for name, one in self.nodes.items()
            if not one.intent.removed
        }


class IntentStore:
    """Reads and writes the intents of one region.

    Every call raises `RegistryUnavailable` if etcd does not answer.

    Args:
        client: Speaks to etcd.
        keys: Of the region.
        author: Who writes, as others will read it.
    """

    def __init__(self, client: Etcd, keys: Keys, author: str) -> None:
        self.client = client
        self.keys = keys
        self.author = author

    async def read(self) -> Intents:
        """Read every intent; what is broken is kept apart."""
        with answering():
            listing = await self.client.range_prefix(self.keys.of("intent", ""))
        regions: dict[str, tuple[RegionIntent, int]] = {}
        nodes: dict[str, Found] = {}
        broken: dict[str, BadRecord] = {}
        for item in listing.items:
            place = self.keys.read(item.key)
            name = place[1] if place is not None else _REGION
            try:
                if place is not None:
                    intent = NodeIntent.read(item.key, item.value)
                    nodes[name] = Found(intent, item.mod_revision)
                elif item.key == self.keys.region:
                    region = RegionIntent.read(item.key, item.value)
                    regions[name] = region, item.mod_revision
            except BadRecord as exc:
                broken[name] = exc
        return Intents(listing.revision, regions, nodes, broken)

    async def put(
        self,
        intent: NodeIntent,
        before: Found | None,
        given: Mapping[bytes, int] | None = None,
    ) -> int | None:
        """Write the intent of a node, if it is as it was read.

        Args:
            intent: What is wanted.
            before: The intent that was read; None: there was none.
            given: Other keys that must be as they were read.

        Returns:
            The revision; None if it was otherwise.
        """
        key = self.keys.of("intent", intent.owner)
        last = before.intent if before is not None else None
        revision = before.revision if before is not None else 0
        edit = node_edit(last, intent, self.author)
        return await self.write({key: (intent, revision)}, [edit], given)

    async def put_region(
        self, intent: RegionIntent, before: RegionIntent | None, revision: int
    ) -> int | None:
        """Write what is wanted of the region, if it is as it was read.

        Args:
            intent: What is wanted.
            before: What was read; None: nothing.
            revision: That of what was read; 0: there was nothing.

        Returns:
            The new revision; None if it was otherwise.
        """
        edit = region_edit(before, intent, self.author)
        return await self.write({self.keys.region: (intent, revision)}, [edit])

    async def write(
        self,
        puts: Mapping[bytes, tuple[Stored, int]],
        edits: Sequence[Edit | None],
        given: Mapping[bytes, int] | None = None,
    ) -> int | None:
        """Write records at once or not at all; give the revision, or None.

        Args:
            puts: What to store under each key, and its revision as it was read.
            edits: What that changes of the map, if anything.
            given: Other keys that must be as they were read.
        """
        texts = {key: record.write() for key, (record, _) in puts.items()}
        texts |= stored(self.keys, *edits)
        expected = {key: revision for key, (_, revision) in puts.items()}
        key, *others = texts
        with answering():
            return await self.client.txn_put(
                key,
                texts[key],
                expected.pop(key),
                given={**(given or {}), **expected},
                also={other: texts[other] for other in others},
            )


def stored(keys: Keys, *edits: Edit | None) -> dict[bytes, bytes]:
    """Give what is stored of edits, by key."""
    return {keys.of("edits", one.number): one.write() for one in edits if one}


@contextmanager
def answering() -> Iterator[None]:
    """Say of whatever etcd raises in the block that the registry is away.

    Raises:
        ConfigError: A file of the operator's cannot be used.
        RegistryUnavailable: Anything else.
    """
    try:
        yield
    except FileUnusable as exc:
        raise ConfigError("registry.etcd", exc.path, exc.reason, exc.hint) from exc
    except EtcdError as exc:
        raise RegistryUnavailable("etcd", str(exc)) from exc
