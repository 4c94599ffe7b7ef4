"""Notices that a file has changed, and that its writer is done with it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path


Signature = tuple[int, ...]
"""What `stat` says of a file; another signature is another content."""

Sleep = Callable[[float, asyncio.Event], Awaitable[None]]
"""Waits that many seconds, or until the event is set."""


class FileWatch:
    """Tells whether files have changed, each time it is asked.

    Links are followed, so the symlink swap of a Kubernetes secret is a
    change. So is a file that goes away or comes back. Make the watch before
    the first read of the files: then no change falls between the two.

    Args:
        paths: Files that belong together.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._reported = self._latest = self._signatures()

    def changed(self) -> bool:
        """Tell whether the files differ from when this was last true.

        A change counts once two calls in a row have found the same: who
        polls does not read a file that is being written, nor one half of
        a pair.
        """
        current = self._signatures()
        settled = current == self._latest
        self._latest = current
        if not settled or current == self._reported:
            return False
        self._reported = current
        return True

    def _signatures(self) -> tuple[Signature, ...]:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except OSError as exc:
        return (exc.errno or 0,)  # missing is a state like any other
    # The change time as well: `chmod` is how an operator mends a file.
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


async def sleep_or_wake(delay: float, wake: asyncio.Event) -> None:
    """Wait until the event is set, ``delay`` seconds at most."""
    try:
        async with asyncio.timeout(delay):
            await wake.wait()
    except TimeoutError:
        return


async def follow(
    check: Callable[[bool], None], reload: asyncio.Event, interval: float, sleep: Sleep
) -> None:
    """Look at files until cancelled.

    Args:
        check: Looks once; told whether somebody asked for it.
        reload: Set to have it look at once: SIGHUP.
        interval: Seconds between two looks.
        sleep: Waits that long, or until the event is set.
    """
    while True:
        await sleep(interval, reload)
        asked = reload.is_set()
        reload.clear()
        check(asked)
