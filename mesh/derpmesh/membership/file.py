"""The registry in a plain file, for regions without etcd.

The same file is put on every node. It is watched: an edit opens and closes links,
and a broken one is reported while the last good one stays in force.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ConfigDict, ValidationError

from derpmesh.membership.errors import RegistryInvalid, RegistryUnavailable
from derpmesh.membership.model import (
    Change,
    Member,
    Membership,
    Record,
    Region,
    difference,
)
from derpnode.server.watch import FileWatch


INTERVAL = 0.5
"""Seconds between two looks; a change counts once two looks in a row agree on it."""

MAX_SIZE = 1 << 20
"""Bytes of a file that is still read."""

_HINT = "see docs/reference/region-file.md"


class _RegionEntry(Region):
    model_config = ConfigDict(extra="forbid")


class _MemberEntry(Member):
    model_config = ConfigDict(extra="forbid")


class _RegionFile(Record):
    """The whole file: a region and its nodes, in the order of the map."""

    model_config = ConfigDict(extra="forbid")

    region: _RegionEntry
    nodes: list[_MemberEntry]


@dataclass(frozen=True)
class _Parsed:
    region: Region
    members: tuple[Member, ...]


class FileRegistry:
    """Reads one file, and follows it.

    Revisions count the contents that this process has accepted.

    Args:
        path: The file.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._sleep = sleep
        self._watch = FileWatch(path)
        self._last: Membership | None = None

    async def read(self) -> Membership:
        """See the port."""
        self._last = self._next(parse_region(self._path))
        return self._last

    async def changes(self, after: int) -> AsyncGenerator[Change, None]:
        """See the port. Revisions are never forgotten: only the last one is asked."""
        while True:
            await self._sleep(INTERVAL)
            if not self._watch.changed():
                continue
            before = self._last
            found = await self.read()
            if before is not None and found.revision > after:
                after = found.revision
                yield difference(before, found)

    def _next(self, parsed: _Parsed) -> Membership:
        """Number a content: the same one keeps its revision."""
        members = {member.name: member for member in parsed.members}
        last = self._last
        if last is not None:
            same = last.members == members and tuple(last.members) == tuple(members)
            if same and last.region == parsed.region:
                return last
        revision = 1 if last is None else last.revision + 1
        return Membership(revision, parsed.region, members)


def parse_region(path: Path) -> _Parsed:
    """Read a region file and judge it.

    Raises:
        RegistryUnavailable: It cannot be read.
        RegistryInvalid: It is no region file; says where and why.
    """
    try:
        text = path.read_bytes()
    except OSError as exc:
        raise RegistryUnavailable(str(path), exc.strerror or str(exc)) from exc
    if len(text) > MAX_SIZE:
        reason = f"{len(text)} bytes, limit is {MAX_SIZE}"
        raise RegistryInvalid(str(path), reason, _HINT)
    return parse_region_text(text.decode("utf-8", "replace"), str(path))


def parse_region_text(text: str, where: str) -> _Parsed:
    """Judge the content of a region file.

    Raises:
        RegistryInvalid: It is no region file; says where and why.
    """
    try:
        found = _RegionFile.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as exc:
        reason = f"not YAML: {' '.join(str(exc).split())}"
        raise RegistryInvalid(where, reason, _HINT) from exc
    except ValidationError as exc:
        error = exc.errors()[0]
        place = ".".join(str(part) for part in error["loc"]) or "the file"
        reason = f"{place} = {error['input']!r:.100}: {error['msg']}"
        raise RegistryInvalid(where, reason, _HINT) from exc
    names = [member.name for member in found.nodes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RegistryInvalid(where, f"nodes: {twice} stands there twice", _HINT)
    region = Region(**found.region.model_dump())
    members = tuple(Member(**dict(member)) for member in found.nodes)
    return _Parsed(region, members)


def dump_member(member: Member) -> str:
    """Write one entry for the `nodes` of a region file."""
    fields = member.model_dump(exclude_defaults=True)
    plain = {name: _plain(value) for name, value in fields.items()}
    text: str = yaml.safe_dump([plain], sort_keys=False)
    return text


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | str) else str(value)
