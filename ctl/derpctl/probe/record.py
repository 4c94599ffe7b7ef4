"""Keeps what a probe finds: one check for each layer, timed."""

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from derpctl.probe.checks import Check, Status
from derpctl.probe.stun import StunFailed
from derpnode.client import ClientError


@dataclass
class Draft:
    """A check while it runs."""

    detail: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    seconds: float | None = None
    """Set it where the time to show is not that of the whole step."""
    failed: bool = False
    """Known once the block is left."""

    def trips(self, found: Sequence[float]) -> None:
        """Note round trips, in seconds: the median is what counts."""
        lowest, highest = min(found), max(found)
        self.seconds = statistics.median(found)
        self.detail = (
            f"{len(found)} round trips, {lowest * 1000:.2f} to {highest * 1000:.2f} ms"
        )
        self.values = {"min": lowest, "max": highest, "count": len(found)}


class Record:
    """The checks so far, in the order in which they were made."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def check(self, layer: str) -> "Timed":
        """Time a check. What its layer throws ends the block and becomes its result."""
        return Timed(self, layer)

    def note(self, layer: str, detail: str) -> None:
        """Keep something good that took no time."""
        self.checks.append(Check(layer, Status.OK, detail))

    def fail(self, layer: str, detail: str, seconds: float | None = None) -> None:
        """Keep something bad."""
        self.checks.append(Check(layer, Status.FAILED, detail, seconds))

    def skip(self, layer: str, why: str) -> None:
        """Keep that there was nothing to check, and why."""
        self.checks.append(Check(layer, Status.SKIPPED, why))


class Timed:
    """A block that makes one check; its errors stay in it."""

    def __init__(self, record: Record, layer: str) -> None:
        self._record = record
        self._layer = layer
        self._draft = Draft()
        self._started = 0.0

    async def __aenter__(self) -> Draft:
        self._started = asyncio.get_running_loop().time()
        return self._draft

    async def __aexit__(self, _kind: object, exc: object, _trace: object) -> bool:
        draft = self._draft
        took = asyncio.get_running_loop().time() - self._started
        if exc is None:
            seconds = took if draft.seconds is None else draft.seconds
            done = Check(self._layer, Status.OK, draft.detail, seconds, draft.values)
            self._record.checks.append(done)
            return False
        if not isinstance(exc, ClientError | StunFailed):
            return False
        draft.failed = True
        self._record.fail(self._layer, str(exc), took)
        return True
