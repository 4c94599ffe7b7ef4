"""What the plane knows of one connection. State only; others act on it."""

import socket

from derpnode.plane.contract import (
    ConnectionId,
    Endpoint,
    Flags,
    ListenerId,
    ReceiveLimit,
    Stats,
)
from derpnode.plane.python.lanes import Lanes
from derpnode.plane.python.transport import READ_SIZE, Transport
from derpnode.wire.keys import NodeKey


FRAME_HEAD = 37
"""Bytes of a Recv frame before its packet: header and one key."""

FORWARD_HEAD = 69
"""Bytes of a Forward frame before its packet: header and two keys."""

NOT_HERE_BURST = 3
"""`NoRoute` events at once. Source: derpserver.go, peerGoneLim."""

NOT_HERE_RATE = 1.0
"""`NoRoute` events a second. Source: the same."""


_LEAST_READ = 2048  # bytes that are worth a system call


class Bucket:
    """A token bucket that may go into debt: a read is paid for after it was made."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "read_size")

    def __init__(self, limit: ReceiveLimit, now: float) -> None:
        self._rate = limit.rate
        self._burst = limit.burst
        self._tokens = float(limit.burst)
        self._at = now
        self.read_size = min(READ_SIZE, max(_LEAST_READ, limit.rate // 4))
        """Bytes to read at once: a quarter of a second, so that pings get through."""

    def spend(self, tokens: int, now: float) -> float:
        """Take tokens; return the seconds until the debt is paid, or 0."""
        earned = (now - self._at) * self._rate
        self._tokens = min(self._burst, self._tokens + earned) - tokens
        self._at = now
        return -self._tokens / self._rate if self._tokens < 0 else 0.0


class Connection:
    """One accepted connection, from its first byte to its end."""

    # fmt: off
    __slots__ = (
        "base",
        "blocked",
        "bucket",
        "closing",
        "control",
        "detail",
        "dialed",
        "fd",
        "head",
        "heard",
        "held",
        "id",
        "interest",
        "is_link",
        "is_mesh",
        "is_watched",
        "key",
        "lanes",
        "listener",
        "local",
        "not_here_at",
        "not_here_tokens",
        "opened",
        "owes_drained",
        "peer",
        "pending",
        "pending_frames",
        "pending_size",
        "pong",
        "progress",
        "relayed",
        "rest",
        "rx_bytes",
        "rx_packets",
        "seen",
        "settled",
        "sock",
        "source",
        "stream",
        "transport",
        "tx_bytes",
        "tx_packets",
    )
    # fmt: on

    def __init__(  # noqa: PLR0915 - only assignments
        self,
        identity: ConnectionId,
        sock: socket.socket,
        transport: Transport,
        *,
        listener: ListenerId,
        peer: Endpoint,
        source: bytes,
    ) -> None:
        self.id = identity
        self.sock = sock
        self.fd = sock.fileno()
        self.transport = transport
        self.listener = listener
        self.peer = peer
        self.source = source
        self.interest = 0
        self.opened = False  # somebody above knows of it
        self.dialed = False
        # Whether it still counts as a handshake is settled at attach.
        self.settled = False
        # None while open; then the time at which it is closed, come what may.
        self.closing: float | None = None
        self.detail = ""  # why we close it

        # Stream state: bytes kept, and the absolute offset of the first of them.
        self.stream = bytearray()
        self.base = 0

        # Relayed state.
        self.relayed = False
        self.is_link = False
        self.head = FRAME_HEAD  # bytes of a frame that goes out, before its packet
        self.key: NodeKey | None = None
        self.is_mesh = False
        self.is_watched = False
        self.rest = b""  # the part of a frame that has come
        self.bucket: Bucket | None = None
        self.heard = False  # spoke in this turn
        self.held = False  # frames wait until one that was passed up is acted on
        self.not_here_tokens = float(NOT_HERE_BURST)
        self.not_here_at = 0.0
        self.seen: dict[NodeKey, None] | None = None

        # Going out: in this turn, and while the socket is blocked.
        self.pending: list[bytes | bytearray] = []
        self.pending_size = 0
        self.pending_frames = 0
        self.blocked = False
        self.progress = 0.0
        self.control: list[bytes] = []
        self.pong: bytes | None = None
        self.lanes: Lanes | None = None
        self.owes_drained = False

        self.rx_packets = self.rx_bytes = self.tx_packets = self.tx_bytes = 0

    def mark(self, flags: Flags) -> None:
        """Keep what the hot path asks of flags: to ask an `IntFlag` costs a call."""
        self.is_mesh = bool(flags & Flags.MESH)
        self.is_watched = bool(flags & (Flags.DUPLICATE | Flags.QUESTIONED))

    @property
    def stats(self) -> Stats:
        """What passed over it so far."""
        return Stats(self.rx_packets, self.rx_bytes, self.tx_packets, self.tx_bytes)

    def may_ask_not_here(self, now: float) -> bool:
        """Spend a token of the `NoRoute` limiter, if there is one."""
        earned = (now - self.not_here_at) * NOT_HERE_RATE
        self.not_here_tokens = min(NOT_HERE_BURST, self.not_here_tokens + earned)
        self.not_here_at = now
        if self.not_here_tokens < 1:
            return False
        self.not_here_tokens -= 1
        return True
