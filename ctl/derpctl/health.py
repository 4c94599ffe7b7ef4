"""Judges a region by what its nodes say. Pure, but for the asking."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.admin import Admin, AdminFailed, StatusView
from derpctl.config import CtlConfig, NodeAddress, read_token
from derpctl.documents import document
from derpctl.exits import Exit


class Health(StrEnum):
    """How a region is, in a word."""

    HEALTHY = "healthy"
    """Every node serves."""
    DEGRADED = "degraded"
    """Some nodes serve, or something is odd."""
    CRITICAL = "critical"
    """No node serves."""
    UNKNOWN = "unknown"
    """No node says anything, so that nothing is known."""


EXITS = {
    Health.HEALTHY: Exit.OK,
    Health.DEGRADED: Exit.DEGRADED,
    Health.CRITICAL: Exit.CRITICAL,
    Health.UNKNOWN: Exit.UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Report:
    """What one node said, or why it said nothing."""

    name: str
    """As in derpctl's configuration."""
    admin: str
    """Whom we asked."""
    view: StatusView | None = None
    error: str | None = None
    """Why there is no view."""
    dead: bool = False
    """Whether nobody listens where its admin should be."""
    seconds: float | None = None
    """How long the answer took."""

    @property
    def state(self) -> str:
        """The node's own word for it; `dead` or `silent` if it has none."""
        if self.view is not None:
            return self.view.node.state
        return "dead" if self.dead else "silent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a region is, and why."""

    health: Health
    serving: int
    """Nodes that serve clients."""
    problems: Sequence[str]
    """What an operator should look at, a line each."""


def judge(region: int, reports: Sequence[Report]) -> Verdict:
    """Say how a region is.

    A node whose admin nobody listens at is dead. One that is only silent may
    be well, as relays do not need their admin: with nothing but such nodes, or
    them and dead ones, the region is `UNKNOWN`, not `CRITICAL`.
    """
    problems = [problem for report in reports for problem in _problems(region, report)]
    serving = sum(report.state == "serving" for report in reports)
    answered = any(report.view is not None for report in reports)
    if serving:
        health = Health.DEGRADED if problems else Health.HEALTHY
    elif answered or all(report.dead for report in reports):
        health = Health.CRITICAL
    else:
        health = Health.UNKNOWN
    return Verdict(health, serving, problems)


def _problems(region: int, report: Report) -> list[str]:
    if report.view is None:
        return [f"{report.name}: {report.error}"]
    node, found = report.view.node, []
    if node.state != "serving":
        reasons = ", ".join(node.reasons)
        found.append(f"{report.name}: {node.state}{f': {reasons}' if reasons else ''}")
    if node.name != report.name:
        found.append(f"{report.name}: the node there calls itself {node.name}")
    if node.region.id != region:
        found.append(f"{report.name}: it is in region {node.region.id}, not {region}")
    return found


async def ask_all(config: CtlConfig, *, timeout: float) -> list[Report]:  # noqa: ASYNC109 - part of each report
    """Ask every node at once; the order is that of the configuration.

    Raises:
        CtlError: The token or the authorities cannot be read.
    """
    token = read_token(config.token_file)
    jobs = [
        _ask(node, Admin(node.admin, timeout, token, config.ca_file))
        for node in config.nodes
    ]
    return list(await asyncio.gather(*jobs))


async def _ask(node: NodeAddress, admin: Admin) -> Report:
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        view = await admin.status()
    except AdminFailed as exc:
        return Report(node.name, node.admin, error=str(exc), dead=exc.dead)
    return Report(node.name, node.admin, view, seconds=clock() - started)


def status_document(
    region: int, reports: Sequence[Report], verdict: Verdict
) -> dict[str, object]:
    """Make the document that dashboards read; it is made whatever the verdict."""
    return document(
        "Status",
        region=region,
        health=verdict.health.value,
        serving=verdict.serving,
        expected=len(reports),
        problems=list(verdict.problems),
        items=[_item(report) for report in reports],
    )


def _item(report: Report) -> dict[str, object]:
    seen = report.view.model_dump(mode="json") if report.view is not None else {}
    return {
        "name": report.name,
        "admin": report.admin,
        "alive": report.view is not None,
        "state": report.state,
        "error": report.error,
        "seconds": report.seconds,
        **seen,
    }
