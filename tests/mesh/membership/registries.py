"""Registries of every kind, and what their operators do to them.

`REGISTRIES` names one operator for each backend; whatever holds of the port is tested
once, over all of them, in `test_registry.py`.
"""

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import yaml

from derpmesh.etcd.client import Etcd, Patience
from derpmesh.etcd.login import Credentials
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.etcd import EtcdRegistry
from derpmesh.membership.file import FileRegistry
from derpmesh.membership.keys import Keys
from derpmesh.membership.memory import MemoryRegistry
from derpmesh.membership.model import Drain, Member, Region, Rule
from derpmesh.membership.ports import Registry
from derpmesh.membership.records import ClientIntent, NodeIntent, RegionIntent
from derpnode.wire.keys import NodeKey, node_key_text
from tests.mesh.etcds import HOST, Etcds
from tests.mesh.membership.scene import REGION, A, membership
from tests.support.etcd import Server, Version, deleting, putting, transaction
from tests.support.proxy import Proxy


LOOK = 0.002
"""Seconds between two looks at a file, in place of the usual half."""

SHORT = Patience(attempt=1.0, deadline=0.2)
"""A client that gives up soon: tests know when etcd is away."""


async def look(_delay: float) -> None:
    """Sleep for less than one is told to."""
    await asyncio.sleep(LOOK)


@dataclass(frozen=True)
class Wants:
    """What an operator wants of nodes and clients."""

    drains: Collection[str] = ()
    clients: Mapping[NodeKey, Rule] = field(default_factory=dict)


NOTHING = Wants()


class Operator(Protocol):
    """Keeps one registry, that holds `A` at first."""

    registry: Registry

    async def put(
        self, *members: Member, region: Region = REGION, wants: Wants = NOTHING
    ) -> None:
        """Record these members and no others, in this order, and what is wanted."""

    async def fail(self) -> None:
        """Make the registry impossible to read."""

    async def heal(self) -> None:
        """Make it readable again; it holds what was put last."""


class MemoryOperator:
    """Keeps a registry in memory."""

    def __init__(self, _folder: Path) -> None:
        self._revisions = itertools.count(1)
        self.registry = MemoryRegistry(membership(next(self._revisions), A))

    async def put(
        self, *members: Member, region: Region = REGION, wants: Wants = NOTHING
    ) -> None:
        found = membership(next(self._revisions), *members, region=region)
        drains = dict.fromkeys(wants.drains, Drain())
        await self.registry.put(
            dataclasses.replace(found, drains=drains, clients=dict(wants.clients))
        )

    async def fail(self) -> None:
        await self.registry.fail(RegistryUnavailable("memory", "switched off"))

    async def heal(self) -> None:
        await self.registry.fail(None)


class FileOperator:
    """Keeps a registry in a file, and replaces that by renaming another one over it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "region.yaml"
        self._away = folder / "away.yaml"
        self._failed = False
        self.write(region_text(REGION, A))
        self.registry = FileRegistry(self.path, sleep=look)

    def write(self, text: str) -> None:
        """Replace the file as careful editors do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._away if self._failed else self.path)

    async def put(
        self, *members: Member, region: Region = REGION, wants: Wants = NOTHING
    ) -> None:
        self.write(region_text(region, *members, wants=wants))

    async def fail(self) -> None:
        self.path.replace(self._away)
        self._failed = True

    async def heal(self) -> None:
        self._failed = False
        self._away.replace(self.path)


class EtcdOperator:
    """Keeps a registry in a real etcd, which is read over proxies.

    Args:
        write: Does some steps at once, without the proxies.
        keys: Under which keys.
        proxies: Stand before the servers.
        registry: Reads by way of the proxies.
    """

    def __init__(
        self,
        write: Callable[..., int],
        keys: Keys,
        proxies: Sequence[Proxy],
        registry: EtcdRegistry,
    ) -> None:
        self.registry = registry
        self._write = write
        self._keys = keys
        self._proxies = proxies
        self._there: set[bytes] = set()

    async def put(
        self, *members: Member, region: Region = REGION, wants: Wants = NOTHING
    ) -> None:
        intents = [
            NodeIntent(
                node=found,
                author="operator",
                drain=Drain() if found.name in wants.drains else None,
            )
            for found in members
        ]
        order = [found.name for found in members]
        wanted = RegionIntent(**region.model_dump(), order=order, author="operator")
        puts = {self._keys.of("intent", one.owner): one.write() for one in intents}
        for client, rule in wants.clients.items():
            record = ClientIntent(key=node_key_text(client), rule=rule)
            puts[self._keys.client(client)] = record.write()
        gone = [deleting(key) for key in self._there - puts.keys()]
        self._there = set(puts)
        puts[self._keys.region] = wanted.write()
        said = [putting(key, value) for key, value in puts.items()]
        await asyncio.to_thread(self._write, *said, *gone)

    async def fail(self) -> None:
        for proxy in self._proxies:
            await proxy.refuse()

    async def heal(self) -> None:
        for proxy in self._proxies:
            await proxy.accept()


