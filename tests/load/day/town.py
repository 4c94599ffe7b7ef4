"""A region for a day: four nodes, an etcd behind a proxy, and who lives there."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

from derpmesh.config import EtcdSection
from derpmesh.membership.operator import operating
from tests.load.day.citizens import Citizen
from tests.load.day.diary import Diary
from tests.load.day.etcdfaults import EtcdFaults
from tests.load.day.homes import Home, linked_again
from tests.load.day.mail import DUE, Mail
from tests.load.day.nodefaults import NodeFaults
from tests.load.day.plan import EtcdFault, Life, NodeFault, Step
from tests.load.day.registrar import Registrar
from tests.mesh.region import REGION
from tests.support.etcd import Server
from tests.support.proxy import Proxy


LETTERS = "abcd"

LEAST = 10
"""Clients that stay, whatever the plan says: who leaves must have been somewhere."""

_JUDGED = 0.5  # seconds between two looks at what is late


class Town:
    """Does what a plan says.

    Args:
        homes: The nodes.
        nodes: Does things to them.
        etcd: Does things to etcd.
        registrar: Writes what operators want.
        diary: Told what is done.
        tasks: Runs whatever goes on.
    """

    def __init__(
        self,
        homes: Sequence[Home],
        nodes: NodeFaults,
        etcd: EtcdFaults,
        registrar: Registrar,
        diary: Diary,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.homes = homes
        self.registrar = registrar
        self.diary = diary
        self.mail = Mail()
        self.citizens: list[Citizen] = []
        """Those who have not left."""

        self.departed: list[Citizen] = []
        """Those who have, and whose connections left behind may be open."""

        self._nodes = nodes
        self._etcd = etcd
        self._tasks = tasks
        self._number = 0

    async def live(self, steps: Sequence[Step]) -> float:
        """Do every step at its time; return once all is over.

        Returns:
            Seconds that it took.
        """
        clock = time.monotonic
        began = clock()
        judge = self._tasks.create_task(self._judge())
        async with asyncio.TaskGroup() as faults:
            for step in steps:
                late = clock() - began - step.at
                await asyncio.sleep(max(-late, 0.0))
                match step.kind:
                    case NodeFault():
                        faults.create_task(self._nodes.happen(step, step.kind))
                    case EtcdFault():
                        faults.create_task(self._etcd.happen(step, step.kind))
                    case Life.JOIN:
                        self.join(step.random)
                    case _:
                        await self._act(step)
        await asyncio.sleep(DUE)
        judge.cancel()
        self.mail.judge()
        return clock() - began

    def join(self, source: random.Random) -> Citizen:
        """Have a new client come."""
        self._number += 1
        name = f"client {self._number}"
        citizen = Citizen(name, source, self.homes, self._tasks, self.mail, self.diary)
        self.citizens.append(citizen)
        return citizen

    async def leave(self, citizen: Citizen, *, orderly: bool = True) -> None:
        """Have a client go for ever."""
        self.citizens.remove(citizen)
        if citizen.ghosts:
            self.departed.append(citizen)
        if orderly:
            await citizen.leave()
        else:
            citizen.vanish()

    async def _act(self, step: Step) -> None:
        """Have a client that is somewhere do something."""
        source = step.random
        there = [one for one in self.citizens if one.stay is not None]
        if len(there) < LEAST:
            return
        one, other = source.sample(there, 2)
        self.diary.counts[f"client {step.kind.value}"] += 1
        match step.kind:
            case Life.SEND:
                await self.mail.send(one, other)
            case Life.ROAM | Life.FLEE:
                await one.move(closing=step.kind is Life.ROAM)
            case _:
                await self.leave(one, orderly=step.kind is Life.LEAVE)

    async def _judge(self) -> None:
        while True:
            await asyncio.sleep(_JUDGED)
            self.mail.judge()


@contextlib.asynccontextmanager
async def town(
    folder: Path, server: Server, diary: Diary
) -> AsyncGenerator[Town, None]:
    """Build it, with every node linked to each other; all end with the block.

    Args:
        folder: Where nodes keep their files.
        server: The etcd.
        diary: Told what is done.
    """
    async with contextlib.AsyncExitStack() as stack:
        proxy = Proxy(server.port)
        stack.push_async_callback(proxy.idle.wait)
        await stack.enter_async_context(proxy)
        stack.callback(proxy.flow)
        settings = EtcdSection(endpoints=[server.url])
        operator = await stack.enter_async_context(
            operating(settings, REGION.id, "the day's operator")
        )
        homes = [
            Home(f"{REGION.id}{letter}", folder, folder / "unused")
            for letter in LETTERS
        ]
        for home in homes:
            home.configure(registry={"etcd": {"endpoints": [proxy.url]}})
            home.launch()
            stack.callback(home.end)
        for home in homes:
            with home.trouble():
                await home.becomes("serving")
        for home in homes:
            await linked_again(home, homes)
        registrar = Registrar(operator, diary)
        nodes = NodeFaults(homes, registrar, diary)
        etcd = EtcdFaults(server, proxy, homes, nodes, diary)
        async with asyncio.TaskGroup() as tasks:
            found = Town(homes, nodes, etcd, registrar, diary, tasks)
            yield found
            await empty(found)


async def empty(found: Town) -> None:
    """Have everybody leave, and close what they left behind."""
    for citizen in list(found.citizens):
        await found.leave(citizen)
    for citizen in found.departed:
        for ghost in list(citizen.ghosts):
            await ghost.close()
    found.departed.clear()


async def becomes(what: Callable[[], object], within: float) -> float:
    """Wait until something is true that tells nobody; give the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while not what():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
    return time.monotonic() - began
