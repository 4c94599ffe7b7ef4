"""Asks a STUN server how our address looks from there, as clients do."""

import asyncio
import os
import socket
from dataclasses import dataclass

from derpnode.wire import stun
from derpnode.wire.addresses import IPAddress
from derpnode.wire.errors import BadPayload


_TRIES = 3  # netcheck.go sends three to each node


@dataclass(eq=False)
class StunFailed(Exception):
    """No usable answer."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a server answered."""

    ip: IPAddress
    port: int
    seconds: float
    """Round trip."""


class _Socket(asyncio.DatagramProtocol):
    """Waits for the answer to one of our transactions."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[bytes, IPAddress, int]] = (
            asyncio.get_running_loop().create_future()
        )
        self.sent: dict[bytes, float] = {}

    def datagram_received(self, data: bytes, _addr: object) -> None:
        try:
            found = stun.parse_binding_response(data)
        except BadPayload:
            return  # somebody else's
        if found[0] in self.sent and not self.answer.done():
            self.answer.set_result(found)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            reason = exc.strerror if isinstance(exc, OSError) else None
            self.answer.set_exception(StunFailed((reason or str(exc)).lower()))


async def ask(ip: str, port: int, *, within: float) -> Mapped:
    """Ask one server, up to three times.

    Args:
        ip: Its address.
        port: Its UDP port.
        within: Seconds for all tries together.

    Raises:
        StunFailed: It did not answer.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        transport, waiting = await loop.create_datagram_endpoint(
            _Socket, remote_addr=(ip, port), family=family
        )
    except OSError as exc:
        raise StunFailed((exc.strerror or str(exc)).lower()) from exc
    try:
        for _ in range(_TRIES):
            transaction = os.urandom(stun.TRANSACTION_SIZE)
            waiting.sent[transaction] = loop.time()
            transport.sendto(stun.binding_request(transaction))
            await asyncio.wait([waiting.answer], timeout=within / _TRIES)
            if waiting.answer.done():
                answered, found_ip, found_port = waiting.answer.result()
                seconds = loop.time() - waiting.sent[answered]
                return Mapped(found_ip, found_port, seconds)
    finally:
        transport.close()
    raise StunFailed(reason=f"no answer to {_TRIES} requests in {within:g} s")
