"""Asks STUN servers which address we have for the rest of the world."""

import asyncio
import os
import socket
from collections.abc import Sequence

from derpnode.wire.addresses import IPAddress
from derpnode.wire.errors import BadPayload
from derpnode.wire.stun import (
    TRANSACTION_SIZE,
    binding_request,
    parse_binding_response,
)


_TRIES = 3
_WAIT = 1.0  # seconds for each


class _Waiting(asyncio.DatagramProtocol):
    """Takes the first answer to one of our questions."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[IPAddress] = loop.create_future()
        self.asked: set[bytes] = set()

    def datagram_received(self, data: bytes, _addr: object) -> None:
        """See whether it is an answer to us."""
        try:
            transaction, ip, _port = parse_binding_response(data)
        except BadPayload:
            return  # somebody else's
        if transaction in self.asked and not self.answer.done():
            self.answer.set_result(ip)

    def error_received(self, exc: Exception) -> None:
        """Give up a server whose machine says that nobody is there."""
        if not self.answer.done():
            self.answer.set_exception(exc)


async def mapped(servers: Sequence[str]) -> str | None:
    """Give the address that the first server which answers sees; None if none does.

    Args:
        servers: `HOST:PORT`, asked in order.
    """
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            found = await _ask(host.strip("[]"), int(port))
        except (OSError, ValueError):
            continue
        if found is not None:
            return str(found)
    return None


async def _ask(host: str, port: int) -> IPAddress | None:
    """Ask one server.

    Raises:
        OSError: It cannot be asked.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    transport, waiting = await loop.create_datagram_endpoint(
        _Waiting, remote_addr=(str(found[0][4][0]), port), family=found[0][0]
    )
    try:
        for _ in range(_TRIES):
            transaction = os.urandom(TRANSACTION_SIZE)
            waiting.asked.add(transaction)
            transport.sendto(binding_request(transaction))
            await asyncio.wait([waiting.answer], timeout=_WAIT)
            if waiting.answer.done():
                return waiting.answer.result()
    finally:
        transport.close()
    return None
