"""Accepting: listeners, connections that have sent nothing yet, and caps.

A connection that never sends a byte costs a socket and an entry in a dict: it gets
no TLS state. Whatever is over a cap is accepted and closed, never left waiting.
"""

import errno
import ipaddress
import logging
import os
import select
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from derpnode.plane.contract import (
    AcceptLimits,
    Counters,
    Endpoint,
    ListenerId,
    PlaneLimits,
    Refusal,
)


logger = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections the kernel completes before we accept them."""

_BATCH = 64
_RETRY = 0.25  # seconds without accepting when descriptors ran out
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS.\n"
_REMIND = 10.0  # seconds until the same failure is said again


class RateBucket:
    """Tokens that come at a rate and are kept up to a burst; rate 0 has no end."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._tokens = self._burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        if self._rate == 0:
            return True
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class Listener:
    """One listening socket."""

    id: ListenerId
    sock: socket.socket
    context: ssl.SSLContext | None
    limits: AcceptLimits
    bucket: RateBucket
    paused_until: float = 0.0


@dataclass(slots=True)
class Silent:
    """An accepted connection that has sent nothing yet."""

    sock: socket.socket
    listener: Listener
    peer: Endpoint
    source: bytes
    deadline: float


@dataclass(slots=True)
class Gate:
    """Counts what there is, against caps."""

    handshakes: int = 0
    connections: int = 0
    by_source: Counter[bytes] = field(default_factory=Counter)
    handshakes_by_source: Counter[bytes] = field(default_factory=Counter)

    def refuses(self, limits: AcceptLimits, source: bytes) -> Refusal | None:
        """Say why one more connection of a source may not be, or None."""
        if limits.connections and self.connections >= limits.connections:
            return Refusal.CONNECTIONS
        if limits.handshakes and self.handshakes >= limits.handshakes:
            return Refusal.HANDSHAKES
        if not source:  # loopback, or spared
            return None
        most, now = limits.source_handshakes, self.handshakes_by_source[source]
        if most and now >= most:
            return Refusal.SOURCE
        most, now = limits.source_connections, self.by_source[source]
        return Refusal.SOURCE if most and now >= most else None

    def enter(self, source: bytes) -> None:
        """Count a connection, which is a handshake at first."""
        self.connections += 1
        self.handshakes += 1
        if source:
            self.by_source[source] += 1
            self.handshakes_by_source[source] += 1

    def settle(self, source: bytes) -> None:
        """Count it as a handshake no more."""
        self.handshakes -= 1
        _less(self.handshakes_by_source, source)

    def leave(self, source: bytes, *, settled: bool) -> None:
        """Forget it."""
        if not settled:
            self.settle(source)
        self.connections -= 1
        _less(self.by_source, source)


def _less(counter: Counter[bytes], source: bytes) -> None:
    if not source:
        return
    counter[source] -= 1
    if counter[source] <= 0:
        del counter[source]


def source_of(host: str) -> bytes:
    """Say what stands for a source: an IPv4 address, or an IPv6 /64.

    Empty for loopback, which is never capped by source.
    """
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return b"" if packed == ipaddress.IPv6Address("::1").packed else packed[:8]
    return b"" if host.startswith("127.") else socket.inet_aton(host)


