"""Asks all nodes of a map at once, and compares it with the region that is known."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from derpctl.cluster import published
from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.map.errors import BadMap
from derpctl.map.lint.finding import Finding
from derpctl.map.model import DerpMap, Node
from derpctl.map.read import read_node
from derpctl.online.drift import Known, drift
from derpctl.online.node import Place, check
from derpctl.reports import ask_all


_AT_ONCE = 64
"""Nodes that are asked at the same time."""

_LEFT_OUT = "the map is not compared with what is registered"


@dataclass(frozen=True, slots=True)
class Looked:
    """What the nodes, and the registry, say to a map."""

    findings: Sequence[Finding]
    remark: str = ""
    """What could not be compared, or may be the past, and why; empty if all is well."""


async def look(
    derp_map: DerpMap,
    config: CtlConfig | None,
    ca_file: Path | None,
    *,
    timeout: float,  # noqa: ASYNC109 - of one step
    left: Callable[[int], None],
) -> Looked:
    """Apply the rules that need more than the map.

    Args:
        derp_map: The map.
        config: derpctl's own; without it, nobody knows what is registered.
        ca_file: Authorities to trust where nothing is pinned; None: those of the
            configuration, or the system's.
        timeout: Seconds for one step with one node.
        left: Told how many nodes have still to answer.
    """
    authorities = ca_file or (config.ca_file if config is not None else None)
    places = [
        Place(f"Regions.{number}.Nodes[{place}]", node)
        for number, region in sorted(derp_map.regions.items())
        for place, node in enumerate(region.nodes)
    ]
    found = await _ask(places, authorities, timeout, left)
    if config is None:
        reason = "derpctl has no configuration; name one by --config"
        return Looked(found, f"{_LEFT_OUT}: {reason}")
    try:
        known = await _known(config, timeout)
    except CtlError as exc:
        return Looked(found, f"{_LEFT_OUT}: {exc}")
    return Looked([*found, *drift(derp_map, known)], known.stale)


async def _ask(
    places: Sequence[Place],
    ca_file: Path | None,
    within: float,
    left: Callable[[int], None],
) -> list[Finding]:
    slots = asyncio.Semaphore(_AT_ONCE)
    waiting = len(places)

    async def one(place: Place) -> list[Finding]:
        nonlocal waiting
        async with slots:
            found = await check(place, ca_file, within=within)
        waiting -= 1
        left(waiting)
        return found

    left(waiting)
    answers = await asyncio.gather(*map(one, places))
    return [finding for found in answers for finding in found]


async def _known(config: CtlConfig, timeout: float) -> Known:  # noqa: ASYNC109 - of one question
    """Find out what is registered, and what the nodes say of themselves.

    Raises:
        CtlError: Nobody knows.
    """
    found = await published(config, timeout=timeout)
    live: dict[str, Node] = {}
    for report in await ask_all(config, timeout=timeout):
        if report.view is not None:
            node = _entry(report.name, dict(report.view.node.map_entry))
            live |= {} if node is None else {report.name: node}
    stale = found.stale and f"{found.stale}; this is as {found.source} has it"
    return Known(found.derp_map, found.source, live, stale)


def _entry(name: str, tree: dict[str, object]) -> Node | None:
    """Read what a node says that it is; None where it says nothing of use."""
    try:
        return read_node(f"{name}.map_entry", tree) if tree else None
    except BadMap:
        return None
