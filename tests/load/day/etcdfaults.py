"""What is done to etcd and to the way there; none of it may cost a client a packet."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

import aiohttp

from derpmesh.membership.keys import Keys
from tests.load.day.diary import Diary
from tests.load.day.homes import LOOK, Home
from tests.load.day.nodefaults import NodeFaults
from tests.load.day.plan import EtcdFault, Step
from tests.mesh.region import REGION
from tests.support.etcd import (
    Server,
    compact,
    deleting,
    post,
    putting,
    revoke,
    stored,
    transaction,
)
from tests.support.proxy import Proxy


KEYS = Keys("/derpmesh/v1", REGION.id)

AWAY = (1.0, 12.0)
"""Seconds that etcd, or the way there, is away."""

WRITTEN_AGAIN = 45.0
"""Seconds in which nodes write again what was deleted: a third of a lease, and what a
fault of etcd just before makes them wait."""

CUTS = 3
"""Times in a row that all connections are reset."""


class EtcdFaults:
    """Does to etcd what the plan says, one thing after the other.

    Args:
        server: The etcd.
        proxy: The way there that nodes take.
        homes: The nodes.
        nodes: Does things to nodes.
        diary: Told what is done.
    """

    def __init__(
        self,
        server: Server,
        proxy: Proxy,
        homes: Sequence[Home],
        nodes: NodeFaults,
        diary: Diary,
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._homes = homes
        self._nodes = nodes
        self._diary = diary
        self._turn = asyncio.Lock()
        self._faults: Mapping[EtcdFault, Callable[[random.Random], Awaitable[None]]] = {
            EtcdFault.KILL: self._kill,
            EtcdFault.STAND_STILL: self._stand_still,
            EtcdFault.CUT: self._cut,
            EtcdFault.STALL: self._stall,
            EtcdFault.REFUSE: self._refuse,
            EtcdFault.COMPACT: self._compact,
            EtcdFault.REVOKE: self._revoke,
            EtcdFault.DELETE_ONE: self._delete_one,
            EtcdFault.DELETE_ALL: self._delete_all,
        }

    async def happen(self, step: Step, kind: EtcdFault) -> None:
        """Do it, as soon as the last one is over."""
        async with self._turn:
            self._diary.note("etcd", kind.value)
            await self._faults[kind](step.random)
            self._diary.note("etcd", f"{kind.value}: over")
            self._diary.counts["etcd faults"] += 1
            self._diary.counts[f"etcd {kind.value}"] += 1

    # It is away.

    async def _kill(self, source: random.Random) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(source.uniform(*AWAY))
        self._server.launch({self._server.name: self._server.peer_url})
        await asyncio.to_thread(self._server.until_ready)

    async def _stand_still(self, source: random.Random) -> None:
        self._server.pause()
        try:
            await asyncio.sleep(source.uniform(*AWAY))
        finally:
            self._server.resume()
        await asyncio.to_thread(self._server.until_ready)

    # The way there.

    async def _cut(self, source: random.Random) -> None:
        for _ in range(CUTS):
            self._proxy.cut()
            await asyncio.sleep(source.uniform(0.0, 1.0))

    async def _stall(self, source: random.Random) -> None:
        self._proxy.stall()
        try:
            await asyncio.sleep(source.uniform(*AWAY))
        finally:
            self._proxy.flow()

    async def _refuse(self, source: random.Random) -> None:
        await self._proxy.refuse()
        try:
            await asyncio.sleep(source.uniform(*AWAY))
        finally:
            await self._proxy.accept()

    # What it has.

    async def _compact(self, source: random.Random) -> None:
        await self._proxy.refuse()
        try:
            await asyncio.to_thread(self._forget)
            await asyncio.sleep(source.uniform(*AWAY) / 4)
        finally:
            await self._proxy.accept()

    def _forget(self) -> None:
        """Have it forget everything up to what nodes have not seen any more."""
        url = self._server.url
        for number in range(CUTS):
            revision = transaction(url, putting(b"/elsewhere", b"%d" % number))
        compact(url, revision)

    async def _revoke(self, _: random.Random) -> None:
        await asyncio.to_thread(self._revoke_all)

    def _revoke_all(self) -> None:
        url = self._server.url
        found = post(url, "/lease/leases", {}).get("leases", [])
        for lease in cast("list[dict[str, str]]", found):
            revoke(url, int(lease["ID"]))

    async def _delete_one(self, source: random.Random) -> None:
        """Delete a record; without its intent a node is out until it writes it again.

        That of a whole node alone is trouble for it.
        """
        well = [home for home in self._homes if home.is_well]
        kinds = ("intent", "members", "status")
        kind = source.choice(kinds)
        home = source.choice(well)
        key = KEYS.of(kind, home.name)
        self._diary.note("etcd", f"loses {key.decode()}")
        if kind == "intent":
            await self._nodes.disturb(home, self._delete(key))
        else:
            await self._delete(key)

    async def _delete(self, key: bytes) -> None:
        await asyncio.to_thread(transaction, self._server.url, deleting(key))
        await self._until_written(key)

    async def _until_written(self, key: bytes) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + WRITTEN_AGAIN
        while await asyncio.to_thread(stored, self._server.url, key) is None:
            text = f"{key.decode()} was not written again in {WRITTEN_AGAIN} s"
            assert clock() < end, text
            await asyncio.sleep(LOOK)

    async def _delete_all(self, source: random.Random) -> None:
        """Delete everything; then an operator looks, and confirms what is left, or not.

        What is left is of nodes that do not live: the others write themselves again.
        """
        await asyncio.to_thread(transaction, self._server.url, deleting(KEYS.root))
        for home in [one for one in self._homes if one.is_well]:
            await self._until_written_by(home)
        if source.random() < 0.5:
            for home in self._homes:
                await self._confirm(home)

    async def _until_written_by(self, home: Home) -> None:
        """Wait until a node has written itself, unless trouble comes upon it."""
        clock = asyncio.get_running_loop().time
        end = clock() + WRITTEN_AGAIN
        key = KEYS.of("intent", home.name)
        while await asyncio.to_thread(stored, self._server.url, key) is None:
            if not home.is_well:
                return
            text = f"{home.name} did not write itself again in {WRITTEN_AGAIN} s"
            assert clock() < end, text
            await asyncio.sleep(LOOK)

    async def _confirm(self, home: Home) -> None:
        """Let go what a node holds, if that is of nodes in trouble alone."""
        well = {one.name for one in self._homes if one.is_well}
        if home.name not in well:
            return
        try:
            _, found = await home.ask("/v1/membership")
            held = set(found.get("held", []))
            if held and not held & well:
                self._diary.note(home.name, f"lets go {', '.join(sorted(held))}")
                await home.ask("/v1/region/confirm", "POST")
        except (aiohttp.ClientError, OSError) as exc:
            self._diary.note(home.name, f"is not told to confirm: {exc}")
