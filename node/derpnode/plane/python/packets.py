"""The hot path: from a buffer of frames to the pending bytes of their receivers.

A Send frame and the Recv frame it becomes have the same length, so frames are
rewritten where they lie, and a run of them for one receiver is copied once.
"""

import struct
from typing import Final

from derpnode.plane.contract import (
    Activity,
    Counters,
    DropReason,
    Event,
    FirstFrom,
    Frame,
    NoRoute,
    Packet,
)
from derpnode.plane.python.connection import Connection
from derpnode.plane.python.outbox import Outbox
from derpnode.wire.errors import FrameTooLarge, FrameTooShort
from derpnode.wire.frames import (
    DISCO_MAGIC,
    HEADER,
    HEADER_SIZE,
    MAX_UNKNOWN,
    NEEDS_MESH,
    NODE_STATE,
    PING_SIZE,
    FrameType,
    check_size,
    looks_like_disco,
)
from derpnode.wire.keys import KEY_SIZE, NodeKey
from derpnode.wire.payloads import pong


SLACK = 64
"""Bytes after the last frame that the look-ahead below may touch."""

CONTACTS = 10_000
"""Sources remembered per receiver; the oldest is forgotten, and told anew."""

_SEND: Final = int(FrameType.SEND_PACKET)
_RECV: Final = int(FrameType.RECV_PACKET)
_FORWARD: Final = int(FrameType.FORWARD_PACKET)
_PING: Final = int(FrameType.PING)
_PASSED_UP: Final = frozenset(
    {FrameType.NOTE_PREFERRED, FrameType.WATCH_CONNS, FrameType.CLOSE_PEER}
)
_MIN_SEND: Final = KEY_SIZE
_MAX_SEND: Final = KEY_SIZE + 65_536
_DISCO_MIN: Final = KEY_SIZE + 62
_NO_KEY: Final = bytes(KEY_SIZE)

_LEAST_PACKET: Final = HEADER_SIZE + KEY_SIZE
_MIN_FORWARD: Final = 2 * KEY_SIZE
_MAX_FORWARD: Final = 2 * KEY_SIZE + 65_536

# Type, payload size, first key, and the first bytes of the data of a Send frame.
_LOOK = struct.Struct("!BI32s6s")
_HEAD = struct.Struct("!BI32s")
_SIZE = struct.Struct("!xI")
_FORWARDED = struct.Struct("!BI32s32s")
_PAIR = struct.Struct("!32s32s")


class Violation(Exception):
    """The peer broke a rule of the protocol; its connection ends."""


