"""The registry in a plain file, for regions without etcd.

The same file is put on every node. It is watched: an edit opens and closes links,
and a broken one is reported while the last good one stays in force.
"""

import asyncio
import reprlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ConfigDict, ValidationError

from derpmesh.membership.errors import (
    RegistryError,
    RegistryInvalid,
    RegistryUnavailable,
)
from derpmesh.membership.model import (
    Change,
    Drain,
    Member,
    Membership,
    Record,
    Region,
    Rule,
    difference,
)
from derpnode.server.watch import FileWatch
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, parse_node_key


INTERVAL = 0.5
"""Seconds between two looks; a change counts once two looks in a row agree on it."""

MAX_SIZE = 1 << 20
"""Bytes of a file that is still read."""

_HINT = "see docs/reference/region-file.md"

_SHORT = reprlib.Repr()  # aliases of aliases make a few lines fill any memory
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 100


class _RegionEntry(Region):
    model_config = ConfigDict(extra="forbid")


class _MemberEntry(Member):
    model_config = ConfigDict(extra="forbid")

    drain: bool = False
    """Whether the node is to send its clients to the others."""


class _ClientsEntry(Record):
    model_config = ConfigDict(extra="forbid")

    allow: list[str] = []  # noqa: RUF012 - pydantic copies it
    """`nodekey:…` of clients that are let in, whatever admission says."""

    deny: list[str] = []  # noqa: RUF012
    """`nodekey:…` of clients that are kept out."""


class _RegionFile(Record):
    """The whole file: a region and its nodes, in the order of the map."""

    model_config = ConfigDict(extra="forbid")

    region: _RegionEntry
    nodes: list[_MemberEntry]
    clients: _ClientsEntry = _ClientsEntry()


@dataclass(frozen=True)
class _Parsed:
    region: Region
    members: tuple[Member, ...]
    drains: Mapping[str, Drain]
    clients: Mapping[NodeKey, Rule]


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
        self._failure: RegistryError | None = None
        self._bad: bytes | None = None
        self._seen: bytes | None = None

    async def read(self) -> Membership:
        """See the port.

        After a failure, a content counts once two reads in a row have found it:
        whoever mends the file may not be done.
        """
        content = self._settled()
        try:
            # YAML takes seconds for a megabyte, and packets must not wait for it.
            parsed = await asyncio.to_thread(_parse, content, str(self._path))
        except RegistryInvalid as exc:
            self._failure, self._bad = exc, content
            raise
        self._failure = self._bad = None
        self._last = self._next(parsed)
        return self._last

    def _settled(self) -> bytes:
        """Give the content, unless it is in doubt."""
        before, self._seen = self._seen, None
        try:
            self._seen = content = _content(self._path)
        except RegistryUnavailable as exc:
            self._failure, self._bad = exc, None
            raise
        if self._failure is not None and (content != before or content == self._bad):
            raise self._failure.with_traceback(None)
        return content

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
        last = self._last
        found = Membership(
            1 if last is None else last.revision + 1,
            parsed.region,
            {member.name: member for member in parsed.members},
            drains=parsed.drains,
            clients=parsed.clients,
        )
        if last is not None and difference(last, found) == Change(found.revision):
            return last
        return found


def parse_region(path: Path) -> _Parsed:
    """Read a region file and judge it.

    Raises:
        RegistryUnavailable: It cannot be read.
        RegistryInvalid: It is no region file; says where and why.
    """
    return _parse(_content(path), str(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RegistryUnavailable(str(path), exc.strerror or str(exc)) from exc


def _parse(content: bytes, where: str) -> _Parsed:
    if len(content) > MAX_SIZE:
        reason = f"{len(content)} bytes, limit is {MAX_SIZE}"
        raise RegistryInvalid(where, reason, _HINT)
    return parse_region_text(content.decode("utf-8", "replace"), where)


def parse_region_text(text: str, where: str) -> _Parsed:
    """Judge the content of a region file.

    Raises:
        RegistryInvalid: It is no region file; says where and why.
    """
    try:
        found = _RegionFile.model_validate(_yaml(text))
    except yaml.YAMLError as exc:
        reason = f"not YAML: {' '.join(str(exc).split())}"
        raise RegistryInvalid(where, reason, _HINT) from exc
    except ValidationError as exc:
        error = exc.errors()[0]
        place = ".".join(str(part) for part in error["loc"]) or "the file"
        reason = f"{place} = {_SHORT.repr(error['input'])}: {error['msg']}"
        raise RegistryInvalid(where, reason, _HINT) from exc
    names = Counter(member.name for member in found.nodes)
    for name, count in names.items():
        if count > 1:
            raise RegistryInvalid(where, f"nodes: {name} stands there twice", _HINT)
    region = Region(**found.region.model_dump())
    members = tuple(Member(**dict(member)) for member in found.nodes)
    drains = {member.name: Drain() for member in found.nodes if member.drain}
    return _Parsed(region, members, drains, _rules(found.clients, where))


def _rules(said: _ClientsEntry, where: str) -> dict[NodeKey, Rule]:
    """Read the keys of clients.

    Raises:
        RegistryInvalid: One is none, or is both let in and kept out.
    """
    found: dict[NodeKey, Rule] = {}
    lists: tuple[tuple[Rule, list[str]], ...] = (
        ("allow", said.allow),
        ("deny", said.deny),
    )
    for rule, texts in lists:
        for number, text in enumerate(texts):
            place = f"clients.{rule}.{number}"
            try:
                key = parse_node_key(text)
            except BadKeyText as exc:
                raise RegistryInvalid(where, f"{place}: {exc}", _HINT) from None
            if found.setdefault(key, rule) != rule:
                reason = f"{place} = {text}: it is in the other list, too"
                raise RegistryInvalid(where, reason, _HINT)
    return found


def _yaml(text: str) -> object:
    """Read YAML.

    Raises:
        yaml.YAMLError: It is none, or holds what the library cannot make: the 31st
            of February, a number of 5,000 digits, lists in lists without end.
    """
    try:
        value: object = yaml.safe_load(text)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as exc:
        raise yaml.YAMLError(exc) from exc
    return value


def dump_member(member: Member) -> str:
    """Write one entry for the `nodes` of a region file."""
    text: str = yaml.safe_dump([member.plain()], sort_keys=False)
    return text