@asynccontextmanager
async def way_to(server: Server) -> AsyncGenerator[tuple[Proxy, Etcd], None]:
    """Give a proxy before a server, and a client that asks there."""
    async with Proxy(server.port) as proxy:
        client = Etcd([proxy.url], patience=SHORT)
        try:
            yield proxy, client
        finally:
            await client.close()
            await proxy.idle.wait()


@asynccontextmanager
async def memory_operator(folder: Path, _: Etcds) -> AsyncGenerator[Operator, None]:
    """Keep a registry in memory until the block ends."""
    yield MemoryOperator(folder)


@asynccontextmanager
async def file_operator(folder: Path, _: Etcds) -> AsyncGenerator[Operator, None]:
    """Keep a registry in a file until the block ends."""
    yield FileOperator(folder)


@asynccontextmanager
async def etcd_operator(
    folder: Path, etcds: Etcds, *, version: Version
) -> AsyncGenerator[Operator, None]:
    """Keep a registry in etcd until the block ends, under keys of its own."""
    [server] = etcds.plain(version).servers
    keys = own_keys(folder)
    async with way_to(server) as (proxy, client):
        registry = EtcdRegistry(client, keys, REGION)
        write = partial(transaction, server.url)
        operator = EtcdOperator(write, keys, [proxy], registry)
        await operator.put(A)
        yield operator


@asynccontextmanager
async def secured_operator(
    folder: Path, etcds: Etcds, *, version: Version
) -> AsyncGenerator[Operator, None]:
    """Keep a registry in three servers with TLS, read by a user with its own rights."""
    secured, keys, name = etcds.secured(version), own_keys(folder), folder.name
    for user in (f"node-{name}", f"operator-{name}"):
        secured.add_user(user, f"s3cret-of-{user}", keys.root)
    write = secured.transaction(f"operator-{name}", f"s3cret-of-operator-{name}")
    password_file = folder / "password"
    password_file.touch(0o600)
    password_file.write_text(f"s3cret-of-node-{name}")
    credentials = Credentials(f"node-{name}", password_file)
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(Proxy(server.port))
            for server in secured.cluster.servers
        ]
        client = Etcd(
            [f"https://{HOST}:{proxy.port}" for proxy in proxies],
            credentials=credentials,
            tls=secured.context,
            patience=SHORT,
        )
        stack.push_async_callback(client.close)
        operator = EtcdOperator(
            write, keys, proxies, EtcdRegistry(client, keys, REGION)
        )
        await operator.put(A)
        yield operator


def own_keys(folder: Path) -> Keys:
    """Give keys that no other test has, by the folder that it has."""
    return Keys(f"/{folder.parent.name}/{folder.name}", REGION.id)


REGISTRIES: Mapping[
    str, Callable[[Path, Etcds], AbstractAsyncContextManager[Operator]]
] = {
    "memory": memory_operator,
    "file": file_operator,
    "etcd 3.4": partial(etcd_operator, version="debian"),
    "etcd 3.7": partial(etcd_operator, version="current"),
    "etcd 3.4 secured": partial(secured_operator, version="debian"),
    "etcd 3.7 secured": partial(secured_operator, version="current"),
}


def region_text(region: Region, *members: Member, wants: Wants = NOTHING) -> str:
    """Write a region file."""
    nodes = [
        _entry(found) | ({"drain": True} if found.name in wants.drains else {})
        for found in members
    ]
    tree: dict[str, object] = {"region": region.model_dump(), "nodes": nodes}
    if wants.clients:
        tree["clients"] = {
            rule: [
                node_key_text(c) for c, said in wants.clients.items() if said == rule
            ]
            for rule in ("allow", "deny")
        }
    return yaml.safe_dump(tree, sort_keys=False)


def _entry(found: Member) -> dict[str, object]:
    said = [name for name in Member.model_fields if name in found.model_fields_set]
    fields = {name: getattr(found, name) for name in said}
    return {
        name: value if isinstance(value, bool | int) else str(value)
        for name, value in fields.items()
    }
