"""Tells the service manager that started us how we fare, as systemd has it.

One datagram a message, to the socket that the environment names; where it names none,
nothing is said. Source: ``sd_notify(3)``, ``sd_watchdog_enabled(3)``.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

from derpnode.kinds import Kind
from derpnode.server.journal import Event, Journal


logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]

_UP = frozenset({Kind.SERVING, Kind.DRAINED})
"""A node that is to be empty from its start is up as well: it is what was wished."""

_STATES = {
    Kind.STARTED: "starting",
    Kind.SERVING: "serving",
    Kind.UNREADY: "takes no clients",
    Kind.DRAINING: "draining",
    Kind.DRAINED: "drained",
    Kind.UNDRAINED: "serving",
    Kind.STOPPING: "sending clients elsewhere",
}


class ServiceManager:
    """Whoever started this process and wants to know when it is ready.

    Args:
        environ: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read.
        patience: Seconds that the end may take. It is asked to wait so long, as it
            does not know for how long clients are sent away.
    """

    def __init__(self, environ: Mapping[str, str], *, patience: float = 0.0) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._patience = int(patience * 1_000_000)  # microseconds
        self._is_ready = False
        self.interval = _interval(environ) if name else 0.0
        """Seconds between signs of life; 0: nobody waits for them."""

    async def run(self, journal: Journal, sleep: Sleep = asyncio.sleep) -> None:
        """Tell what happens to the node, and give signs of life, until cancelled."""
        if not self._address:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(journal))
            if self.interval:
                tasks.create_task(self._live(sleep))

    def reloading(self) -> None:
        """Say that files are read again."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}")

    def reloaded(self) -> None:
        """Say that they were."""
        self._say("READY=1")

    async def _follow(self, journal: Journal) -> None:
        told = 0
        try:
            while not journal.closed:
                told = self._tell_after(told, journal)
                await journal.news(told)
        finally:
            self._tell_after(told, journal)

    def _tell_after(self, told: int, journal: Journal) -> int:
        for event in journal.after(told):
            told = event.number
            self._tell(event)
        return told

    def _tell(self, event: Event) -> None:
        state = _STATES.get(event.kind)
        if state is None:
            return
        status = f"STATUS={state}: {event.text}" if event.text else f"STATUS={state}"
        if event.kind is Kind.STOPPING:
            more = f"EXTEND_TIMEOUT_USEC={self._patience}"
            self._say("STOPPING=1", status, *([more] if self._patience else ()))
        elif event.kind in _UP and not self._is_ready:
            self._is_ready = True
            self._say("READY=1", status)
        else:
            self._say(status)

    async def _live(self, sleep: Sleep) -> None:
        """Give signs of life from this loop, which is the one that moves packets."""
        while True:
            self._say("WATCHDOG=1")
            await sleep(self.interval)

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        text = "\n".join(" ".join(line.splitlines()) for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as away:
                away.setblocking(False)
                away.sendto(text.encode(), self._address)
        except OSError as exc:
            logger.debug("service manager: %s; it is not told %r", exc, text)


def _interval(environ: Mapping[str, str]) -> float:
    """Give half the time after which we would be taken for dead; 0: there is none."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 2_000_000
