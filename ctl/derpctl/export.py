"""Gets the map from the nodes of a region, and writes it for whoever reads it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from derpctl.admin import AdminFailed, MembershipView, NodeView
from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.acl import acl, acl_fragment
from derpctl.map.assemble import Entry, assemble
from derpctl.map.canonical import canonical_json
from derpctl.map.errors import CannotCarry, MapError
from derpctl.map.headscale import headscale
from derpctl.map.lint import Finding, Severity, Target, Terms, lint
from derpctl.map.model import DerpMap
from derpctl.map.read import read_node
from derpctl.reports import ask_all


_DATE_SIZE = len("2026-01-01")


@dataclass(frozen=True, slots=True)
class Collected:
    """A map, and what to remark on its nodes."""

    derp_map: DerpMap
    notes: Mapping[str, str]


async def collect(config: CtlConfig, *, timeout: float) -> Collected:  # noqa: ASYNC109 - part of the error
    """Ask every node for its entry, those too that only the other ones know of.

    Who was taken out of the region is left out. What the region is called and the
    order of its nodes are as its registry has them; without one the order is that of
    the configuration.

    Raises:
        CtlError: One did not answer, or they do not fit together.
    """
    reports = await ask_all(config, timeout=timeout)
    hint = "a map without this node would take it from every client; start it"
    admins = []
    for report in reports:
        if report.source is None:
            reason = report.error or "it cannot be asked"
            raise CtlError(report.name, reason, hint, Exit.UNREACHABLE)
        admins.append(report.source)
    try:
        views = await asyncio.gather(*(admin.node() for admin in admins))
    except AdminFailed as exc:
        raise CtlError(exc.url, exc.reason, hint, Exit.UNREACHABLE) from exc
    pages = [one.membership for one in reports if one.membership is not None]
    return put_together(config.region, _as_recorded(views, pages))


def _as_recorded(
    views: Sequence[NodeView], pages: Sequence[MembershipView]
) -> Sequence[NodeView]:
    """Put nodes in the order of the registry, in the region that it describes."""
    for page in pages:
        if page.members and page.region is not None:
            order = {member.name: place for place, member in enumerate(page.members)}
            here = page.region
            return sorted(
                (
                    view.model_copy(update={"region": here})
                    if view.region.id == here.id
                    else view
                    for view in views
                ),
                key=lambda view: order.get(view.name, len(order)),
            )
    return views


def put_together(region: int, views: Sequence[NodeView]) -> Collected:
    """Make the map of what the nodes say.

    Raises:
        CtlError: They are of another region, or do not agree.
    """
    for view in views:
        if view.region.id != region:
            value = f"region = {region}"
            reason = f"{view.name} is in region {view.region.id}"
            hint = "correct derpctl's configuration, or the node's"
            raise CtlError(value, reason, hint, Exit.CONFIG)
    try:
        derp_map = assemble([_entry(view) for view in views])
    except MapError as exc:
        value, hint = "the map", "correct the nodes' configurations"
        raise CtlError(value, str(exc), hint, Exit.INVALID) from exc
    notes = {view.name: note for view in views if (note := _note(view))}
    return Collected(derp_map, notes)


def check(found: Collected, form: str) -> list[Finding]:
    """Apply the rules to a map before anybody gets it; return the warnings.

    What is but worth knowing is for `map lint` to say: a trial on loopback is quiet.

    Args:
        found: The map.
        form: The format that it is written in; headscale has rules of its own.

    Raises:
        CtlError: It breaks one, so that clients would fail.
    """
    target = Target.HEADSCALE if form == "headscale" else Target.TAILSCALE
    findings = lint(found.derp_map, Terms(allow_system_ids=True, target=target))
    for finding in findings:
        if finding.severity is Severity.ERROR:
            value = f"{finding.rule}: {finding.path}"
            hint = "correct the nodes' configurations"
            raise CtlError(value, finding.message, hint, Exit.INVALID)
    return [finding for finding in findings if finding.severity is Severity.WARNING]


def render(found: Collected, form: str, *, fragment: bool = False) -> str:
    """Write a map in one of the formats.

    Raises:
        CtlError: The format cannot say all of it.
    """
    try:
        if form == "acl":
            write = acl_fragment if fragment else acl
            return write(found.derp_map, found.notes)
        return _PLAIN[form](found.derp_map)
    except CannotCarry as exc:
        value, hint = f"-f {form}", "use -f derpmap, or take it out"
        raise CtlError(value, str(exc), hint, Exit.REFUSED) from exc


_PLAIN: Mapping[str, Callable[[DerpMap], str]] = {
    "derpmap": canonical_json,
    "headscale": headscale,
}


def _entry(view: NodeView) -> Entry:
    node = read_node(f"{view.name}.map_entry", dict(view.map_entry))
    return Entry(node, view.region.id, view.region.code, view.region.name)


def _note(view: NodeView) -> str:
    """Remark on a pin: it must be in the map before the certificate is."""
    certificate = view.certificate
    if certificate is None or not view.map_entry.get("CertName"):
        return ""
    expires = (certificate.not_after or "")[:_DATE_SIZE]
    return f"pinned certificate{f', expires {expires}' if expires else ''}"
