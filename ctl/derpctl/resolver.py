"""Looks up names of hosts without waiting, at the end, for those that hang.

The standard library's executor is waited for when a loop ends, and again when the
process does, so a name server that is away would hold up a command that is done.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult


_Info = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]


class Resolver(AbstractResolver):
    """Asks the system, in a thread for each look-up that nobody waits for."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give the addresses of a host.

        Raises:
            OSError: There is no such name, or nobody knows.
        """
        found = await self._ask(host, port, family)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=numeric,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Do nothing: threads that wait for a name end with the process."""

    async def _ask(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> Sequence[_Info]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[_Info]] = loop.create_future()

        def tell(found: Sequence[_Info] | OSError) -> None:
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def ask() -> None:
            found: Sequence[_Info] | OSError
            try:
                found = socket.getaddrinfo(
                    host, port, family=family, type=socket.SOCK_STREAM
                )
            except OSError as exc:
                found = exc
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=ask, daemon=True).start()
        return await answer
