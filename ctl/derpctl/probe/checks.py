"""The result of a probe: one check for each layer, and what they amount to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from derpctl.documents import document
from derpctl.exits import Exit


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """There was nothing to check, or something below it failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found at one layer."""

    layer: str
    status: Status
    detail: str = ""
    """For people: what was found, why it failed, or why it was left out."""
    seconds: float | None = None
    """How long it took, or the round trip that it measured."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Numbers for programs."""


ESSENTIAL = frozenset(
    {
        "tcp",
        "tls",
        "connect",
        "http",
        "server-key",
        "login",
        "identity",
        "fast-start",
        "login-again",
        "relay",
    }
)
"""Layers without which nobody relays; the others cost something, not everything."""


@dataclass(frozen=True, slots=True)
class Result:
    """All checks of one node, in order."""

    name: str
    address: str
    checks: Sequence[Check]

    @property
    def failed(self) -> Check | None:
        """The check that says most: the first essential one, else the first."""
        wrong = [check for check in self.checks if check.status is Status.FAILED]
        essential = [check for check in wrong if check.layer in ESSENTIAL]
        return next(iter([*essential, *wrong]), None)

    @property
    def exit(self) -> Exit:
        """How the command ends."""
        if self.failed is None:
            return Exit.OK
        essential = self.failed.layer in ESSENTIAL
        return Exit.CRITICAL if essential else Exit.DEGRADED

    def document(self) -> dict[str, object]:
        """Make the JSON document."""
        verdicts = {Exit.OK: "ok", Exit.DEGRADED: "degraded"}
        return document(
            "NodeProbe",
            name=self.name,
            address=self.address,
            verdict=verdicts.get(self.exit, "critical"),
            failed=self.failed.layer if self.failed is not None else None,
            items=[
                {
                    "layer": check.layer,
                    "status": check.status.value,
                    "seconds": check.seconds,
                    "detail": check.detail,
                    **check.values,
                }
                for check in self.checks
            ],
        )
