"""Finds out the map again and again, and puts it where it is served from."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from derpctl.cluster import Published
from derpctl.errors import CtlError
from derpctl.serve.cache import Cache
from derpctl.serve.shelf import Shelf
from derpctl.serve.usable import check_usable


@dataclass
class Feed:
    """Follows the region.

    Args:
        shelf: Where the map is put.
        look: Finds it out.
        cache: Keeps it over restarts; None: nothing does.
        say: Tells an operator what is new; each thing once.
    """

    shelf: Shelf
    look: Callable[[], Awaitable[Published]]
    cache: Cache | None
    say: Callable[[str], None]

    _told: str = ""

    def remember(self) -> None:
        """Take the map that was kept, until one is found out."""
        if self.cache is None:
            return
        try:
            kept = self.cache.read()
        except CtlError as exc:
            self.say(str(exc))
            return
        if kept is not None:
            self.shelf.remember(kept)
            self.say(f"serving revision {self.shelf.revision}, as it was kept")

    async def run(
        self,
        interval: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Look, and look again after a while. Never ends."""
        while True:
            await self.step()
            await sleep(interval)

    async def step(self) -> None:
        """Look once. Whatever goes wrong, the last good map stays."""
        try:
            found = await self.look()
            check_usable(found.derp_map)
        except CtlError as exc:
            self._tell(str(exc))
            return
        if self.shelf.offer(found.derp_map, is_stale=bool(found.stale)):
            await self._keep(found)
        self._tell(found.stale)

    async def _keep(self, found: Published) -> None:
        self.say(f"serving revision {self.shelf.revision}, from {found.source}")
        if self.cache is None:
            return
        try:
            await asyncio.to_thread(self.cache.write, found.derp_map)
        except CtlError as exc:
            self.say(str(exc))

    def _tell(self, trouble: str) -> None:
        """Say what is wrong, or that nothing is any more, if that is news."""
        if trouble == self._told:
            return
        self._told = trouble
        if not trouble:
            self.say("the region can be read again")
        elif self.shelf.document is None:
            self.say(f"{trouble}; there is no map to serve")
        else:
            self.say(f"{trouble}; the last good map is served")
