"""Writing: what a turn gave a receiver leaves at its end, or waits in lanes.

While a socket takes bytes, packets are joined, encrypted and sent once a turn. When
it does not, they wait in the lanes of that receiver, which drop their oldest.
"""

import select
import ssl
from collections.abc import Callable

from derpnode.plane.contract import (
    CloseReason,
    Counters,
    Drained,
    DropReason,
    Event,
    PlaneLimits,
)
from derpnode.plane.python.connection import Connection
from derpnode.plane.python.lanes import DATA_BYTES, LINK_BYTES, Lanes
from derpnode.wire.frames import looks_like_disco


FLUSH_BYTES = 128 * 1024
"""A receiver that has this much pending is flushed in the middle of a turn."""

CONTROL_BYTES = 4 << 20
"""Control bytes a blocked connection may owe; beyond it is cut."""

FLUSH_BUCKETS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 50, 100)
"""Upper bounds of derper's histogram of frames per flush."""

_BUCKET_OF = [next((b for b in FLUSH_BUCKETS if n <= b), 101) for n in range(102)]
DISCO_LOOK = 62
"""Bytes of a packet that say whether it is disco."""

_QUEUE_ALPHA = 0.1


class Outbox:
    """The writing half of the plane."""

    def __init__(
        self,
        counters: Counters,
        events: list[Event],
        limits: PlaneLimits,
        *,
        watch: Callable[[Connection, int], None],
        close: Callable[[Connection, CloseReason, str], None],
    ) -> None:
        self._counters = counters
        self._events = events
        self._limits = limits
        self._watch = watch
        self._close = close
        self.dirty: list[Connection] = []
        self.blocked: dict[Connection, None] = {}
        self.now = 0.0

    # Taking what is to be written.

    def put(
        self, to: Connection, frames: bytes | bytearray, packets: int, payload: int
    ) -> None:
        """Queue a run of whole frames: so many packets, with so many bytes in all."""
        if to.blocked:
            self._wait(to, frames)
            return
        if not to.pending:
            self.dirty.append(to)
        to.pending.append(frames)
        to.pending_frames += packets
        to.pending_size += len(frames)
        to.tx_packets += packets
        to.tx_bytes += payload
        if not to.is_link:
            self._counters.packets_sent += packets
            self._counters.bytes_sent += payload
        if to.pending_size >= FLUSH_BYTES:
            self.flush(to)

    def put_all(
        self,
        to: Connection,
        pieces: list[bytes | bytearray],
        packets: int,
        payload: int,
    ) -> None:
        """Queue a run that lies in several pieces."""
        if to.blocked:
            self._wait(to, b"".join(pieces))
            return
        if not to.pending:
            self.dirty.append(to)
        to.pending += pieces
        to.pending_frames += packets
        to.pending_size += payload + to.head * packets
        to.tx_packets += packets
        to.tx_bytes += payload
        if not to.is_link:
            self._counters.packets_sent += packets
            self._counters.bytes_sent += payload
        if to.pending_size >= FLUSH_BYTES:
            self.flush(to)

    def put_now(self, to: Connection, frame: bytes | bytearray, payload: int) -> None:
        """Write one packet at once, to a connection with nothing before it."""
        to.tx_packets += 1
        to.tx_bytes += payload
        counters = self._counters
        counters.flush_frames[1] += 1
        if not to.is_link:
            counters.packets_sent += 1
            counters.bytes_sent += payload
        if self._write(to, frame) and to.owes_drained:
            self._drained(to)

    def control(self, to: Connection, data: bytes) -> None:
        """Queue bytes that go before any packet that comes later."""
        if to.blocked:
            to.control.append(data)
            self._owe(len(data))
            if sum(map(len, to.control)) > CONTROL_BYTES:
                self._close(to, CloseReason.OVERFLOW, "does not read what it asked for")
            return
        if not to.pending:
            self.dirty.append(to)
        to.pending.append(data)
        to.pending_frames += 1
        to.pending_size += len(data)

    def pong(self, to: Connection, frame: bytes) -> None:
        """Queue a Pong; a blocked connection owes at most one."""
        if to.blocked:
            to.pong = frame
        else:
            self.control(to, frame)

    # Letting it go.

    def flush_all(self) -> None:
        """Write what this turn gave to every receiver."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                if connection.pending:
                    self.flush(connection)

    def flush(self, to: Connection) -> None:
        """Write what is pending for one receiver, in one piece."""
        pending = to.pending
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        frames = to.pending_frames
        pending.clear()
        to.pending_size = to.pending_frames = 0
        if to.relayed:
            self._counters.flush_frames[_BUCKET_OF[min(frames, 101)]] += 1
        if self._write(to, data) and to.owes_drained:
            self._drained(to)

    def writable(self, to: Connection) -> None:
        """Go on with a blocked receiver whose socket takes bytes again."""
        try:
            sent = to.transport.push()
        except OSError as exc:
            self._close(to, CloseReason.RESET, str(exc))
            return
        if sent:
            self._counters.queued_bytes -= sent
            to.progress = self.now
        while not to.transport.unsent:
            data = self._next(to)
            if not data:
                self._unblock(to)
                return
            if not self._write(to, data):
                return

    def _write(self, to: Connection, data: bytes | bytearray) -> bool:
        """Send; return whether the kernel took all of it."""
        try:
            to.transport.write(data)
        except (ssl.SSLError, OSError) as exc:
            self._close(to, CloseReason.RESET, str(exc))
            return False
        unsent = to.transport.unsent
        if not unsent:
            to.progress = self.now
            return True
        self._owe(len(unsent))
        if len(unsent) < len(data):
            to.progress = self.now
        if not to.blocked:
            to.blocked = True
            to.progress = self.now
            self.blocked[to] = None
            self._watch(to, to.interest | select.EPOLLOUT)
        return False

    def _next(self, to: Connection) -> bytes:
        """Take what a blocked receiver gets next: control first, then its lanes."""
        frames = to.control
        to.control = []
        self._counters.queued_bytes -= sum(map(len, frames))
        if to.pong is not None:
            frames.append(to.pong)
            to.pong = None
        if to.lanes is not None:
            frames.extend(self._take(to, to.lanes))
        return b"".join(frames)

    def _take(self, to: Connection, lanes: Lanes) -> list[bytes]:
        """Take packets from the lanes, having dropped those that are too old."""
        counters = self._counters
        before = lanes.size
        for frame in lanes.expire(self.now):
            self.drop(len(frame) - to.head, DropReason.QUEUE_HEAD, disco=False)
        taken = lanes.take(FLUSH_BYTES)
        counters.queued_bytes -= before - lanes.size
        payload = 0
        for frame, since in taken:
            payload += len(frame) - to.head
            waited = self.now - since
            counters.queue_seconds += (waited - counters.queue_seconds) * _QUEUE_ALPHA
        to.tx_packets += len(taken)
        to.tx_bytes += payload
        if not to.is_link:
            counters.packets_sent += len(taken)
            counters.bytes_sent += payload
        return [frame for frame, _ in taken]

    def _unblock(self, to: Connection) -> None:
        to.blocked = False
        to.lanes = None
        del self.blocked[to]
        self._watch(to, to.interest & ~select.EPOLLOUT)
        self._drained(to)

    def _drained(self, to: Connection) -> None:
        if to.owes_drained and to.closing is None:
            to.owes_drained = False
            self._events.append(Drained(to.id))

    # Waiting and dropping.

    def _wait(self, to: Connection, frames: bytes | bytearray) -> None:
        """Put a run of frames into the lanes of a blocked receiver, one by one."""
        if to.lanes is None:
            to.lanes = Lanes(LINK_BYTES if to.is_link else DATA_BYTES)
        lanes, head = to.lanes, to.head
        before = lanes.size
        at = 0
        while at < len(frames):
            end = at + 5 + int.from_bytes(frames[at + 1 : at + 5])
            data = frames[at + head : min(end, at + head + DISCO_LOOK)]
            disco = looks_like_disco(bytes(data))
            for old in lanes.put(bytes(frames[at:end]), self.now, disco=disco):
                self.drop(len(old) - head, DropReason.QUEUE_HEAD, disco=disco)
            at = end
        self._owe(lanes.size - before)

    def _owe(self, size: int) -> None:
        """Count bytes that wait, and keep the node's cap on all of them."""
        self._counters.queued_bytes += size
        if self._counters.queued_bytes > self._limits.queued_bytes:
            self._shrink()

    def _shrink(self) -> None:
        """Drop from the largest lanes until the node is under its cap again."""
        target = self._limits.queued_bytes * 15 // 16
        holders = [c for c in self.blocked if c.lanes is not None]
        holders.sort(key=lambda c: c.lanes.size if c.lanes else 0)
        while holders and self._counters.queued_bytes > target:
            head, lanes = holders[-1].head, holders[-1].lanes
            dropped = lanes.drop_head() if lanes is not None else None
            if dropped is None:
                holders.pop()
                continue
            frame, disco = dropped
            self._counters.queued_bytes -= len(frame)
            self.drop(len(frame) - head, DropReason.QUEUE_HEAD, disco=disco)

    def drop(self, size: int, reason: DropReason, *, disco: bool) -> None:
        """Count one dropped packet of so many payload bytes."""
        self._counters.dropped_packets[reason, disco] += 1
        self._counters.dropped_bytes[reason, disco] += size

    def discard(self, to: Connection) -> None:
        """Forget what a connection that ends still owed, and count it."""
        unsent = len(to.transport.unsent) + sum(map(len, to.control))
        to.control.clear()
        to.pending.clear()
        if to.blocked:
            self._counters.queued_bytes -= unsent
            self.blocked.pop(to, None)
        if to.lanes is not None:
            self._counters.queued_bytes -= to.lanes.size
            for frame, disco in to.lanes.clear():
                self.drop(len(frame) - to.head, DropReason.GONE, disco=disco)

    def overdue(self) -> list[Connection]:
        """Name the receivers that took nothing for longer than they may."""
        return [c for c in self.blocked if self.now - c.progress > self._patience(c)]

    def _patience(self, connection: Connection) -> float:
        limits = self._limits
        is_mesh = connection.is_mesh
        patience = limits.mesh_write_timeout if is_mesh else limits.write_timeout
        return patience or float("inf")
