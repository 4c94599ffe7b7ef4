"""What is done to nodes, each until the node is linked again as before."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tests.load.day.diary import Diary
from tests.load.day.homes import BACK, LOOK, Home, linked_again
from tests.load.day.plan import NodeFault, Step
from tests.load.day.registrar import Registrar


AT_ONCE = 2
"""Nodes that are in trouble at the same time, at most: half of them."""

STOPPED = (1.0, 20.0)
"""Seconds that a process stands still."""

AWAY = (0.0, 5.0)
"""Seconds that a node is down, drained or removed."""

DRAINED = 15.0
"""Seconds in which a node drains, if its wish is not lost meanwhile."""

ENDS_NODE = frozenset({NodeFault.KILL, NodeFault.RESTART})
"""Faults that the first node is spared, so that one lives through the day."""


class NodeFaults:
    """Does to nodes what the plan says.

    Args:
        homes: The nodes; the first one is never ended.
        registrar: Writes what operators want.
        diary: Told what is done.
    """

    def __init__(
        self, homes: Sequence[Home], registrar: Registrar, diary: Diary
    ) -> None:
        self._homes = homes
        self._registrar = registrar
        self._diary = diary
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._faults: Mapping[
            NodeFault, Callable[[Home, random.Random], Awaitable[None]]
        ] = {
            NodeFault.KILL: self._kill,
            NodeFault.STAND_STILL: self._stand_still,
            NodeFault.WISH: self._wish,
            NodeFault.DRAIN: self._drain,
            NodeFault.RESTART: self._restart,
            NodeFault.REMOVE: self._remove,
        }

    async def happen(self, step: Step, kind: NodeFault) -> None:
        """Do it to a node that is well, as soon as few enough are not."""
        source = step.random
        spared = self._homes[:1] if kind in ENDS_NODE else ()
        async with self._turn:
            home = await self._choose(source, spared)
            self._diary.note(home.name, kind.value)
            with home.trouble():
                await self._faults[kind](home, source)
                await linked_again(home, self._homes)
            self._diary.note(home.name, f"{kind.value}: over")
            self._diary.counts["node faults"] += 1
            self._diary.counts[f"node {kind.value}"] += 1

    async def _choose(self, source: random.Random, spared: Sequence[Home]) -> Home:
        """Give a node that is well and not spared, once there is one."""
        homes = [home for home in self._homes if home not in spared]
        # Faults of etcd may be trouble for nodes as well, beyond those that take turns.
        while not (well := [one for one in homes if one.is_well]):  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        return source.choice(well)

    async def disturb(self, home: Home, cause: Awaitable[None]) -> None:
        """Have something done by others that is trouble for a node."""
        with home.trouble():
            await cause
            await linked_again(home, self._homes)

    async def _kill(self, home: Home, source: random.Random) -> None:
        home.kill()
        await asyncio.sleep(source.uniform(*AWAY))
        await home.start()

    async def _stand_still(self, home: Home, source: random.Random) -> None:
        home.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(source.uniform(*STOPPED))
        finally:
            home.process.send_signal(signal.SIGCONT)

    async def _restart(self, home: Home, source: random.Random) -> None:
        await home.stop()
        assert home.exits[-1] == 0, f"{home.name} exited with {home.exits[-1]}"
        await asyncio.sleep(source.uniform(*AWAY))
        await home.start()

    async def _wish(self, home: Home, source: random.Random) -> None:
        """Have it drained by a wish; who deletes every record deletes the wish too."""
        await self._registrar.drain(home.name)
        if await _drains(home):
            self._diary.counts["wishes followed"] += 1
        await asyncio.sleep(source.uniform(*AWAY))
        await self._registrar.undrain(home.name)

    async def _drain(self, home: Home, source: random.Random) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + BACK
        while (said := await home.ask("/v1/drain?grace=2", "POST"))[0] != 200:
            # No other one serves: that passes.
            assert clock() < end, f"{home.name} does not drain: {said}"
            await asyncio.sleep(LOOK)
        assert await _drains(home), f"{home.name} has not drained in {DRAINED} s"
        await asyncio.sleep(source.uniform(*AWAY))
        status, said = await home.ask("/v1/undrain", "POST")
        assert status == 200, f"{home.name} does not undrain: {said}"

    async def _remove(self, home: Home, source: random.Random) -> None:
        member = await self._registrar.remove(home.name)
        await asyncio.sleep(source.uniform(*AWAY))
        await self._registrar.add(member)


async def _drains(home: Home) -> bool:
    """Wait until a node is drained; tell whether it is."""
    clock = asyncio.get_running_loop().time
    end = clock() + DRAINED
    while clock() < end:
        if await home.state() == "drained":
            return True
        await asyncio.sleep(LOOK)
    return False
