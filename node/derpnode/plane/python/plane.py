"""The plane in Python: commands from above, and the turn that reads and writes.

One turn reads every connection that is ready, acts on the frames, writes to every
receiver once, and only then gives its events up. Packets cost nothing above.
"""

import asyncio
import itertools
import os
import random
import select
import socket
import ssl
from collections.abc import Callable
from time import monotonic

from derpnode.plane.contract import (
    STREAM_CAPACITY,
    AcceptLimits,
    Activity,
    Bytes,
    ClientTls,
    Closed,
    CloseReason,
    Connected,
    ConnectionId,
    Counters,
    Endpoint,
    Event,
    EventSink,
    Flags,
    Frame,
    ListenerId,
    Opened,
    PlaneLimits,
    ReceiveLimit,
    Refusal,
    RouteKind,
    ServerTls,
    Stats,
)
from derpnode.plane.python.acceptor import (
    Acceptor,
    Listener,
    RateBucket,
    Silent,
    dial,
    endpoint,
    open_listener,
)
from derpnode.plane.python.connection import (
    FORWARD_HEAD,
    FRAME_HEAD,
    Bucket,
    Connection,
)
from derpnode.plane.python.outbox import Outbox
from derpnode.plane.python.packets import SLACK, Router, Violation
from derpnode.plane.python.selector import MOST, Ready, selector_of
from derpnode.plane.python.timers import KeepAlives, rtt_label
from derpnode.plane.python.tls import client_context, server_context
from derpnode.plane.python.transport import (
    READ_SIZE,
    PeerClosed,
    Plain,
    Tls,
    Transport,
)
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import KEEP_ALIVE


TICK = 0.1
"""Seconds between looks at deadlines."""

LINGER = 1.0
"""Seconds a connection that we close may take to read its last bytes."""

