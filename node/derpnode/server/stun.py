"""The STUN server: tells Tailscale's clients how their address looks from here.

Answers leave from the address that was asked, in both families; whatever is not a
client's question is dropped in silence. asyncio's datagram transport hides the
ancillary data that this takes, hence plain sockets and `recvmsg`.

Source: tailscale ``net/stunserver/stunserver.go`` and ``net/pktinfo``.
"""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from derpnode.config import Address
from derpnode.errors import ConfigError
from derpnode.wire.addresses import IPAddress
from derpnode.wire.stun import binding_response, parse_binding_request


logger = logging.getLogger(__name__)

Ancillary = Sequence[tuple[int, int, bytes]]
"""Control messages of one datagram: level, type, data."""

BATCH = 64
"""Datagrams answered in one turn of the loop; then others have theirs."""

READ_PAUSE = 1.0
"""Seconds without reading after a read error. Source: stunserver.go, ``Serve``."""

_BUFFER_SIZE = 1500  # bytes; a client's request has 40
_RECEIVE_BUFFER = 1 << 20  # bytes asked of the kernel: all clients ask at once

# Linux numbers; the socket module lacks some of them.
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
_PKTINFO = struct.Struct("=i4s4s")  # interface + address to answer from + destination
_PKTINFO6 = struct.Struct("=16si")  # destination + interface
_ANCILLARY_SIZE = socket.CMSG_SPACE(_PKTINFO.size) + socket.CMSG_SPACE(_PKTINFO6.size)

# The interface stays 0 in both: routing picks it, we only pin the address.
_ANY_INTERFACE = 0
_UNSPECIFIED4 = bytes(4)

_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})

_BIND_HINTS = {
    errno.EADDRINUSE: "stop the other server, or choose another port",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
}


@dataclass(slots=True)
class StunCounters:
    """What came of the datagrams that were read.

    Source of the names: derper's ``stun_requests``, ``stun_addrfamily`` and
    ``stun_no_local_addr``.
    """

    success: int = 0
    """Questions answered."""

    not_stun: int = 0
    """Datagrams dropped: no client's question, or from where no answer may go."""

    read_error: int = 0
    """Reads that failed; reading pauses for a second."""

    write_error: int = 0
    """Answers that the kernel would not send."""

    ipv4: int = 0
    """Questions over IPv4, answered or not."""

    ipv6: int = 0
    """Questions over IPv6, answered or not."""

    no_local_addr: int = 0
    """Answers sent from wherever routing chose: the kernel named no address."""

    silent: int = 0
    """Datagrams dropped unread while the node cannot relay. Not derper's."""


