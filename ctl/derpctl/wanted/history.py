"""What the map of the region was, revision by revision, as its registry has it."""

from collections.abc import Sequence
from dataclasses import dataclass

from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.canonical import revision as content_of
from derpctl.map.diff import Difference, diff
from derpctl.map.model import DerpMap
from derpctl.wanted import registry
from derpctl.wanted.apply import map_of_wanted
from derpmesh.membership.edits import Dated, Wanted, as_of
from derpmesh.membership.operator import Operator


@dataclass(frozen=True, slots=True)
class Step:
    """One revision of the map: who made it of the one before, and how they differ."""

    revision: int
    """Of the registry."""
    content: str
    """Names the map: equal maps have equal ones."""
    at: str
    """RFC 3339, by the clock of whoever wrote it."""
    author: str
    difference: Difference

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "revision": self.revision,
            "map": self.content,
            "at": self.at,
            "author": self.author,
            "reconnecting": list(self.difference.reconnecting),
            "changes": [one.members() for one in self.difference.changes],
        }


async def steps(config: CtlConfig, most: int) -> list[Step]:
    """List the latest revisions of the map, oldest first, each unlike the one before.

    Args:
        config: derpctl's own.
        most: Of them.

    Raises:
        CtlError: The registry cannot be had, or keeps none.
    """
    now, edits = await _read(config)
    numbers = _numbers(edits)
    found = []
    for number in reversed(numbers):
        made = [one.edit for one in edits if one.revision == number]
        after = _map(as_of(now, edits, number))
        difference = diff(_map(as_of(now, edits, number - 1)), after)
        at, author = made[-1].at, made[-1].author
        if difference.changes:  # a region without nodes is not in the map
            found.append(Step(number, content_of(after), at, author, difference))
        if len(found) == most:
            break
    return found[::-1]


async def revision_of(config: CtlConfig, text: str) -> Wanted:
    """Give the region as it was.

    Args:
        config: derpctl's own.
        text: A revision of the registry, or the name of a map's content.

    Raises:
        CtlError: It is not kept, or the registry cannot be had.
    """
    now, edits = await _read(config)
    numbers = _numbers(edits)
    hint = "derpctl map history lists what is kept"
    if text.isdecimal() and len(text) < _CONTENT_SIZE:
        number = int(text)
        if not numbers[0] <= number <= now.revision:
            reason = f"not kept: there is {numbers[0]} to {now.revision}"
            raise CtlError(f"rev:{text}", reason, hint, Exit.NOT_FOUND)
        found = as_of(now, edits, number)
        if found is None:
            value, reason = f"rev:{text}", "the region had no map by then"
            raise CtlError(value, reason, hint, Exit.NOT_FOUND)
        return found
    for number in reversed(numbers):
        found = as_of(now, edits, number)
        if found is not None and content_of(map_of_wanted(found)) == text:
            return found
    reason = "no map of that content is kept"
    raise CtlError(f"rev:{text}", reason, hint, Exit.NOT_FOUND)


_CONTENT_SIZE = 12  # hex digits, which may all be decimal


async def _read(config: CtlConfig) -> tuple[Wanted, Sequence[Dated]]:
    async def look(operator: Operator) -> tuple[Wanted | None, Sequence[Dated]]:
        return await operator.wanted(), await operator.archive.edits()

    now, edits = await registry.ask(config, look)
    if now is None:
        raise registry.no_region(config)
    if not edits:
        value, reason = f"region {config.region}", "no change of its map is kept"
        hint = "they are kept from the next one on"
        raise CtlError(value, reason, hint, Exit.NOT_FOUND)
    return now, edits


def _numbers(edits: Sequence[Dated]) -> list[int]:
    return sorted({one.revision for one in edits})


def _map(wanted: Wanted | None) -> DerpMap:
    return DerpMap() if wanted is None else map_of_wanted(wanted)
