"""Those who keep a region's registry, a file or an etcd, and say what they want."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from derpmesh.config import EtcdSection
from derpmesh.membership.model import Drain, Rule
from derpmesh.membership.operator import Operator, operating
from derpnode.wire.keys import NodeKey
from tests.mesh.membership.registries import Wants
from tests.mesh.region import REGION, Cluster, Place
from tests.support.etcd import Server, require_etcd
from tests.support.etcd import cluster as etcd_cluster
from tests.support.peers import MissingTool


class Steward(Protocol):
    """Keeps the registry of a region."""

    def place(self, letter: str, **more: dict[str, object]) -> Place:
        """Prepare a node that is recorded there."""

    async def list(self, *places: Place) -> None:
        """See that these nodes, and no others, are to be in the region."""

    async def drain(self, place: Place, wish: Drain | None) -> None:
        """Wish that a node drains, or not any more."""

    async def rule(self, client: NodeKey, rule: Rule) -> None:
        """Say that a client is let in, or kept out, or nothing of it any more."""


class FileSteward:
    """Edits the region's file."""

    def __init__(self, region: Cluster) -> None:
        self._region = region
        self._places: tuple[Place, ...] = ()
        self._drains: set[str] = set()
        self._clients: dict[NodeKey, Rule] = {}

    def place(self, letter: str, **more: dict[str, object]) -> Place:
        found = self._region.place(letter)
        found.configure(**more)
        return found

    async def list(self, *places: Place) -> None:
        self._places = places
        self._write()

    async def drain(self, place: Place, wish: Drain | None) -> None:
        self._drains.discard(place.name)
        if wish is not None:
            self._drains.add(place.name)
        self._write()

    async def rule(self, client: NodeKey, rule: Rule) -> None:
        self._clients.pop(client, None)
        if rule != "none":
            self._clients[client] = rule
        self._write()

    def _write(self) -> None:
        wants = Wants(drains=frozenset(self._drains), clients=self._clients)
        self._region.write(*self._places, wants=wants)


class EtcdSteward:
    """Writes intents; nodes list themselves."""

    def __init__(self, region: Cluster, etcd: Server, operator: Operator) -> None:
        self._region = region
        self._etcd = etcd
        self.operator = operator

    def place(self, letter: str, **more: dict[str, object]) -> Place:
        found = self._region.place(letter)
        found.configure(registry={"etcd": {"endpoints": [self._etcd.url]}}, **more)
        return found

    async def list(self, *places: Place) -> None:
        pass

    async def drain(self, place: Place, wish: Drain | None) -> None:
        await self.operator.drain(place.name, wish)

    async def rule(self, client: NodeKey, rule: Rule) -> None:
        await self.operator.rule(client, rule)


@contextmanager
def running_etcd(folder: Path) -> Iterator[Server]:
    """Run an etcd until the block ends; skip the test where there is none."""
    try:
        require_etcd()
    except MissingTool as missing:
        pytest.skip(str(missing))
    found = etcd_cluster(folder)
    try:
        [server] = found.start().servers
        yield server
    finally:
        found.kill()


@asynccontextmanager
async def etcd_steward(region: Cluster, etcd: Server) -> AsyncGenerator[EtcdSteward]:
    """Keep a region in etcd until the block ends."""
    settings = EtcdSection(endpoints=[etcd.url])
    async with operating(settings, REGION.id, "steward") as operator:
        yield EtcdSteward(region, etcd, operator)
