"""Gets the map of the region from whoever knows what is wanted of it.

That is the registry; while it is away, its nodes as they last read it. How a node fares
is never in the map: one that is dead takes nothing from anybody.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from derpctl.admin import Admin, AdminFailed, MembershipView, NodeView
from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.assemble import Entry, assemble
from derpctl.map.errors import MapError
from derpctl.map.model import DerpMap
from derpctl.map.read import read_derp_map, read_node
from derpctl.reports import Report, ask_all
from derpctl.wanted import registry
from derpmesh.membership.derpmap import map_tree
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.model import Member, Region


ETCD = "etcd"

_SNAPSHOT = "snapshot"
_FILE = "file"


@dataclass(frozen=True, slots=True)
class Published:
    """The map that clients of the region are to have."""

    derp_map: DerpMap
    source: str = ETCD
    """Who knew it: `etcd`, or the names of nodes."""
    revision: int | None = None
    """Of the registry; None where none counts."""
    stale: str = ""
    """Why it may not be the last word; empty if it is."""


async def published(config: CtlConfig, *, timeout: float) -> Published:  # noqa: ASYNC109 - part of the error
    """Get the map of the region.

    Args:
        config: derpctl's own.
        timeout: Seconds that an answer of a node may take.

    Raises:
        CtlError: Nobody knows it, or they do not agree.
    """
    stale = ""
    if config.registry.etcd is not None:
        try:
            found = await _recorded(config)
        except RegistryUnavailable as exc:
            if not config.nodes:
                raise registry.unreachable(exc) from exc
            stale = f"the registry is away: {exc.reason}"
        else:
            if found is not None:
                return found
            if not config.nodes:
                raise registry.no_node(config)
            stale = "the registry has no node of the region"  # yet: it is moving there
    return await of_nodes(config, stale, timeout=timeout)


async def _recorded(config: CtlConfig) -> Published | None:
    """Read what is wanted; None where nothing is.

    Raises:
        CtlError: The registry refuses, or has a broken record.
        RegistryUnavailable: It does not answer.
    """
    async with registry.opened(config) as operator:
        found = await operator.wanted()
    if found is None or not found.members:
        return None
    derp_map = map_of(found.intent.region, found.members)
    return Published(derp_map, revision=found.revision)


async def of_nodes(config: CtlConfig, stale: str, *, timeout: float) -> Published:  # noqa: ASYNC109 - part of the error
    """Get the map of the region as its nodes have it.

    Args:
        config: derpctl's own.
        stale: Why the registry is not asked; empty where there is none.
        timeout: Seconds that an answer may take.

    Raises:
        CtlError: None knows it, or they do not agree.
    """
    reports = await ask_all(config, timeout=timeout)
    pages = {
        report.name: report.membership
        for report in reports
        if report.membership is not None
        and report.membership.region is not None
        and report.membership.members
    }
    if pages:
        return _in_force(config, pages, stale)
    return await _of_every_node(config, reports, stale)


def _in_force(
    config: CtlConfig, pages: dict[str, MembershipView], stale: str
) -> Published:
    """Take the region as nodes have it, those that know the most of it.

    Raises:
        CtlError: They read files that differ, or are of another region.
    """
    newest = max(page.revision or 0 for page in pages.values())
    if all(page.source == _FILE for page in pages.values()):
        chosen = pages  # each counts for itself how often it read its file
    else:
        chosen = {n: p for n, p in pages.items() if (p.revision or 0) == newest}
    maps = {name: _map_of_page(config, name, page) for name, page in chosen.items()}
    names = list(maps)
    for name in names[1:]:
        if maps[name] != maps[names[0]]:
            value, hint = "the map", "give every node of the region the same file"
            reason = f"{names[0]} and {name} have it otherwise"
            raise CtlError(value, reason, hint, Exit.INVALID)
    if not stale and all(page.source == _SNAPSHOT for page in chosen.values()):
        stale = "the nodes cannot read the registry"
    page = chosen[names[0]]
    revision = None if page.source == _FILE else page.revision
    return Published(maps[names[0]], ", ".join(names), revision, stale)


def _map_of_page(config: CtlConfig, name: str, page: MembershipView) -> DerpMap:
    try:
        region = Region.model_validate(
            page.region.model_dump() if page.region is not None else {}
        )
        members = [Member.model_validate(one.model_dump()) for one in page.members]
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(map(str, error["loc"]))
        value = f"{name}: {where} = {error['input']!r:.80}"
        hint = "is it of another version?"
        raise CtlError(value, error["msg"], hint, Exit.INVALID) from None
    _check_region(config.region, name, region.id)
    return map_of(region, members)


def map_of(region: Region, members: Sequence[Member]) -> DerpMap:
    """Make the map of a region's records."""
    return read_derp_map(map_tree(region, members))


# Nodes without any registry: each knows itself alone.


async def _of_every_node(
    config: CtlConfig,
    reports: Sequence[Report],
    stale: str,
) -> Published:
    """Ask every node for its entry; one that does not answer would be missing.

    Raises:
        CtlError: One did not answer, or they do not fit together.
    """
    hint = "a map without this node would take it from every client; start it"
    admins: list[Admin] = []
    for report in reports:
        if report.source is None:
            reason = report.error or "it cannot be asked"
            raise CtlError(report.name, reason, hint, Exit.UNREACHABLE)
        admins.append(report.source)
    try:
        views = await asyncio.gather(*(admin.node() for admin in admins))
    except AdminFailed as exc:
        raise CtlError(exc.url, exc.reason, hint, Exit.UNREACHABLE) from exc
    names = ", ".join(view.name for view in views)
    return Published(put_together(config.region, views), names, stale=stale)


def put_together(region: int, views: Sequence[NodeView]) -> DerpMap:
    """Make the map of what nodes say of themselves.

    Raises:
        CtlError: They are of another region, or do not agree.
    """
    for view in views:
        _check_region(region, view.name, view.region.id)
    try:
        return assemble([_entry(view) for view in views])
    except MapError as exc:
        value, hint = "the map", "correct the nodes' configurations"
        raise CtlError(value, str(exc), hint, Exit.INVALID) from exc


def _entry(view: NodeView) -> Entry:
    node = read_node(f"{view.name}.map_entry", dict(view.map_entry))
    return Entry(node, view.region.id, view.region.code, view.region.name)


def _check_region(wanted: int, name: str, found: int) -> None:
    if found != wanted:
        value = f"region = {wanted}"
        reason = f"{name} is in region {found}"
        hint = "correct derpctl's configuration, or the node's"
        raise CtlError(value, reason, hint, Exit.CONFIG)
