"""The links between the nodes of a region, each in one direction. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from derpctl.admin import LinkView
from derpctl.documents import document
from derpctl.exits import Exit
from derpctl.reports import Report


MISSING = "missing"
"""The watcher knows of no such node."""

UNKNOWN = "unknown"
"""The watcher does not say."""

_UP = "up"
_SELF = "self"
_SAME_KEY = "it has this node's server key: give it a state directory of its own"


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One direction: the watcher learns who is at the watched, and forwards to them."""

    watcher: str
    watched: str
    """Name of a member, or URL of a static peer."""
    state: str
    """`waiting`, `connecting` or `up`; `missing` or `unknown` where there is none."""
    error: str = ""
    """Why it is not up, or was not the last time."""
    view: LinkView | None = None

    @property
    def is_up(self) -> bool:
        """Whether it carries packets."""
        return self.state == _UP

    @property
    def is_known(self) -> bool:
        """Whether the watcher said anything of it."""
        return self.state != UNKNOWN

    def __str__(self) -> str:
        since = f" for {self.view.since:.0f} s" if self.view is not None else ""
        why = f": {self.error}" if self.error else ""
        return f"{self.watcher} to {self.watched}: {self.state}{since}{why}"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        seen = self.view.model_dump(mode="json") if self.view is not None else {}
        seen.pop("peer", None)
        ends = {"from": self.watcher, "to": self.watched}
        return {**ends, **seen, "state": self.state, "error": self.error}


def link_rows(reports: Sequence[Report]) -> list[LinkRow]:
    """List every link that there is, and those that should be: of each to each."""
    names = [report.name for report in reports]
    return [row for report in reports for row in _of(report, names)]


def _of(report: Report, names: Sequence[str]) -> Iterator[LinkRow]:
    siblings = [name for name in names if name != report.name]
    if report.links is None:
        reason = report.error or "it does not tell"
        for name in siblings:
            yield LinkRow(report.name, name, UNKNOWN, reason)
        return
    # A node may be among its own static peers; a sibling that is "self" has its key.
    links = {
        link.peer: link
        for link in report.links
        if link.state != _SELF or link.peer in siblings
    }
    for name in siblings:
        if name not in links:
            reason = "not in the region as this node knows it"
            yield LinkRow(report.name, name, MISSING, reason)
    for name in sorted(links, key=lambda name: _place(name, names)):
        link = links[name]
        error = _SAME_KEY if link.state == _SELF else link.error
        yield LinkRow(report.name, name, link.state, error, link)


def _place(name: str, names: Sequence[str]) -> tuple[int, str]:
    """Sort as derpctl's configuration has them; others come last."""
    return (names.index(name) if name in names else len(names), name)


def links_document(region: int, rows: Sequence[LinkRow]) -> dict[str, object]:
    """Make the document of `derpctl mesh links`."""
    return document(
        "MeshLinks",
        region=region,
        up=sum(row.is_up for row in rows),
        expected=len(rows),
        items=[row.members() for row in rows],
    )


def links_exit(reports: Sequence[Report], rows: Sequence[LinkRow]) -> Exit:
    """Say how the command ends: a region of one node has no links, and is well."""
    if all(report.view is None for report in reports):
        return Exit.UNREACHABLE
    if all(row.is_up for row in rows):
        return Exit.OK
    return Exit.DEGRADED if any(row.is_up for row in rows) else Exit.CRITICAL