class StunServer:
    """Answers binding requests on a few UDP sockets.

    Args:
        listen: Where to; an empty host is every address of both families.
        serving: Says whether the node can relay. While it cannot, nothing
            is answered, so that clients measure it as gone.
    """

    def __init__(
        self, listen: Sequence[Address], *, serving: Callable[[], bool] = lambda: True
    ) -> None:
        self.counters = StunCounters()
        self._listen = listen
        self._serving = serving
        self._sockets: dict[socket.socket, asyncio.TimerHandle | None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._troubled = False  # the last read failed, and we said so

    @property
    def ports(self) -> list[int]:
        """Ports in use, in the order of the addresses; for 0, the one given."""
        return [int(sock.getsockname()[1]) for sock in self._sockets]

    def start(self) -> None:
        """Bind every address and answer from now on; call it in a running loop.

        Raises:
            ConfigError: One cannot be bound. None is, then.
        """
        try:
            for address in self._listen:
                self._sockets[_bind(address)] = None
        except ConfigError:
            self.close()
            raise
        self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._read_from(self._loop, sock)

    def close(self) -> None:
        """Stop answering and free the ports, in the loop that started it.

        May be called twice, and before `start`.
        """
        for sock, pause in self._sockets.items():
            if pause is not None:
                pause.cancel()
            if self._loop is not None:
                self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _read_from(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._sockets[sock] = None
        loop.add_reader(sock, self._drain, sock)

    def _drain(self, sock: socket.socket) -> None:
        """Answer what has arrived, up to a batch."""
        serving = self._serving()
        for _ in range(BATCH):
            try:
                received = sock.recvmsg_into([self._buffer], _ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError as exc:
                self._pause(sock, exc)
                return
            self._troubled = False
            if serving:
                self._answer(sock, *received)
            else:
                self.counters.silent += 1

    def _pause(self, sock: socket.socket, exc: OSError) -> None:
        """Let a broken socket rest, rather than spin on it."""
        self.counters.read_error += 1
        if not self._troubled:
            logger.warning("stun: %s; reading again in %.0f s", exc, READ_PAUSE)
        self._troubled = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        again = loop.call_later(READ_PAUSE, self._read_from, loop, sock)
        self._sockets[sock] = again

    def _answer(
        self,
        sock: socket.socket,
        size: int,
        ancillary: Ancillary,
        flags: int,
        peer: tuple[str, int],
    ) -> None:
        transaction = None
        if not flags & socket.MSG_TRUNC:
            transaction = parse_binding_request(self._view[:size])
        host, port = peer[:2]
        ip = _unmapped(host)
        if transaction is None or not _may_be_answered(ip, port):
            self.counters.not_stun += 1
            return
        if ip.version == 4:  # noqa: PLR2004 - the family's name
            self.counters.ipv4 += 1
        else:
            self.counters.ipv6 += 1
        if not ancillary:
            self.counters.no_local_addr += 1
        try:
            answer = binding_response(transaction, ip, port)
            sock.sendmsg([answer], _pinned(ancillary), 0, peer)
        except OSError:
            self.counters.write_error += 1
        else:
            self.counters.success += 1


def _unmapped(host: str) -> IPAddress:
    """Read an address as a socket gives it; IPv4 comes as such from any socket."""
    if "." in host:
        host = host.removeprefix("::ffff:")
    return ipaddress.ip_address(host)


def _may_be_answered(ip: IPAddress, port: int) -> bool:
    """Refuse the sources that only a forger would write on a datagram."""
    return not (
        port == 0 or ip.is_multicast or ip.is_unspecified or ip == _LIMITED_BROADCAST
    )


_LIMITED_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def _pinned(ancillary: Ancillary) -> list[tuple[int, int, bytes]]:
    """Tell the kernel to answer from the address that was asked.

    IPv4 first: on a dual-stack socket an IPv4 datagram carries both. There
    the address to answer from is right even if the question was a broadcast.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, address, _ = _PKTINFO.unpack(data)
            info = _PKTINFO.pack(_ANY_INTERFACE, address, _UNSPECIFIED4)
            return [(level, kind, info)] if _is_source(address) else []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            address, _ = _PKTINFO6.unpack(data)
            info = _PKTINFO6.pack(address, _ANY_INTERFACE)
            return [(level, kind, info)] if _is_source(address) else []
    return []


def _is_source(packed: bytes) -> bool:
    """Tell an address that can be answered from; others are left to routing."""
    ip = ipaddress.ip_address(packed)
    return not (ip.is_unspecified or ip.is_multicast)


def _bind(address: Address) -> socket.socket:
    """Open one UDP socket.

    Raises:
        ConfigError: It cannot be bound.
    """
    try:
        if address.host != "":
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            return _socket(family, address.host, address.port)
        try:
            return _socket(socket.AF_INET6, "::", address.port, dual_stack=True)
        except OSError as exc:
            if exc.errno not in _NO_IPV6:
                raise
            return _socket(socket.AF_INET, "0.0.0.0", address.port)  # noqa: S104
    except OSError as exc:
        code = exc.errno or 0
        hint = _BIND_HINTS.get(code, "set stun.enabled: false to do without STUN")
        reason = os.strerror(code).lower()
        raise ConfigError("stun.listen", str(address), reason, hint) from exc


def _socket(
    family: socket.AddressFamily, host: str, port: int, *, dual_stack: bool = False
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            only = 0 if dual_stack else 1
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        _report_destinations(sock)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _report_destinations(sock: socket.socket) -> None:
    """Have the kernel say, with each datagram, which address it was sent to."""
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    except OSError as exc:
        logger.warning(
            "stun: no packet information: %s; answering from routing's choice", exc
        )
