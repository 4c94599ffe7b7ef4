"""The processes of a demo: started, watched, stopped by their own ids."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from derpctl.admin import Admin, AdminFailed, NodeView
from derpctl.demo.plan import NodePlan
from derpctl.demo.processes import send


READY_WITHIN = 30.0
"""Seconds from the start of a node until it must be ready."""

_POLL = 0.1
_QUESTION = 1.0
_NUDGE = 0.2  # seconds between SIGTERMs; the second means "now"
_STOP_WITHIN = 3.5  # then SIGKILL, so that all is over in 5 s
_TAIL = 20  # lines of a log that are shown


@dataclass(eq=False)
class NodeFailed(Exception):
    """A node ended, or did not get ready."""

    plan: NodePlan
    reason: str
    tail: str
    """The end of its log."""
    ended: bool
    """It is not running any more."""


@dataclass
class Child:
    """One node that was started."""

    plan: NodePlan
    process: asyncio.subprocess.Process
    log_start: int
    """Bytes of log from before it was started."""

    @property
    def ended(self) -> str | None:
        """How it ended; None while it runs."""
        code = self.process.returncode
        if code is None:
            return None
        return f"exit status {code}" if code >= 0 else f"signal {-code}"

    def tail(self) -> str:
        """Give the end of its log."""
        try:
            with self.plan.log_file.open("rb") as file:
                file.seek(self.log_start)
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError as exc:
            return f"({exc.strerror})"
        return "\n".join(lines[-_TAIL:]) or "(nothing)"

    async def stop(self) -> None:
        """End it: twice politely, as the second SIGTERM means "now", then not."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _STOP_WITHIN
        while self.process.returncode is None and clock() < deadline:
            send(self.process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NUDGE):
                    await self.process.wait()
        send(self.process, signal.SIGKILL)
        await self.process.wait()


async def start(plan: NodePlan, settings: Sequence[str]) -> Child:
    """Start a node with our own interpreter; its log is appended to a file.

    It gets a session of its own, so that Ctrl-C reaches us alone.
    """
    with plan.log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *_derpd(plan, settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environ(),
            start_new_session=True,
        )
        return Child(plan, process, log.tell())


async def print_node(plan: NodePlan, settings: Sequence[str]) -> str:
    """Have a node print its entry for the region's file.

    Raises:
        NodeFailed: Its configuration cannot be used.
    """
    process = await asyncio.create_subprocess_exec(
        *_derpd(plan, settings),
        "--print-node",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environ(),
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        said = err.decode("utf-8", "replace").strip()
        reason = f"derpd --print-node ended with exit status {process.returncode}"
        raise NodeFailed(plan, reason, said, ended=True)
    return out.decode()


def _derpd(plan: NodePlan, settings: Sequence[str]) -> list[str]:
    overrides = [word for setting in settings for word in ("--set", setting)]
    config = str(plan.config_file)
    return [sys.executable, "-m", "derpmesh.daemon", "--config", config, *overrides]


def _environ() -> dict[str, str]:
    """Give a node none of our `DERPD_` variables, which would override its file."""
    items = os.environ.items()
    return {name: value for name, value in items if not name.startswith("DERPD_")}


async def wait_ready(child: Child) -> NodeView:
    """Wait until a node serves; give what it says of itself.

    Raises:
        NodeFailed: It ended, or is not ready in time.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + READY_WITHIN
    admin = Admin(child.plan.admin, _QUESTION)
    reason = "its admin listener does not answer"
    while clock() < deadline:
        if child.ended is not None:
            said = f"ended with {child.ended} before it was ready"
            raise NodeFailed(child.plan, said, child.tail(), ended=True)
        try:
            ready, text = await admin.is_ready()
            if ready:
                return await admin.node()
            reason = text
        except AdminFailed as exc:
            reason = exc.reason
        await asyncio.sleep(_POLL)
    said = f"not ready in {READY_WITHIN:g} s: {reason}"
    raise NodeFailed(child.plan, said, child.tail(), ended=False)


async def stop_all(children: Sequence[Child]) -> None:
    """End all of them, at the same time."""
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(child.stop())


def log_note(path: Path, tail: str) -> str:
    """Quote the end of a log."""
    indented = "\n".join(f"  {line}" for line in tail.splitlines())
    return f"the end of its log, {path}:\n{indented}"
