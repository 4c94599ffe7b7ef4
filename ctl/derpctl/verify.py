"""Looks whether somebody who hands the map on has the one that the region publishes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from derpctl.cluster import published
from derpctl.config import load_ctl_config
from derpctl.errors import CtlError
from derpctl.export import check
from derpctl.map.canonical import revision as content_of
from derpctl.map.diff import Change, diff
from derpctl.map.model import DerpMap
from derpctl.sources import Source


_PAUSE = 2.0
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What somebody has, beside what they should have."""

    shown: str
    """Who was asked."""
    content: str
    """Names the map that the region publishes."""
    changes: Sequence[Change]
    """What is to change there; nothing, if they have it."""
    problem: str = ""
    """Why they could not be asked."""
    stale: str = ""
    """Why what the region publishes may not be the last word."""

    @property
    def has_it(self) -> bool:
        """Whether they have the map of the region."""
        return not self.changes and not self.problem

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        if self.has_it:
            return f"{self.shown}: has map {self.content}"
        many = len(self.changes)
        things = "thing" if many == 1 else "things"
        return f"{self.shown}: not map {self.content}: {many} {things} to change there"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "against": self.shown,
            "map": self.content,
            "current": self.has_it,
            "problem": self.problem or None,
            "items": [change.members() for change in self.changes],
        }


async def verify(
    source: Source,
    config: Path,
    *,
    timeout: float,  # noqa: ASYNC109 - part of the error
    ignore_order: bool = False,
) -> Verified:
    """Compare what somebody has of the own region with what it publishes.

    Other regions are their business. Who gives nodes an order of their own is not
    blamed for that.

    Args:
        source: Whom to ask.
        config: Where derpctl's configuration is.
        timeout: Seconds that an answer may take.
        ignore_order: Take nodes in another order for the same.

    Raises:
        CtlError: The region's own map is not to be had, or who is asked gives no map.
    """
    wanted = await published(load_ctl_config(config), timeout=timeout)
    check(wanted.derp_map)
    derp_map = await source.get(config, timeout=timeout)
    ours = wanted.derp_map.regions.keys()
    theirs = {number: derp_map.regions[number] for number in ours & derp_map.regions}
    found = diff(
        DerpMap(regions=theirs),
        source.sees(DerpMap(regions=wanted.derp_map.regions)),
        ignore_order=ignore_order or source.shuffles,
    )
    content = content_of(wanted.derp_map)
    return Verified(source.shown, content, found.changes, stale=wanted.stale)


async def wait(
    source: Source,
    config: Path,
    *,
    timeout: float,  # noqa: ASYNC109 - part of the error
    patience: float,
    ignore_order: bool = False,
) -> Verified:
    """Look until they have it, for so many seconds; who is away may come back.

    Args:
        source: Whom to ask.
        config: Where derpctl's configuration is.
        timeout: Seconds that an answer may take.
        patience: Seconds to wait.
        ignore_order: Take nodes in another order for the same.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience
    while True:
        try:
            found = await verify(
                source, config, timeout=timeout, ignore_order=ignore_order
            )
        except CtlError as exc:
            found = Verified(source.shown, "", (), problem=str(exc))
        if found.has_it or clock() + _PAUSE > deadline:
            return found
        await asyncio.sleep(_PAUSE)
