"""Whom a change of the map disturbs: what differs, and how many clients that is now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.map.diff import Difference
from derpctl.reports import ask_all


@dataclass(frozen=True, slots=True)
class Counted:
    """The clients that are connected to a region now."""

    region: int
    clients: int | None
    """None where nobody could be asked."""
    silent: Sequence[str] = ()
    """Nodes that did not answer, whose clients are not in it."""

    def __str__(self) -> str:
        if self.clients is None:
            return "how many there are now is not known: no node answers"
        if self.silent:
            names = ", ".join(self.silent)
            return f"at least {self.clients} now; {names} not asked"
        return f"{self.clients} now"


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change does to those that get the map."""

    difference: Difference
    counted: Counted

    @property
    def reconnecting(self) -> int | None:
        """Clients that would reconnect; None where nobody knows how many."""
        if self.counted.region not in self.difference.reconnecting:
            return 0
        if self.counted.silent and not self.counted.clients:
            return None
        return self.counted.clients

    def lines(self) -> Iterator[str]:
        """Yield it in words."""
        for line in self.difference.lines():
            if self.difference.changes and line.startswith("all clients of region"):
                yield f"{line} when they get this map"
            else:
                yield line
        if self.counted.region in self.difference.reconnecting:
            yield f"clients of region {self.counted.region}: {self.counted}"


async def count(config: CtlConfig, *, timeout: float) -> Counted:  # noqa: ASYNC109 - of each question
    """Count the clients of the region, as its nodes say."""
    try:
        reports = await ask_all(config, timeout=timeout)
    except CtlError:  # nobody knows a node yet, or the registry is away
        return Counted(config.region, None)
    views = [one.view for one in reports if one.view is not None]
    silent = [one.name for one in reports if one.view is None and not one.dead]
    if not views and silent:
        return Counted(config.region, None)
    return Counted(
        config.region, sum(view.clients.reconnecting for view in views), silent
    )
