"""The registry in a plain file, for regions without etcd.

The same file is put on every node. It is watched: an edit opens and closes links,
and a broken one is reported while the last good one stays in force.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from derpmesh.membership.errors import (
    RegistryError,
    RegistryInvalid,
    RegistryUnavailable,
)
from derpmesh.membership.model import Change, Membership, difference
from derpmesh.membership.regionfile import RegionText, parse_region
from derpnode.server.watch import FileWatch


INTERVAL = 0.5
"""Seconds between two looks; a change counts once two looks in a row agree on it."""


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
            parsed = await asyncio.to_thread(parse_region, content, str(self._path))
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

    def _next(self, parsed: RegionText) -> Membership:
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RegistryUnavailable(str(path), exc.strerror or str(exc)) from exc
