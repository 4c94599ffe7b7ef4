"""The nodes of a day: processes that much is done to, and how they fare meanwhile."""

import asyncio
import contextlib
import json
import math
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import aiohttp

from derpnode.client import ClientTls
from tests.mesh.region import PATIENCE, ChildNode


LOOK = 0.25
"""Seconds between two looks at a node."""

BACK = 60.0
"""Seconds after a fault until a node is linked to all that are well: it may have to
wait for etcd, which has troubles of its own."""


WORKERS = 40
"""More than the threads that may answer questions to one process."""


@dataclass(frozen=True)
class Footing:
    """What a process holds."""

    pid: int
    resident: int
    """Bytes."""

    descriptors: int
    threads: int
    tasks: int

    def __str__(self) -> str:
        return (
            f"{self.resident / (1 << 20):.1f} MiB, {self.descriptors} descriptors,"
            f" {self.threads} threads, {self.tasks} tasks"
        )


class Home(ChildNode):
    """A node that clients live on."""

    calm_since: float = math.inf
    """When its last trouble was over, on the monotonic clock; infinite while it is
    in trouble."""

    exits: tuple[int, ...] = ()
    """How it ended each time that it was asked to."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is being done to it."""
        return self.calm_since != math.inf

    @cached_property
    def tls(self) -> ClientTls:
        """How clients check its certificate; it lasts longer than a day."""
        return ClientTls(cert_name=self.pin)

    @property
    def log_file(self) -> Path:
        """What it says, over all its lives."""
        return self.folder / "derpd.log"

    @contextlib.contextmanager
    def trouble(self) -> Iterator[None]:
        """Have clients expect nothing of it while the block runs."""
        self.calm_since = math.inf
        yield
        self.calm_since = time.monotonic()

    def launch(self) -> None:
        """Run it; returns at once."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)

    async def start(self) -> None:
        """Run it; return once it serves."""
        self.launch()
        await self.becomes("serving")

    async def becomes(self, state: str, within: float = BACK) -> None:
        """Wait until it is in a state."""
        clock = asyncio.get_running_loop().time
        end, found = clock() + within, "?"
        while found != state:
            assert self.process.poll() is None, f"{self.name} ended by itself"
            assert clock() < end, f"{self.name}: {found}, not {state}, for {within} s"
            await asyncio.sleep(LOOK)
            found = await self.state()

    async def state(self) -> str:
        """Say in which state it is; empty if it does not answer."""
        with contextlib.suppress(aiohttp.ClientError, OSError):
            return str((await self.ask("/v1/node"))[1].get("state", ""))
        return ""

    async def stop(self) -> None:
        """Ask it to end, and wait until it did."""
        self.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(self.process.wait, 2 * PATIENCE)
        self.exits = (*self.exits, status)

    def kill(self) -> None:
        """End it as the kernel does when memory is short, and bury it."""
        super().kill()
        self.process.wait(PATIENCE)

    async def up(self) -> set[str]:
        """Give the peers that it has a link to which carries packets."""
        with contextlib.suppress(aiohttp.ClientError, OSError):
            links = await self.links()
            return {peer for peer, link in links.items() if link["state"] == "up"}
        return set()

    async def local(self) -> set[str]:
        """Give the clients that are connected to it."""
        return set((await self.ask("/v1/presence"))[1]["local"])

    async def footing(self) -> Footing:
        """Look at what it holds, at a moment when nobody else asks it anything."""
        # As many at once as there may be threads, so that each has begun.
        await asyncio.gather(*(self.local() for _ in range(WORKERS)))
        _, found = await self.ask("/metrics")
        lines = found["text"].splitlines()
        [tasks] = [line for line in lines if line.startswith("derpmesh_tasks ")]
        proc = Path(f"/proc/{self.process.pid}")
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines()
        )
        pages = int((proc / "statm").read_text().split()[1])
        return Footing(
            self.process.pid,
            pages * resource.getpagesize(),
            sum(1 for _ in (proc / "fd").iterdir()),
            int(status["Threads"]),
            int(float(tasks.split()[1])),
        )

    def complaints(self) -> list[str]:
        """Give what it logged that must never be: bugs of ours, with tracebacks."""
        found = []
        for line in self.log_file.read_text().splitlines():
            try:
                level = json.loads(line)["level"]
            except ValueError:
                level = "no log at all"
            if level not in ("debug", "info", "warning"):
                found.append(f"{self.name}: {line}")
        return found


async def linked_again(home: Home, homes: Sequence[Home]) -> None:
    """Wait until a node serves, and is linked both ways to all that are well."""
    await home.becomes("serving")
    clock = asyncio.get_running_loop().time
    end = clock() + BACK
    while missing := await _missing(home, homes):
        assert clock() < end, f"not linked for {BACK} s: {', '.join(missing)}"
        await asyncio.sleep(LOOK)


async def _missing(home: Home, homes: Sequence[Home]) -> list[str]:
    others = [other for other in homes if other is not home and other.is_well]
    mine, *theirs = await asyncio.gather(home.up(), *(one.up() for one in others))
    found = [f"{home.name} to {one.name}" for one in others if one.name not in mine]
    for other, ups in zip(others, theirs, strict=True):
        if other.is_well and home.name not in ups:
            found.append(f"{other.name} to {home.name}")
    return found
