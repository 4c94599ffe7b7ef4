"""Follows the map of the region, and tells of each that is new."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from derpctl.cluster import published
from derpctl.config import load_ctl_config
from derpctl.errors import CtlError
from derpctl.export import check
from derpctl.map.canonical import revision as content_of
from derpctl.map.diff import Difference, diff
from derpctl.map.model import DerpMap


@dataclass(frozen=True, slots=True)
class Seen:
    """A map that is in force, or why there is none to be had."""

    derp_map: DerpMap
    content: str = ""
    revision: int | None = None
    difference: Difference | None = None
    """From the one before; None for the first."""
    problem: str = ""

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        found = self.difference
        return {
            "map": self.content or None,
            "revision": self.revision,
            "reconnecting": list(found.reconnecting) if found else [],
            "changes": [one.members() for one in found.changes] if found else [],
            "problem": self.problem or None,
        }


async def follow(
    config: Path,
    *,
    interval: float,
    debounce: float,
    timeout: float,  # noqa: ASYNC109 - of each question
) -> AsyncGenerator[Seen]:
    """Yield the map, each one that follows, and each reason why there is none.

    Args:
        config: Where derpctl's configuration is.
        interval: Seconds between two looks.
        debounce: Seconds that a new map must stay as it is before it is told.
        timeout: Seconds that an answer may take.
    """
    clock = asyncio.get_running_loop().time
    told: Seen | None = None
    problem, fresh, since = "", "", 0.0
    while True:
        try:
            found = await published(load_ctl_config(config), timeout=timeout)
            check(found.derp_map)
        except CtlError as exc:
            if str(exc) != problem:
                problem = str(exc)
                yield Seen(DerpMap(), problem=problem)
        else:
            problem, content = "", content_of(found.derp_map)
            if content != fresh:
                fresh, since = content, clock()
            is_new = told is None or content != told.content
            if is_new and (told is None or clock() - since >= debounce):
                change = diff(told.derp_map, found.derp_map) if told else None
                told = Seen(found.derp_map, content, found.revision, change)
                yield told
        await asyncio.sleep(interval)