class Router:
    """Looks packets up and hands them to the outbox. Knows keys, no policy."""

    def __init__(self, counters: Counters, events: list[Event], outbox: Outbox) -> None:
        self._counters = counters
        self._events = events
        self._outbox = outbox
        self.clients: dict[bytes, Connection] = {}
        """Keys whose connection is here, framed by us."""

        self.links: dict[bytes, Connection] = {}
        """Keys on other nodes, and the link to each."""

        self.above: dict[bytes, Connection] = {}
        """Keys whose connection is framed above."""

    def frames(  # noqa: C901, PLR0912, PLR0915 - one loop, because calls cost
        self, c: Connection, buffer: bytearray, end: int
    ) -> int:
        """Act on the whole frames in `buffer[:end]`; return where they stop.

        The buffer is written to, and must be `SLACK` longer than `end`.

        Stops early, with `c.held` set, after a frame that is passed up: what it
        asks for must be done before the frames that follow it.

        Raises:
            Violation: The connection must end.
        """
        if c.is_link:
            return self._link_frames(c, buffer, end)
        if c.is_watched and end >= HEADER_SIZE and not c.heard:
            c.heard = True
            self._events.append(Activity(c.id))
        look = _LOOK.unpack_from
        source = c.key
        at = run = 0  # this frame, and where the run to one receiver began
        receiver: Connection | None = None
        key = b""
        packets = disco = 0
        while end - at >= HEADER_SIZE:
            kind, size, target, magic = look(buffer, at)
            after = at + HEADER_SIZE + size
            if kind == _SEND and _MIN_SEND <= size <= _MAX_SEND:
                if after > end:
                    break
                if target != key:
                    if packets:
                        self._sent(c, receiver, buffer, run, at, packets, disco, key)
                    receiver = self.clients.get(target)
                    key = target
                    run = at
                    packets = disco = 0
                packets += 1
                if magic == DISCO_MAGIC and size >= _DISCO_MIN:
                    disco += 1
                if receiver is not None:
                    buffer[at] = _RECV
                    buffer[at + 5 : at + 37] = source  # type: ignore[assignment]
                at = after
                continue
            if packets:
                self._sent(c, receiver, buffer, run, at, packets, disco, key)
                packets = disco = 0
            if c.closing is not None:  # it broke, while a packet to itself was written
                return at
            key = b""
            if kind == _FORWARD and c.is_mesh and _MIN_FORWARD <= size <= _MAX_FORWARD:
                if after > end:
                    break
                at = self._forwarded_run(c, buffer, at, end)
                continue
            self._check(c, kind, size)
            if after > end:
                break
            self._other(c, kind, buffer, at, after)
            at = after
            if c.held:
                break
        if packets:
            self._sent(c, receiver, buffer, run, at, packets, disco, key)
        return at

    def lone(  # noqa: C901, PLR0911, PLR0912, PLR0915 - in one piece: it is hot
        self, c: Connection, buffer: bytearray, end: int
    ) -> bool:
        """Move a packet that came alone, at once.

        There is nothing that it could be joined with, and most packets of a quiet
        node are such: each finds caches cold, and costs by the code it goes through.

        Args:
            c: Who sent it; there is no part of a frame from before.
            buffer: What was read, as `frames` has it.
            end: Where that ends.

        Returns:
            Whether it was one whole packet, of a kind that holds no surprise;
            otherwise nothing was done, and `frames` is to be called.
        """
        if end < _LEAST_PACKET or c.is_link or c.is_watched:
            return False
        kind, size, target, magic = _LOOK.unpack_from(buffer, 0)
        if size != end - HEADER_SIZE or size > _MAX_SEND:
            return False
        source = c.key
        if kind == _SEND:
            payload = size - KEY_SIZE
            to = self.clients.get(target) or self.links.get(target)
            if to is None or to.pending or to.blocked or to.closing is not None:
                return False
            if to.is_link:
                head = _HEAD.pack(_FORWARD, size + KEY_SIZE, source)
                frame: bytes | bytearray = head + buffer[HEADER_SIZE:end]
                self._counters.forwarded_out += 1
            elif to.seen is None or source not in to.seen:
                return False
            else:
                buffer[0] = _RECV
                buffer[5:37] = source
                frame = buffer[:end]
            if magic == DISCO_MAGIC and size >= _DISCO_MIN:
                self._counters.packets_received_disco += 1
            else:
                self._counters.packets_received_other += 1
            self._counters.bytes_received += payload
        elif kind == _FORWARD and c.is_mesh and size >= _MIN_FORWARD:
            payload = size - 2 * KEY_SIZE
            source, target = _PAIR.unpack_from(buffer, HEADER_SIZE)
            to = self.clients.get(target)
            if to is None or to.pending or to.blocked or to.closing is not None:
                return False
            if source == _NO_KEY or to.seen is None or source not in to.seen:
                return False
            _HEAD.pack_into(buffer, 32, _RECV, size - KEY_SIZE, source)
            frame = buffer[32:end]
            self._counters.forwarded_in += 1
        else:
            return False
        c.rx_packets += 1
        c.rx_bytes += payload
        self._outbox.put_now(to, frame, payload)
        return True

    def _link_frames(self, c: Connection, buffer: bytearray, end: int) -> int:
        """Pass up what a server sends to a watcher; no packets come this way."""
        at = 0
        while end - at >= HEADER_SIZE:
            kind, size = HEADER.unpack_from(buffer, at)
            if size > MAX_UNKNOWN:
                message = f"frame 0x{kind:02x}: {size} bytes, limit is {MAX_UNKNOWN}"
                raise Violation(message)
            after = at + HEADER_SIZE + size
            if after > end:
                break
            payload = bytes(buffer[at + HEADER_SIZE : after])
            if kind == _PING and size >= PING_SIZE:
                self._outbox.pong(c, pong(payload))
            elif kind != _RECV:
                self._events.append(Frame(c.id, kind, payload))
            at = after
        return at

    def _sent(  # noqa: PLR0913, PLR0917 - the state of the loop above, on its hot path
        self,
        c: Connection,
        receiver: Connection | None,
        buffer: bytearray,
        start: int,
        end: int,
        packets: int,
        disco: int,
        key: bytes,
    ) -> None:
        """Account for a run of Send frames to one key, and move it."""
        payload = end - start - 37 * packets
        counters = self._counters
        counters.packets_received_disco += disco
        counters.packets_received_other += packets - disco
        counters.bytes_received += payload
        c.rx_packets += packets
        c.rx_bytes += payload
        if receiver is None:
            link = self.links.get(key)
            if link is not None:
                self._forward_run(link, c, buffer, start, end)
            else:
                self._not_framed(c, buffer, start, end, NodeKey(key))
        elif receiver.closing is None:
            seen = receiver.seen
            if seen is None or c.key not in seen:
                self._meet(receiver, c.key)  # type: ignore[arg-type]
            # The slice is a copy: the buffer is used again at once.
            self._outbox.put(receiver, buffer[start:end], packets, payload)
        else:
            self._lose(DropReason.GONE, buffer, start, end)

    def _not_framed(
        self, c: Connection, buffer: bytearray, start: int, end: int, key: NodeKey
    ) -> None:
        """Hand a run up, or lose it: no framed client and no link has the key."""
        above = self.above.get(key)
        if above is None:
            self._lose(DropReason.UNKNOWN_DEST, buffer, start, end, asker=c, key=key)
            return
        at = start
        while at < end:
            after = at + HEADER_SIZE + int.from_bytes(buffer[at + 1 : at + 5])
            data = bytes(buffer[at + 37 : after])
            self.hand_up(above, c.key, data)  # type: ignore[arg-type]
            at = after

    def _forward_run(
        self, link: Connection, c: Connection, buffer: bytearray, start: int, end: int
    ) -> None:
        """Make Forward frames of a run of Send frames, and give them to a link."""
        if link.closing is not None:
            self._lose(DropReason.GONE, buffer, start, end)
            return
        source = c.key
        pack, size_at = _HEAD.pack, _SIZE.unpack_from
        pieces: list[bytes | bytearray] = []
        at = start
        while at < end:
            (size,) = size_at(buffer, at)
            after = at + HEADER_SIZE + size
            pieces.append(pack(_FORWARD, size + KEY_SIZE, source))
            pieces.append(buffer[at + HEADER_SIZE : after])
            at = after
        packets = len(pieces) // 2
        self._counters.forwarded_out += packets
        self._outbox.put_all(link, pieces, packets, end - start - 37 * packets)

    def hand_up(self, to: Connection, source: NodeKey, data: bytes) -> None:
        """Give a packet to a connection that is framed above."""
        if to.closing is not None:
            self._outbox.drop(len(data), DropReason.GONE, disco=looks_like_disco(data))
            return
        if to.seen is None or source not in to.seen:
            self._meet(to, source)
        to.tx_packets += 1
        to.tx_bytes += len(data)
        self._counters.packets_sent += 1
        self._counters.bytes_sent += len(data)
        self._events.append(Packet(to.id, source, data))

    def forward(
        self, link: Connection, source: NodeKey, target: NodeKey, data: bytes
    ) -> None:
        """Give a packet to a link: another node has the receiver."""
        if link.closing is not None:
            self._outbox.drop(len(data), DropReason.GONE, disco=looks_like_disco(data))
            return
        self._counters.forwarded_out += 1
        size = 2 * KEY_SIZE + len(data)
        frame = _HEAD.pack(_FORWARD, size, source) + target + data
        self._outbox.put(link, frame, 1, len(data))

    def _forwarded_run(  # noqa: C901, PLR0915 - one loop, because calls cost
        self, c: Connection, buffer: bytearray, at: int, end: int
    ) -> int:
        """Deliver the Forward frames at `at`, the first of which is whole.

        Those that follow each other to one receiver go to it together.

        Returns:
            Where the last of them stops.
        """
        look, head = _FORWARDED.unpack_from, _HEAD.pack_into
        _, size, _, target = look(buffer, at)
        to = self.clients.get(target)
        first: int = at + HEADER_SIZE + size
        if to is None or to.closing is not None:
            self._forwarded(c, buffer, at, first)
            return first
        pieces: list[bytes | bytearray] = []
        met = b""
        began = at
        while end - at >= HEADER_SIZE:
            kind, size, source, key = look(buffer, at)
            after = at + HEADER_SIZE + size
            if key != target or kind != _FORWARD or after > end:
                break
            if not _MIN_FORWARD <= size <= _MAX_FORWARD:
                break
            if source != met:
                if source == _NO_KEY:
                    break
                if to.seen is None or source not in to.seen:
                    self._meet(to, source)
                met = source
            # The header of the Recv frame fits where the source was.
            head(buffer, at + 32, _RECV, size - KEY_SIZE, source)
            pieces.append(buffer[at + 32 : after])
            at = after
        packets = len(pieces)
        if not packets:
            self._forwarded(c, buffer, at, first)
            return first
        payload = at - began - 69 * packets
        self._counters.forwarded_in += packets
        c.rx_packets += packets
        c.rx_bytes += payload
        self._outbox.put_all(to, pieces, packets, payload)
        return at

    def _forwarded(self, c: Connection, buffer: bytearray, at: int, after: int) -> None:
        """Deliver a Forward frame here, and nowhere else: one hop is all."""
        source, target = _PAIR.unpack_from(buffer, at + HEADER_SIZE)
        payload = after - at - 69
        self._counters.forwarded_in += 1
        c.rx_packets += 1
        c.rx_bytes += payload
        to = self.clients.get(target)
        if to is not None and to.closing is None:
            if to.seen is None or source not in to.seen:
                self._meet(to, source)
            frame = _recv(source, buffer[at + 69 : after])
            self._outbox.put(to, frame, 1, payload)
            return
        data = bytes(buffer[at + 69 : after])
        above = self.above.get(target)
        if above is not None:
            self.hand_up(above, NodeKey(source), data)
            return
        disco = looks_like_disco(data)
        reason = DropReason.UNKNOWN_DEST_ON_FWD if to is None else DropReason.GONE
        self._outbox.drop(payload, reason, disco=disco)
        if disco:
            self._not_here(c, target)

    def deliver(self, c: Connection, target: NodeKey, data: bytes) -> None:
        """Route a packet of a connection that is framed above."""
        disco = looks_like_disco(data)
        self._counters.packets_received_disco += disco
        self._counters.packets_received_other += not disco
        self._counters.bytes_received += len(data)
        c.rx_packets += 1
        c.rx_bytes += len(data)
        source = c.key
        if source is None:
            return
        to = self.clients.get(target)
        if to is not None and to.closing is None:
            if to.seen is None or source not in to.seen:
                self._meet(to, source)
            self._outbox.put(to, _recv(source, data), 1, len(data))
        elif (above := self.above.get(target)) is not None:
            self.hand_up(above, source, data)
        elif (link := self.links.get(target)) is not None:
            self.forward(link, source, target, data)
        else:
            reason = DropReason.UNKNOWN_DEST if to is None else DropReason.GONE
            self._outbox.drop(len(data), reason, disco=disco)
            if disco:
                self._not_here(c, target)

    def _not_here(self, asker: Connection, key: NodeKey) -> None:
        if asker.closing is None and asker.may_ask_not_here(self._outbox.now):
            self._events.append(NoRoute(asker.id, key))

    def _lose(
        self,
        reason: DropReason,
        buffer: bytearray,
        start: int,
        end: int,
        *,
        asker: Connection | None = None,
        key: NodeKey | None = None,
    ) -> None:
        """Count the packets of a run as dropped, and tell who asked for disco."""
        at = start
        while at < end:
            after = at + HEADER_SIZE + int.from_bytes(buffer[at + 1 : at + 5])
            disco = looks_like_disco(bytes(buffer[at + 37 : min(after, at + 99)]))
            self._outbox.drop(after - at - 37, reason, disco=disco)
            if disco and asker is not None and key is not None:
                self._not_here(asker, key)
            at = after

    def _meet(self, receiver: Connection, source: NodeKey) -> None:
        """Note a receiver's first packet of a source, and say so."""
        if receiver.seen is None:
            receiver.seen = {}
        receiver.seen[source] = None
        if len(receiver.seen) > CONTACTS:
            del receiver.seen[next(iter(receiver.seen))]
        self._events.append(FirstFrom(receiver.id, source))

    def _check(self, c: Connection, kind: int, size: int) -> None:
        """Judge a frame by its header, before its payload has come."""
        if kind in NEEDS_MESH and not c.is_mesh:
            message = f"frame 0x{kind:02x} needs the mesh right"
            raise Violation(message)
        try:
            check_size(kind, size)
        except (FrameTooLarge, FrameTooShort) as exc:
            raise Violation(str(exc)) from exc

    def _other(
        self, c: Connection, kind: int, buffer: bytearray, at: int, after: int
    ) -> None:
        """Act on a whole frame that is not a Send."""
        if kind == _FORWARD:
            self._forwarded(c, buffer, at, after)
        elif kind == _PING:
            self._counters.pings += 1
            self._counters.pongs += 1
            self._outbox.pong(c, b"\x13\0\0\0\x08" + buffer[at + 5 : at + 13])
        elif kind in _PASSED_UP or (kind == NODE_STATE and c.is_mesh):
            payload = bytes(buffer[at + HEADER_SIZE : after])
            self._events.append(Frame(c.id, kind, payload))
            c.held = True
        elif kind not in _KNOWN:
            # derp.go skips types it does not know, so that an old server survives
            # a new client. So do we. Unlike derper, we count them.
            self._counters.unknown_frames += 1


_KNOWN = frozenset({FrameType.PONG, FrameType.KEEP_ALIVE})


def _recv(source: bytes, data: bytes | bytearray) -> bytes:
    """Frame a packet for its receiver.

    A zero source makes the frame of protocol version 1, without a source.
    Source: derpserver.go, sclient.sendPacket.
    """
    if source == _NO_KEY:
        return struct.pack("!BI", _RECV, len(data)) + data
    return _HEAD.pack(_RECV, KEY_SIZE + len(data), source) + data
