"""What happened to one node: the last events, in memory, and a way to wait for more."""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from derpnode.kinds import Kind


SIZE: Final = 1024
"""Events that are kept; with one more, the oldest is forgotten."""

MAX_TEXT: Final = 500
"""Characters of a text; peers have a say in some, and the rest is cut off."""

Value = str | int | float | bool


@dataclass(frozen=True)
class Event:
    """Something that happened. It names no client, and holds no secret."""

    number: int
    """Grows by one with each event of the same process; the first is 1."""

    time: datetime
    kind: Kind
    subject: str
    """Whom it is about: a node or the peer of a link; empty: the node itself."""

    text: str
    """For people; may change from version to version."""

    fields: Mapping[str, Value] = field(default_factory=dict)
    """For programs."""

    def document(self) -> dict[str, object]:
        """Give it as JSON has it."""
        moment = self.time.isoformat(timespec="milliseconds")
        return {
            "number": self.number,
            "time": moment.replace("+00:00", "Z"),
            "kind": self.kind.value,
            "subject": self.subject,
            "text": self.text,
            "fields": dict(self.fields),
        }


class Journal:
    """The last events of this process.

    Args:
        now: Gives the time of day, in UTC.
        size: How many events are kept.
    """

    def __init__(self, now: Callable[[], datetime], size: int = SIZE) -> None:
        self.instance = secrets.token_hex(8)
        """Another one in each process, so that readers notice that numbers are new."""

        self.counts: Counter[str] = Counter()
        """Events by kind, those forgotten included."""

        self._now = now
        self._events: deque[Event] = deque(maxlen=size)
        self._last = 0
        self._closed = False
        self._news = asyncio.Event()  # set once, by the next event

    @property
    def last(self) -> int:
        """Number of the newest event; 0: there was none."""
        return self._last

    @property
    def closed(self) -> bool:
        """Whether nobody is to wait any more, since the process ends."""
        return self._closed

    def add(
        self, kind: Kind, subject: str = "", text: str = "", **fields: Value
    ) -> None:
        """Note that something happened, and wake those who wait for it.

        Args:
            kind: What.
            subject: Whom it is about, as in `Event`.
            text: What to tell an operator. Whoever calls also logs it, if it is
                worth a line; nothing is logged here.
            fields: The same for programs.
        """
        self._last += 1
        self.counts[kind.value] += 1
        event = Event(self._last, self._now(), kind, subject, text[:MAX_TEXT], fields)
        self._events.append(event)
        self._wake()

    def after(self, number: int) -> Sequence[Event]:
        """Give what is still kept of the events after a number, oldest first."""
        kept = self._events
        first = self._last - len(kept) + 1
        return [kept[at] for at in range(max(number + 1 - first, 0), len(kept))]

    def missed(self, number: int) -> int:
        """Say how many events after a number are forgotten."""
        return max(self._last - len(self._events) - number, 0)

    async def news(self, after: int) -> None:
        """Wait until there is an event after a number, or the process ends.

        May be cancelled at any time.
        """
        while self._last <= after and not self._closed:
            await self._news.wait()

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
