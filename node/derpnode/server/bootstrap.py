"""Names published at `/bootstrap-dns`, looked up now and then."""

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Sequence


logger = logging.getLogger(__name__)

REFRESH = 600.0
"""Seconds between two look-ups. Source: cmd/derper/bootstrap_dns.go."""

TIMEOUT = 60.0
"""Seconds that one name may take. Source: the same."""


class BootstrapNames:
    """Addresses by name; one that cannot be looked up is left out."""

    def __init__(
        self, names: Sequence[str], changed: Callable[[dict[str, list[str]]], None]
    ) -> None:
        self._names = names
        self._changed = changed

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look up and publish until cancelled."""
        while self._names:
            found: dict[str, list[str]] = {}
            for name in self._names:
                addresses = await _look_up(name)
                if addresses:
                    random.shuffle(addresses)
                    found[name] = addresses
            self._changed(found)
            await sleep(REFRESH)


async def _look_up(name: str) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as exc:
        logger.warning("bootstrap-dns: %s: %s; left out until the next look", name, exc)
        return []
    return sorted({str(address[4][0]) for address in found})