def endpoint(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """Read a socket address; IPv4 in IPv6 clothes is IPv4."""
    return Endpoint(address[0].removeprefix("::ffff:"), address[1])


def open_listener(address: Endpoint, limits: PlaneLimits) -> socket.socket:
    """Bind and listen; an empty host is every address of both families.

    Raises:
        OSError: The address cannot be bound.
    """
    anywhere = address.host == ""
    v6 = anywhere or ":" in address.host
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not anywhere)
        _inherited(sock, limits)
        sock.bind(("::" if anywhere else address.host, address.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def dial(address: Endpoint, limits: PlaneLimits) -> socket.socket:
    """Begin to connect; the socket becomes writable when that is decided.

    Raises:
        OSError: It cannot even begin.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _inherited(sock, limits)
        failure = sock.connect_ex((address.host, address.port))
    except OSError:
        sock.close()
        raise
    if failure not in {0, errno.EINPROGRESS}:
        sock.close()
        raise OSError(failure, os.strerror(failure))
    return sock


def _inherited(sock: socket.socket, limits: PlaneLimits) -> None:
    """Set what accepted sockets take over. Source: protocol.md 2.1, Go's defaults."""
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    if limits.tcp_user_timeout:
        timeout = int(limits.tcp_user_timeout * 1000)
        sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, timeout)
    if limits.tcp_keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(tcp, socket.TCP_KEEPIDLE, max(int(limits.tcp_keepalive), 1))
        sock.setsockopt(tcp, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(tcp, socket.TCP_KEEPCNT, 9)


class Acceptor:
    """The accepting half of the plane."""

    def __init__(
        self,
        counters: Counters,
        poll: select.epoll,
        *,
        spoke: Callable[[Silent], None],
    ) -> None:
        self._counters = counters
        self._poll = poll
        self._spoke = spoke
        self._complaint: int | None = None
        self._complained = 0.0
        self.gate = Gate()
        self.spared: frozenset[str] = frozenset()
        self.listeners: dict[int, Listener] = {}
        self.silent: dict[int, Silent] = {}

    def add(self, listener: Listener) -> None:
        """Begin to accept."""
        descriptor = listener.sock.fileno()
        self.listeners[descriptor] = listener
        self._poll.register(descriptor, select.EPOLLIN)

    def stop(self, listener: Listener, now: float) -> None:
        """Take what is in the backlog, then close."""
        descriptor = listener.sock.fileno()
        while self._accept_batch(listener, now) == _BATCH:
            pass
        self._poll.unregister(descriptor)
        del self.listeners[descriptor]
        listener.sock.close()

    def ready(self, descriptor: int, now: float) -> bool:
        """Act on a descriptor if it is a listener or silent; say whether it was."""
        listener = self.listeners.get(descriptor)
        if listener is not None:
            self._accept_batch(listener, now)
            return True
        silent = self.silent.pop(descriptor, None)
        if silent is not None:
            self._spoke(silent)
            return True
        return False

    def _accept_batch(self, listener: Listener, now: float) -> int:
        for accepted in range(_BATCH):
            try:
                sock, address = listener.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return accepted
            except OSError as exc:
                self._pause(listener, exc, now)
                return accepted
            self._admit(listener, sock, endpoint(address), now)
        return _BATCH

    def _admit(
        self, listener: Listener, sock: socket.socket, peer: Endpoint, now: float
    ) -> None:
        source = b"" if peer.host in self.spared else source_of(peer.host)
        refusal = self.gate.refuses(listener.limits, source)
        if refusal is None and source and not listener.bucket.take(now):
            refusal = Refusal.RATE
        if refusal is not None:
            self._counters.refused[refusal] += 1
            sock.close()
            return
        self._counters.accepted += 1
        self.gate.enter(source)
        sock.setblocking(False)
        deadline = now + listener.limits.first_byte
        self.silent[sock.fileno()] = Silent(sock, listener, peer, source, deadline)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _pause(self, listener: Listener, exc: OSError, now: float) -> None:
        """Stop accepting for a moment: a full table would wake us for ever."""
        listener.paused_until = now + _RETRY
        self._poll.modify(listener.sock.fileno(), 0)
        if exc.errno != self._complaint or now - self._complained > _REMIND:
            self._complaint, self._complained = exc.errno, now
            logger.warning("accept: %s; trying again in %.2f s", exc.strerror, _RETRY)

    def refuse(self, silent: Silent, why: Refusal, answer: bytes = b"") -> None:
        """Close a connection nobody above has heard of."""
        self._counters.refused[why] += 1
        self.gate.leave(silent.source, settled=False)
        try:
            if answer:
                silent.sock.send(answer)
        except OSError:
            pass
        finally:
            silent.sock.close()

    def refuse_not_tls(self, silent: Silent) -> None:
        """Answer what is not TLS in the clear. Source: protocol.md 2.2."""
        self.refuse(silent, Refusal.NOT_TLS, _NOT_TLS)

    def tick(self, now: float) -> None:
        """Close who stayed silent too long; accept again where that was paused."""
        late = [fd for fd, silent in self.silent.items() if silent.deadline <= now]
        for descriptor in late:
            self.refuse(self.silent.pop(descriptor), Refusal.NO_FIRST_BYTE)
        for listener in self.listeners.values():
            if listener.paused_until and now >= listener.paused_until:
                listener.paused_until = 0.0
                self._poll.modify(listener.sock.fileno(), select.EPOLLIN)
