"""What was found from every node of a region to every other. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from derpctl.documents import document
from derpctl.exits import Exit
from derpctl.links import LinkRow


_PERCENTILE = 0.95


class Outcome(StrEnum):
    """What became of the packets from one node to another."""

    OK = "ok"
    SLOW = "slow"
    """They arrive, but the round trip takes longer than it may."""
    LOST = "lost"
    """The sender's node knows where the receiver is, and packets vanish."""
    NOT_ANNOUNCED = "not announced"
    """The sender's node does not know of the receiver: there is no link."""
    REFUSED = "refused"
    """A node does not let us in."""
    CONNECT_FAILED = "connect failed"
    """A node cannot be reached."""


_BETWEEN = frozenset({Outcome.SLOW, Outcome.LOST, Outcome.NOT_ANNOUNCED})
"""What a link may be the cause of."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What was found from one node to another."""

    source: str
    target: str
    outcome: Outcome
    detail: str = ""
    """Why it is not well."""
    announced: float | None = None
    """Seconds until the first packet arrived."""
    sent: int = 0
    received: int = 0
    trips: Sequence[float] = ()
    """Round trips in seconds, of the packets whose answer came."""

    @property
    def median(self) -> float | None:
        """Half of the round trips were faster."""
        return statistics.median(self.trips) if self.trips else None

    @property
    def p95(self) -> float | None:
        """All but five of a hundred were faster."""
        if not self.trips:
            return None
        return sorted(self.trips)[math.ceil(len(self.trips) * _PERCENTILE) - 1]

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "from": self.source,
            "to": self.target,
            "outcome": self.outcome.value,
            "sent": self.sent,
            "received": self.received,
            "rtt_median": self.median,
            "rtt_p95": self.p95,
            "announced": self.announced,
            "detail": self.detail,
        }


def explained(cells: Sequence[Cell], links: Sequence[LinkRow]) -> list[Cell]:
    """Name the link behind each cell that is not well, if it is not well either."""
    by_ends = {(link.watcher, link.watched): link for link in links}
    found = []
    for cell in cells:
        link = by_ends.get((cell.source, cell.target))
        if cell.outcome in _BETWEEN and link is not None and not link.is_up:
            cell = replace(cell, detail=f"{cell.detail}; link {link}")  # noqa: PLW2901
        found.append(cell)
    return found


def exit_of(cells: Sequence[Cell]) -> Exit:
    """Say how the command ends."""
    well = sum(cell.outcome is Outcome.OK for cell in cells)
    if well == len(cells):
        return Exit.OK
    return Exit.DEGRADED if well else Exit.CRITICAL


def mesh_document(
    region: int, cells: Sequence[Cell], **how: object
) -> dict[str, object]:
    """Make the JSON document; `how` it was found is a part of it."""
    verdicts = {Exit.OK: "ok", Exit.DEGRADED: "degraded"}
    return document(
        "MeshProbe",
        region=region,
        verdict=verdicts.get(exit_of(cells), "critical"),
        **how,
        items=[cell.members() for cell in cells],
    )
