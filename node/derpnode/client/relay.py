"""The way to a server: its name, its addresses, TCP and TLS."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from derpnode.client.errors import (
    ClientError,
    DialFailed,
    ResolveFailed,
    TlsFailed,
    layer,
)
from derpnode.client.stream import Stream
from derpnode.client.tls import PIN_PREFIX, ClientTls, client_context
from derpnode.config import is_ip


TIMEOUT: Final = 10.0
"""Seconds from name to login. Source: ``derphttp_client.go``, ``connect``."""

DIAL_TIMEOUT: Final = 1.5
"""Seconds for one TCP connect. Source: ``derphttp_client.go``, ``dialNodeTimeout``."""

_ANYBODY = ClientTls(PIN_PREFIX)  # with a pin, OpenSSL checks nothing


@dataclass(frozen=True, slots=True)
class Relay:
    """A server to dial, as a client's map has it."""

    host: str
    """DNS name or IP address: SNI, HTTP Host, and what is looked up."""
    port: int
    tls: ClientTls | None
    """None dials plain HTTP."""
    addresses: Sequence[str] = ()
    """IP addresses to dial instead of looking the host up."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else self._plain

    @property
    def _plain(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """The HTTP Host header."""
        default = 80 if self.tls is None else 443
        return str(self).removesuffix(f":{default}")

    async def resolve(self, *, within: float = TIMEOUT) -> list[str]:
        """Find out which IP addresses to dial, best first.

        Raises:
            ResolveFailed: The name has none.
        """
        given = self.addresses or ([self.host] if is_ip(self.host) else [])
        if given:
            return list(given)
        hint = "check the name and this machine's resolver"
        async with layer(ResolveFailed, self.host, within, hint):
            found = await asyncio.get_running_loop().getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )
        return list(dict.fromkeys(str(place[0]) for *_, place in found))

    async def dial(self, ip: str, *, within: float = DIAL_TIMEOUT) -> socket.socket:
        """Connect to one address; the socket is yours to close.

        Raises:
            DialFailed: Clients go on to the next address, or node.
        """
        where = f"[{ip}]:{self.port}" if ":" in ip else f"{ip}:{self.port}"
        hint = "check that the node runs, and what is in between"
        four = ipaddress.ip_address(ip).version == 4  # noqa: PLR2004 - IPv4
        family = socket.AF_INET if four else socket.AF_INET6
        async with layer(DialFailed, where, within, hint):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.get_running_loop().sock_connect(sock, (ip, self.port))
            except BaseException:
                sock.close()
                raise
        return sock

    async def secure(self, sock: socket.socket, *, within: float = TIMEOUT) -> Stream:
        """Make a stream of a connected socket, which belongs to it from now on.

        Raises:
            TlsFailed: See `check_certificates`; or there was no handshake.
        """
        stream = await self._meet(sock, self.tls, within)
        if self.tls is not None:
            stream.check(self.tls, self.host, datetime.now(UTC))
        return stream

    async def meet(self, sock: socket.socket, *, within: float = TIMEOUT) -> Stream:
        """Make a stream as `secure` does, but whoever the server is.

        For who wants to know what is wrong with `Stream.presented`: whatever is said
        on it, anybody may hear.

        Raises:
            TlsFailed: There was no handshake.
        """
        return await self._meet(
            sock, _ANYBODY if self.tls is not None else None, within
        )

    async def _meet(
        self, sock: socket.socket, tls: ClientTls | None, within: float
    ) -> Stream:
        hint = "check the certificate, the name in it and the pin in the map"
        name = "" if is_ip(self.host) else self.host  # an empty name sends no SNI
        try:
            context = client_context(tls) if tls is not None else None
            async with layer(TlsFailed, str(self), within, hint):
                _, stream = await asyncio.get_running_loop().create_connection(
                    lambda: Stream(str(self), self.authority),
                    sock=sock,
                    ssl=context,
                    server_hostname=name if context else None,
                )
        except BaseException:
            sock.close()
            raise
        return stream

    async def open(self, *, within: float = TIMEOUT) -> Stream:
        """Resolve, dial each address until one answers, and secure."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        failed: ClientError | None = None
        for ip in await self.resolve(within=within):
            try:
                left = max(deadline - clock(), 0.0)
                sock = await self.dial(ip, within=min(left, DIAL_TIMEOUT))
            except DialFailed as exc:
                failed = exc
            else:
                return await self.secure(sock, within=max(deadline - clock(), 0.0))
        raise failed or ResolveFailed(self.host, "it has no address", "give it one")
