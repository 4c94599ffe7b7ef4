"""A sink that writes every event down, and lets a test wait for one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from derpnode.plane.contract import (
    Bytes,
    Closed,
    Connected,
    ConnectionId,
    Event,
    Opened,
)


E = TypeVar("E", bound=Event)
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds until something that must happen did not."""


class Recorder:
    """Takes the events of a plane. What breaks their order goes to `faults`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        """All of them, oldest first."""

        self.faults: list[str] = []
        self.reactions: list[Callable[[Event], None]] = []
        """Called with each event, from within the sink."""

        self._life: dict[ConnectionId, type[Event]] = {}
        self._news = asyncio.Event()

    def __call__(self, batch: Sequence[Event]) -> None:
        for event in batch:
            self._check(event)
            self.events.append(event)
            for react in self.reactions:
                react(event)
        self._news.set()

    def _check(self, event: Event) -> None:
        """Opened or Connected is first and Closed is last, each once.

        What was dialled in vain has its end alone.
        """
        before = self._life.get(event.id)
        if before is None:
            good = type(event) in {Opened, Connected, Closed}
        else:
            good = before is not Closed and type(event) not in {Opened, Connected}
        if not good:
            self.faults.append(f"{event} after {before}")
        if before is None or type(event) is Closed:
            self._life[event.id] = type(event)

    def of(self, kind: type[E], connection: ConnectionId | None = None) -> list[E]:
        """Give the events of a kind, of one connection or of all."""
        return [
            event
            for event in self.events
            if type(event) is kind and connection in {None, event.id}
        ]

    def stream(self, connection: ConnectionId) -> bytes:
        """Give what a stream brought so far."""
        return b"".join(event.data for event in self.of(Bytes, connection))

    async def until(self, condition: Callable[[], T]) -> T:
        """Wait until events have made a condition true; return its value."""
        async with asyncio.timeout(PATIENCE):
            while not (value := condition()):
                self._news.clear()
                await self._news.wait()
            return value

    async def next(
        self, kind: type[E], connection: ConnectionId | None = None, count: int = 1
    ) -> E:
        """Wait until there were so many events of a kind; return the last of them."""
        await self.until(lambda: len(self.of(kind, connection)) >= count)
        return self.of(kind, connection)[count - 1]
