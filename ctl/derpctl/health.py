"""Judges a region by what its nodes say. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.documents import document
from derpctl.exits import Exit
from derpctl.links import LinkRow, link_rows
from derpctl.reports import Report


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
class Verdict:
    """How a region is, and why."""

    health: Health
    serving: int
    """Nodes that serve clients."""
    links: Sequence[LinkRow]
    """Every link that there is or should be, from each node to each other."""
    problems: Sequence[str]
    """What is not well, a line each."""
    notes: Sequence[str]
    """What an operator should look at though all is well, a line each."""

    @property
    def links_up(self) -> int:
        """How many of the links carry packets."""
        return sum(link.is_up for link in self.links)


def judge(region: int, reports: Sequence[Report]) -> Verdict:
    """Say how a region is.

    A node whose admin nobody listens at is dead. One that is only silent may
    be well, as relays do not need their admin: with nothing but such nodes, or
    them and dead ones, the region is `UNKNOWN`, not `CRITICAL`.
    """
    links = link_rows(reports)
    problems = [problem for report in reports for problem in _problems(region, report)]
    problems += [str(link) for link in links if not link.is_up and link.is_known]
    serving = sum(report.state == "serving" for report in reports)
    answered = any(report.view is not None or report.recorded for report in reports)
    if serving:
        health = Health.DEGRADED if problems else Health.HEALTHY
    elif answered or all(report.dead for report in reports):
        health = Health.CRITICAL
    else:
        health = Health.UNKNOWN
    notes = [
        f"{report.name}: {note}"
        for report in reports
        if report.view is not None
        for note in report.view.node.notes
    ]
    notes += [
        f"{report.name}: {report.recorded}, as the registry has it: {report.error}"
        for report in reports
        if report.recorded
    ]
    return Verdict(health, serving, links, problems, notes)


def _problems(region: int, report: Report) -> list[str]:
    if report.recorded == "serving":
        return []
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
        mesh={"up": verdict.links_up, "expected": len(verdict.links)},
        problems=list(verdict.problems),
        notes=list(verdict.notes),
        items=node_items(reports, verdict),
    )


def node_items(reports: Sequence[Report], verdict: Verdict) -> list[dict[str, object]]:
    """Give all that was said by each node."""
    return [_item(report, verdict.links) for report in reports]


def _item(report: Report, links: Sequence[LinkRow]) -> dict[str, object]:
    seen = report.view.model_dump(mode="json") if report.view is not None else {}
    return {
        "name": report.name,
        "admin": report.admin,
        "alive": report.view is not None,
        "state": report.state,
        "error": report.error,
        "seconds": report.seconds,
        "links": [link.members() for link in links if link.watcher == report.name],
        **seen,
    }
