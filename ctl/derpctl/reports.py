"""Asks every node of a region how it fares, and keeps what each said."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from derpctl import roster
from derpctl.admin import Admin, AdminFailed, LinkView, MembershipView, StatusView
from derpctl.config import CtlConfig, read_token
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.roster import Entry


_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Report:
    """What one node said, or why it said nothing."""

    name: str
    """As in derpctl's configuration."""
    admin: str
    """Whom we asked."""
    view: StatusView | None = None
    links: Sequence[LinkView] | None = None
    """Its links to other nodes; None if it did not say."""
    error: str | None = None
    """Why there is no view."""
    dead: bool = False
    """Whether nobody listens where its admin should be."""
    seconds: float | None = None
    """How long the answer took."""
    membership: MembershipView | None = None
    """The region as the node knows it; None if it did not say."""
    recorded: str = ""
    """What the node says of itself in the registry, where it cannot be asked."""
    source: Admin | None = None
    """Where more can be asked; None if nowhere."""

    @property
    def state(self) -> str:
        """The node's own word for it; `dead` or `silent` if it has none."""
        if self.view is not None:
            return self.view.node.state
        if self.recorded:
            return self.recorded
        return "dead" if self.dead else "silent"


async def ask_all(config: CtlConfig, *, timeout: float) -> list[Report]:  # noqa: ASYNC109 - part of each report
    """Ask every node at once, and then those that they know of and we did not.

    The order is that of the configuration; the others follow as the region has them.
    Who was taken out of the region is left out, though it is configured.

    Raises:
        CtlError: The token or the authorities cannot be read, or nobody knows a node.
    """
    token = read_token(config.token_file)

    async def ask(entries: Sequence[Entry]) -> list[Report]:
        admins = [roster.admin_of(one, config, token, timeout) for one in entries]
        return list(await asyncio.gather(*map(_ask, entries, admins)))

    found = await ask(await roster.begun(config))
    names = [report.name for report in found]
    pages = [report.membership for report in found if report.membership is not None]
    more = roster.others(names, pages)
    struck = roster.taken_out(pages)
    return [*(one for one in found if one.name not in struck), *(await ask(more))]


async def _ask(entry: Entry, admin: Admin) -> Report:
    if not entry.admin:
        error = "no admin URL of it is known; see admin.listen in its configuration"
        return Report(
            entry.name, "", links=entry.links, error=error, recorded=entry.recorded
        )
    clock = asyncio.get_running_loop().time
    started = clock()
    status, links, membership = await asyncio.gather(
        admin.status(), admin.links(), admin.membership(), return_exceptions=True
    )
    took = clock() - started
    if isinstance(status, AdminFailed):
        return Report(
            entry.name, entry.admin, error=str(status), dead=status.dead, source=admin
        )
    if isinstance(status, BaseException):
        raise status
    return Report(
        entry.name,
        entry.admin,
        status,
        _unless_failed(links),
        seconds=took,
        membership=_unless_failed(membership),
        source=admin,
    )


def _unless_failed(found: _Value | BaseException) -> _Value | None:
    """Give an answer; None where an older node has no such page."""
    if isinstance(found, AdminFailed):
        return None
    if isinstance(found, BaseException):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a node let go, or why it did not answer."""

    name: str
    let_go: Sequence[str] = ()
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.name}: {self.error}"
        if not self.let_go:
            return f"{self.name}: nothing is held"
        return f"{self.name}: let go {', '.join(self.let_go)}"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {"name": self.name, "let_go": list(self.let_go), "error": self.error}


async def confirm_all(config: CtlConfig, *, timeout: float) -> list[Confirmed]:  # noqa: ASYNC109 - of each
    """Have every node let go what it holds.

    Raises:
        CtlError: The token or the authorities cannot be read.
    """

    async def one(report: Report) -> Confirmed:
        if report.view is None or report.source is None:
            return Confirmed(report.name, error=report.error)
        try:
            found = await report.source.confirm()
        except AdminFailed as exc:
            return Confirmed(report.name, error=str(exc))
        return Confirmed(report.name, found.let_go)

    reports = await ask_all(config, timeout=timeout)
    return list(await asyncio.gather(*map(one, reports)))


async def every_admin(
    config: CtlConfig,
    *,
    timeout: float,  # noqa: ASYNC109 - of each question
    only: Sequence[str] = (),
) -> dict[str, Admin]:
    """Give the admin listener of every node by its name, in the order of the map.

    Args:
        config: derpctl's own.
        timeout: Seconds that an answer may take.
        only: Names of the nodes that are wanted; none: all of them.

    Raises:
        CtlError: There is no such node, or the token cannot be read.
    """
    found = await ask_all(config, timeout=timeout)
    wanted = [report_of(config, found, name) for name in only] or found
    return {one.name: one.source for one in wanted if one.source is not None}


def report_of(config: CtlConfig, reports: Sequence[Report], name: str) -> Report:
    """Find what one node said.

    Raises:
        CtlError: There is no such node.
    """
    for report in reports:
        if report.name == name:
            return report
    reason = f"not among the nodes of region {config.region}"
    hint = f"there is {', '.join(report.name for report in reports)}"
    raise CtlError(name, reason, hint, Exit.NOT_FOUND)
