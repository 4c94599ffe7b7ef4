"""Which events an operator wants to see."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from derpctl.errors import CtlError
from derpctl.events.views import Told
from derpctl.exits import Exit


_DURATION = re.compile(r"(?:[0-9]{1,5}[smhd]){1,4}")
_PART = re.compile(r"([0-9]+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events."""

    kinds: frozenset[str] = frozenset()
    """Of these kinds; none: of every kind."""

    since: datetime | None = None
    """Not those of before, by the clock of the node that tells them."""

    def of(self, told: Iterable[Told], *, fresh: bool) -> list[Told]:
        """Choose.

        Args:
            told: Events.
            fresh: Whether they have just happened; a node's clock may be wrong.
        """
        since = None if fresh else self.since
        return [
            one
            for one in told
            if (not self.kinds or one.event.kind in self.kinds)
            and (since is None or one.event.time >= since)
        ]


def merged(told: Iterable[Sequence[Told]]) -> list[Told]:
    """Put what several nodes told in the order of time."""
    return sorted(
        (one for some in told for one in some),
        key=lambda one: (one.event.time, one.node, one.event.number),
    )


def parse_since(text: str) -> timedelta:
    """Read a duration: `90s`, `10m`, `1h30m`, `2d`.

    Raises:
        CtlError: It is none.
    """
    if not _DURATION.fullmatch(text):
        reason, hint = "not a duration", "give one such as 90s, 10m, 1h30m or 2d"
        value = f"--since = {text}"
        raise CtlError(value, reason, hint, Exit.USAGE)
    parts = [
        timedelta(**{_UNITS[unit]: int(count)}) for count, unit in _PART.findall(text)
    ]
    return sum(parts, timedelta())