# A full stream that is attached and the read that filled it; a partial frame and the
# read that follows it take less.
_ROOM = STREAM_CAPACITY + 2 * READ_SIZE
_TLS_HANDSHAKE = 0x16  # record type; RFC 8446, 5.1
_WRITE = select.EPOLLOUT
_READ_ANY = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class PythonPlane:
    """Keeps the contract `derpnode.plane.contract.Plane` on asyncio's loop.

    Args:
        sink: Takes the events of a turn.
        limits: What receivers may cost.
        loop: The running loop.
        uniform: Draws keepalive gaps; tests pass their own.
    """

    def __init__(
        self,
        sink: EventSink,
        limits: PlaneLimits,
        loop: asyncio.AbstractEventLoop,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._sink = sink
        self._loop = loop
        self._limits = limits
        self._counters = Counters()
        self._events: list[Event] = []
        self._ids = itertools.count(1)
        self._by_fd: dict[int, Connection] = {}
        self._by_id: dict[ConnectionId, Connection] = {}
        self._shaking: dict[Connection, float] = {}
        self._dialing: dict[Connection, float] = {}
        self._closing: dict[Connection, bool] = {}
        self._keepalives = KeepAlives(uniform)
        self._buffer = bytearray(_ROOM + SLACK)
        self._view = memoryview(self._buffer)
        self._room = self._view[:_ROOM]
        self._waiting = selector_of(loop)
        self._poll = self._waiting.epoll if self._waiting else select.epoll()
        self._acceptor = Acceptor(self._counters, self._poll, spoke=self._spoke)
        self._outbox = Outbox(
            self._counters,
            self._events,
            limits,
            watch=self._watch,
            close=self._end,
        )
        self._router = Router(self._counters, self._events, self._outbox)
        self._in_turn = False
        self._finish_due = False
        self._shut = False
        self._timed = False  # the loop got a timer in this turn
        self._alone = False  # one connection is ready in this turn
        if self._waiting is not None:
            self._waiting.turn = self._turn
        else:
            loop.add_reader(self._poll.fileno(), self._woken)
        self._timer = loop.call_later(TICK, self._tick)

    # Commands.

    @property
    def counters(self) -> Counters:
        """What it did so far."""
        self._counters.connections = self._acceptor.gate.connections
        self._counters.handshakes = self._acceptor.gate.handshakes
        return self._counters

    def listen(
        self, address: Endpoint, tls: ServerTls | None, limits: AcceptLimits
    ) -> tuple[ListenerId, Endpoint]:
        """See the contract."""
        context = server_context(tls) if tls is not None else None
        sock = open_listener(address, self._limits)
        identity = ListenerId(next(self._ids))
        bucket = RateBucket(limits.rate, limits.burst)
        self._acceptor.add(Listener(identity, sock, context, limits, bucket))
        return identity, endpoint(sock.getsockname())

    def set_tls(self, listener: ListenerId, tls: ServerTls) -> None:
        """See the contract."""
        found = self._listener(listener)
        if found is not None:
            found.context = server_context(tls)

    def stop(self, listener: ListenerId) -> None:
        """See the contract."""
        found = self._listener(listener)
        if found is not None:
            self._acceptor.stop(found, self._loop.time())

    def spare(self, hosts: frozenset[str]) -> None:
        """See the contract."""
        self._acceptor.spared = hosts

    def connect(
        self, address: Endpoint, tls: ClientTls | None, timeout: float
    ) -> ConnectionId:
        """See the contract."""
        context = client_context(tls) if tls is not None else None
        sock = dial(address, self._limits)
        transport: Transport = Plain(sock)
        if tls is not None and context is not None:
            transport = Tls(sock, context, tls.server_name)
        c = Connection(
            ConnectionId(next(self._ids)),
            sock,
            transport,
            listener=ListenerId(0),
            peer=address,
            source=b"",
        )
        c.opened = c.dialed = c.settled = True
        c.interest = select.EPOLLOUT
        self._by_fd[c.fd] = c
        self._by_id[c.id] = c
        self._poll.register(c.fd, c.interest)
        self._dialing[c] = self._loop.time() + timeout
        return c.id

    def consume(self, connection: ConnectionId, offset: int) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is None or offset <= c.base:
            return
        was_full = len(c.stream) > STREAM_CAPACITY
        del c.stream[: offset - c.base]
        c.base = offset
        if was_full and len(c.stream) <= STREAM_CAPACITY and c.closing is None:
            self._watch(c, c.interest | select.EPOLLIN)

    def send(self, connection: ConnectionId, data: bytes) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is not None and c.closing is None:
            c.owes_drained = True
            self._outbox.control(c, data)
            self._finish_soon()

    def attach(
        self,
        connection: ConnectionId,
        key: NodeKey,
        offset: int,
        flags: Flags,
        limit: ReceiveLimit,
    ) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is None or c.closing is not None:
            return
        c.key = key
        c.mark(flags)
        c.relayed = True
        c.rest = bytes(c.stream[offset - c.base :])
        c.stream = bytearray()
        self._settle(c)
        c.is_link = bool(flags & Flags.LINK)
        c.head = FORWARD_HEAD if c.is_link else FRAME_HEAD
        self.limit(connection, limit)
        self._watch(c, c.interest | select.EPOLLIN)
        if not c.is_link:
            self._keepalives.add(c.id, self._loop.time())
        if c.rest:
            self._frames(c, 0)
            self._finish_soon()

    def mark(self, connection: ConnectionId, flags: Flags) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is None:
            return
        c.mark(flags)
        if flags & Flags.SETTLED:
            self._settle(c)

    def limit(self, connection: ConnectionId, limit: ReceiveLimit) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is not None:
            c.bucket = Bucket(limit, self._loop.time()) if limit.rate else None
            if c.relayed:  # it may be waiting for the old one
                self._read_again(c)

    def set_route(
        self, key: NodeKey, connection: ConnectionId, kind: RouteKind
    ) -> None:
        """See the contract."""
        self.clear_route(key)
        c = self._by_id.get(connection)
        if c is None:
            return
        table = {
            RouteKind.CLIENT: self._router.clients,
            RouteKind.LINK: self._router.links,
            RouteKind.ABOVE: self._router.above,
        }[kind]
        table[key] = c
        if kind is RouteKind.ABOVE:
            c.key = key

    def clear_route(self, key: NodeKey) -> None:
        """See the contract."""
        router = self._router
        for table in (router.clients, router.links, router.above):
            table.pop(key, None)

    def deliver(
        self, connection: ConnectionId, destination: NodeKey, data: bytes
    ) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is not None and c.key is not None:
            self._outbox.now = self._loop.time()
            self._router.deliver(c, destination, data)
            self._finish_soon()

    def forget(self, receiver: ConnectionId, source: NodeKey) -> None:
        """See the contract."""
        c = self._by_id.get(receiver)
        if c is not None and c.seen is not None:
            c.seen.pop(source, None)

    def stats(self, connection: ConnectionId) -> Stats:
        """See the contract."""
        c = self._by_id.get(connection)
        return c.stats if c is not None else Stats()

    def close(
        self, connection: ConnectionId, detail: str, *, abort: bool = False
    ) -> None:
        """See the contract."""
        c = self._by_id.get(connection)
        if c is None or c.closing is not None:
            return
        if abort or c in self._dialing or c in self._shaking:
            self._end(c, CloseReason.ASKED, detail)
        else:
            if c.pending:
                self._outbox.flush(c)
            if c.closing is None:
                c.detail = detail
                self._begin_close(c)
        self._finish_soon()

    def shutdown(self) -> None:
        """See the contract."""
        if self._shut:
            return
        self._shut = True
        self._timer.cancel()
        if self._waiting is not None:
            self._waiting.turn = None
        else:
            self._loop.remove_reader(self._poll.fileno())
        for c in list(self._by_id.values()):
            self._end(c, CloseReason.ASKED, "shutdown")
        for silent in self._acceptor.silent.values():
            silent.sock.close()
        for listener in self._acceptor.listeners.values():
            listener.sock.close()
        self._acceptor.listeners.clear()
        if self._waiting is None:
            self._poll.close()
        self._events.clear()

    # The turn.

    def _woken(self) -> None:
        """Act on what is ready, where the plane waits by itself."""
        self._turn(self._poll.poll(0, MOST))

    def _turn(self, ready: Ready) -> bool:
        """Act on everything that is ready, then write, then tell.

        Returns:
            Whether the loop may have something to do now.
        """
        self._outbox.now = monotonic()
        self._timed = False
        self._alone = len(ready) == 1
        try:
            self._act(ready, self._outbox.now)
            return self._finish() or self._timed
        except Exception as exc:  # noqa: BLE001 - as the loop does for its callbacks
            context = {"message": "a turn of the plane failed", "exception": exc}
            self._loop.call_exception_handler(context)
            return True

    def _act(self, ready: Ready, now: float) -> None:
        """Read from, accept on, or go on writing to what is ready."""
        self._in_turn = True
        by_fd = self._by_fd
        for descriptor, mask in ready:
            c = by_fd.get(descriptor)
            if c is None:
                self._acceptor.ready(descriptor, now)
                continue
            if mask & _WRITE and c.blocked:
                self._outbox.writable(c)
            elif c.dialed and c in self._dialing:
                self._dialed(c)
                continue
            if mask & _READ_ANY and c.fd >= 0:
                self._readable(c)

    def _finish(self) -> bool:
        """Write what is pending and give the events up, until there are none.

        Returns:
            Whether there were any: somebody above may have work for the loop.
        """
        self._in_turn = True
        self._finish_due = False
        told = False
        try:
            while self._write_out():
                batch = self._events.copy()
                self._events.clear()
                told = True
                self._sink(batch)
                for event in batch:
                    if type(event) is Activity or type(event) is Frame:
                        self._go_on(event.id)
        finally:
            self._in_turn = False
        return told

    def _write_out(self) -> bool:
        """Write what is pending; say whether there are events to give up."""
        self._outbox.flush_all()
        if self._closing:
            self._say_goodbye()
        return bool(self._events)

    def _finish_soon(self) -> None:
        """See that what a command queued leaves, if no turn is under way."""
        if not self._in_turn and not self._finish_due:
            self._finish_due = True
            self._loop.call_soon(self._finish_if_due)

    def _finish_if_due(self) -> None:
        if self._finish_due and not self._shut:
            self._outbox.now = self._loop.time()
            self._finish()

    def _go_on(self, connection: ConnectionId) -> None:
        """Note that an event was acted on; look at the frames that waited for it."""
        c = self._by_id.get(connection)
        if c is None or c.closing is not None:
            return
        c.heard = False
        if c.held:
            c.held = False
            self._frames(c, 0)

    def _readable(self, c: Connection) -> None:  # noqa: C901 - in one piece: it is hot
        if c.closing is not None:
            self._linger(c)
            return
        try:
            if c.relayed:
                if c.held:  # attached a moment ago; what it waits for ends the turn
                    return
                held = len(c.rest)
                view = self._view[held:_ROOM] if held else self._room
                limit = READ_SIZE if c.bucket is None else c.bucket.read_size
                count = c.transport.read(view, limit)
                is_lone = self._alone and not held and c.bucket is None
                if is_lone and self._router.lone(c, self._buffer, count):
                    return
                if count:
                    self._frames(c, count)
            elif c in self._shaking:
                self._shake(c)
            else:
                self._read_stream(c)
        except PeerClosed:
            self._end(c, CloseReason.EOF, "")
        except ssl.SSLError as exc:
            self._end(c, CloseReason.TLS, exc.reason or str(exc))
        except OSError as exc:
            self._end(c, CloseReason.RESET, exc.strerror or str(exc))

    def _frames(self, c: Connection, count: int) -> None:
        """Act on the rest of before and the `count` bytes that follow it."""
        held = len(c.rest)
        if held:
            self._buffer[:held] = c.rest
        end = held + count
        try:
            done = self._router.frames(c, self._buffer, end)
        except Violation as exc:
            self._end(c, CloseReason.PROTOCOL, str(exc))
            return
        if c.fd < 0:
            return
        c.rest = bytes(self._view[done:end]) if done < end else b""
        if c.bucket is not None and not c.is_mesh:
            self._shape(c, count)

    def _shape(self, c: Connection, count: int) -> None:
        """Stop reading for as long as what was read is not paid for."""
        if c.bucket is None:
            return
        wait = c.bucket.spend(count, self._outbox.now)
        if wait > 0:
            self._watch(c, c.interest & ~select.EPOLLIN)
            self._loop.call_later(wait, self._read_again, c)
            self._timed = True

    def _read_again(self, c: Connection) -> None:
        if c.fd >= 0 and c.closing is None:
            self._watch(c, c.interest | select.EPOLLIN)

    def _read_stream(self, c: Connection) -> None:
        if len(c.stream) > STREAM_CAPACITY:  # nothing was asked for: it is broken
            message = "reset while it had to wait"
            raise ConnectionResetError(message)
        count = c.transport.read(self._view[:_ROOM])
        if count:
            self._streamed(c, bytes(self._view[:count]))

    def _streamed(self, c: Connection, data: bytes) -> None:
        c.stream += data
        self._events.append(Bytes(c.id, data))
        if len(c.stream) > STREAM_CAPACITY:
            self._watch(c, c.interest & ~select.EPOLLIN)

    # From silence to an open connection.

    def _spoke(self, silent: Silent) -> None:
        """Make a connection of an accepted socket that has its first bytes."""
        listener = silent.listener
        try:
            first = silent.sock.recv(READ_SIZE)
        except BlockingIOError:
            # What was ready is one that broke in this turn, and had its descriptor.
            self._acceptor.silent[silent.sock.fileno()] = silent
            return
        except OSError:
            first = b""
        if not first:
            self._acceptor.refuse(silent, Refusal.GONE)
            return
        if listener.context is not None and first[0] != _TLS_HANDSHAKE:
            self._acceptor.refuse_not_tls(silent)
            return
        tls = Tls(silent.sock, listener.context) if listener.context else None
        transport: Transport = tls if tls is not None else Plain(silent.sock)
        c = Connection(
            ConnectionId(next(self._ids)),
            silent.sock,
            transport,
            listener=listener.id,
            peer=silent.peer,
            source=silent.source,
        )
        c.interest = select.EPOLLIN
        self._by_fd[c.fd] = c
        self._by_id[c.id] = c
        if tls is None:
            self._opened(c, None)
            self._streamed(c, first)
            return
        self._shaking[c] = self._outbox.now + listener.limits.tls_handshake
        try:
            self._shake(c, first)
        except ssl.SSLError as exc:
            self._end(c, CloseReason.TLS, exc.reason or str(exc))
        except OSError as exc:
            self._end(c, CloseReason.RESET, str(exc))

    def _shake(self, c: Connection, data: bytes | memoryview | None = None) -> None:
        """Go on with a TLS handshake."""
        tls = c.transport
        if not isinstance(tls, Tls):
            return
        if data is None:
            data = tls.receive()
        if not data or not tls.handshake(data):
            return
        del self._shaking[c]
        if c.dialed:
            self._events.append(Connected(c.id, c.peer, tls.certificate))
        else:
            self._counters.tls_versions[tls.version] += 1
            self._opened(c, tls.version)
        count = tls.decrypt(self._view[:_ROOM])
        if count:
            self._streamed(c, bytes(self._view[:count]))

    def _opened(self, c: Connection, tls_version: str | None) -> None:
        c.opened = True
        local = endpoint(c.sock.getsockname())
        self._events.append(Opened(c.id, c.listener, c.peer, local, tls_version))

    def _dialed(self, c: Connection) -> None:
        """Go on with a dialled socket that is up, or has failed."""
        deadline = self._dialing.pop(c)
        failure = c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            self._end(c, CloseReason.RESET, os.strerror(failure))
            return
        self._watch(c, select.EPOLLIN)
        tls = c.transport
        if not isinstance(tls, Tls):
            self._events.append(Connected(c.id, c.peer, b""))
            return
        self._shaking[c] = deadline
        try:
            tls.handshake(b"")
        except OSError as exc:
            self._end(c, CloseReason.TLS, str(exc))

    def _settle(self, c: Connection) -> None:
        if not c.settled:
            c.settled = True
            self._acceptor.gate.settle(c.source)

    # The end of a connection.

    def _begin_close(self, c: Connection) -> None:
        """Write what is left, then say so, then wait a moment for the peer."""
        patience = self._limits.write_timeout if c.blocked else 0.0
        c.closing = self._loop.time() + patience + LINGER
        self._closing[c] = False

    def _say_goodbye(self) -> None:
        """End our side of closing connections that have nothing left to write."""
        for c, said in list(self._closing.items()):
            if not said and not c.blocked:
                self._closing[c] = True
                c.transport.finish()
                self._watch(c, c.interest | select.EPOLLIN)

    def _linger(self, c: Connection) -> None:
        """Throw away what a peer still sends, so that our last bytes reach it."""
        try:
            ended = not c.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._end(c, CloseReason.ASKED, c.detail)

    def _end(self, c: Connection, reason: CloseReason, detail: str) -> None:
        """Close the socket, forget the connection, and say why."""
        if c.fd < 0:
            return
        self._counters.write_timeouts += reason is CloseReason.WRITE_TIMEOUT
        self._outbox.discard(c)
        del self._by_fd[c.fd], self._by_id[c.id]
        self._shaking.pop(c, None)
        self._dialing.pop(c, None)
        self._closing.pop(c, None)
        c.fd = -1
        c.closing = 0.0
        c.sock.close()
        if not c.dialed:
            self._acceptor.gate.leave(c.source, settled=c.settled)
        if c.opened:
            self._events.append(Closed(c.id, reason, detail, c.stats))
            self._finish_soon()
        else:
            late = reason is CloseReason.TIMEOUT
            self._counters.refused[Refusal.TLS_TIMEOUT if late else Refusal.TLS] += 1

    # Time, and small help.

    def _tick(self) -> None:
        """Look at every deadline."""
        now = self._outbox.now = self._loop.time()
        self._timer = self._loop.call_later(TICK, self._tick)
        self._acceptor.tick(now)
        for deadlines in (self._shaking, self._dialing):
            for c in [c for c, deadline in deadlines.items() if deadline <= now]:
                self._end(c, CloseReason.TIMEOUT, "no handshake in time")
        for c in self._outbox.overdue():
            self._end(c, CloseReason.WRITE_TIMEOUT, "does not read")
        for c in list(self._closing):
            if c.closing is not None and c.closing <= now:
                self._end(c, CloseReason.ASKED, c.detail)
        for connection in self._keepalives.due(now):
            self._keep_alive(connection, now)
        self._finish()

    def _keep_alive(self, connection: ConnectionId, now: float) -> None:
        """Send a keepalive, and use the occasion to ask the kernel for the RTT."""
        c = self._by_id.get(connection)
        if c is None or c.closing is not None:
            return
        self._outbox.control(c, KEEP_ALIVE)
        self._keepalives.add(connection, now)
        info = c.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        self._counters.rtt[rtt_label(info)] += 1

    def _watch(self, c: Connection, interest: int) -> None:
        if interest != c.interest and c.fd >= 0:
            c.interest = interest
            self._poll.modify(c.fd, interest)

    def _listener(self, identity: ListenerId) -> Listener | None:
        listeners = self._acceptor.listeners.values()
        return next((found for found in listeners if found.id == identity), None)
