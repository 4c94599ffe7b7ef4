"""What a plane is: the commands it takes and the events it gives.

A plane owns a connection from accept to close. In *stream* state its bytes go up as
they come; once *attached* to a key they are frames, and packets among them are looked
up, queued and written without anybody above. Everything that happens once per
connection, or less often, is decided above.

An id is never used again, so a late command for a closed connection does nothing.
"""

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NewType, Protocol

from derpnode.wire.keys import NodeKey


ConnectionId = NewType("ConnectionId", int)
ListenerId = NewType("ListenerId", int)

STREAM_CAPACITY = 256 * 1024
"""Bytes kept of a stream that nobody consumes; then reading pauses."""


KEEPALIVE_GAP = (60.0, 64.7)
"""Seconds between two keepalives: drawn anew for every gap, and below 65 with the
look at the clock that it waits for. Source: derpserver.go, keep-alive jitter."""


class Endpoint(NamedTuple):
    """One end of a connection; `host` is an IP literal, IPv4 never v6-mapped."""

    host: str
    port: int


class RouteKind(enum.Enum):
    """What a plane does with a packet for a key."""

    CLIENT = "client"
    """The key is connected here: Recv frames to that connection."""

    LINK = "link"
    """The key is on another node: Forward frames to that connection."""

    ABOVE = "above"
    """The key's connection is framed above: `Packet` events."""


class Flags(enum.IntFlag):
    """What a connection may do, and what is asked about it."""

    NONE = 0
    MESH = 1
    """Proved the mesh key: may forward, is not shaped, has longer to read."""

    DUPLICATE = 2
    """Shares its key with another connection: `Activity` for every turn it speaks."""

    QUESTIONED = 4
    """Was asked whether it lives: the same."""

    LINK = 8
    """We dialled it: it sends what servers send, and packets only leave by it."""

    SETTLED = 16
    """Its login is over, though it stays a stream: not a handshake any more."""


class CloseReason(enum.Enum):
    """Why a connection ended."""

    EOF = "eof"
    RESET = "reset"
    PROTOCOL = "protocol"
    TLS = "tls"
    TIMEOUT = "timeout"
    WRITE_TIMEOUT = "write_timeout"
    OVERFLOW = "overflow"
    ASKED = "asked"


class DropReason(enum.Enum):
    """Why a packet was not delivered; the values are derper's label values."""

    UNKNOWN_DEST = "unknown_dest"
    UNKNOWN_DEST_ON_FWD = "unknown_dest_on_fwd"
    GONE = "gone_disconnected"
    QUEUE_HEAD = "queue_head"
    QUEUE_TAIL = "queue_tail"
    WRITE_ERROR = "write_error"
    DUP_CLIENT = "dup_client"


class Refusal(enum.Enum):
    """Why a connection was closed before anybody above heard of it."""

    RATE = "rate"
    HANDSHAKES = "handshakes"
    SOURCE = "source"
    CONNECTIONS = "connections"
    NO_FIRST_BYTE = "no_first_byte"
    NOT_TLS = "not_tls"
    TLS = "tls"
    TLS_TIMEOUT = "tls_timeout"
    GONE = "gone"


@dataclass(frozen=True)
class ServerTls:
    """What a listener proves itself with."""

    chain_pem: bytes
    """The leaf and its intermediates, PEM."""

    key_pem: bytes = field(repr=False)
    """The leaf's private key, PEM."""

    meta_der: bytes
    """The meta certificate; sent last, whatever the TLS version."""

    server_name: str | None
    """The only SNI that is answered; None answers any, and none."""


@dataclass(frozen=True)
class ClientTls:
    """How a connection that we dial is secured."""

    server_name: str
    """DNS name or IP literal; a name is sent as SNI."""

    verify: bool = True
    """Check the chain and the name. False where a pin is checked above instead."""

    ca_pem: bytes | None = None
    """What is trusted, PEM; None trusts what the system does."""


@dataclass(frozen=True, kw_only=True)
class AcceptLimits:
    """What strangers may cost. 0 turns a cap off.

    Loopback has no rate, and is never capped by source.
    """

    rate: int = 0
    """New connections a second; more are accepted and closed at once."""

    burst: int = 0
    """New connections that may come at once."""

    handshakes: int = 0
    """Connections between accept and login, over all listeners."""

    source_handshakes: int = 0
    """The same from one source: an IPv4 address or an IPv6 /64."""

    source_connections: int = 0
    """Connections from one source."""

    connections: int = 0
    """Connections of the plane."""

    first_byte: float = 5.0
    """Seconds from accept to the first byte."""

    tls_handshake: float = 10.0
    """Seconds from the first byte to the end of the TLS handshake."""


@dataclass(frozen=True, kw_only=True)
class PlaneLimits:
    """What receivers may cost."""

    queued_bytes: int = 256 << 20
    """Bytes that wait for blocked receivers, over all of them."""

    write_timeout: float = 2.0
    """Seconds without progress until a blocked receiver is cut; 0 never cuts."""

    mesh_write_timeout: float = 10.0
    """The same for connections with the mesh right."""

    tcp_user_timeout: float = 15.0
    """Seconds of unacknowledged data until the kernel gives up; 0 leaves it alone."""

    tcp_keepalive: float = 600.0
    """Idle seconds until TCP keepalive probes begin; 0 sends none."""


class ReceiveLimit(NamedTuple):
    """How fast one client is read: bytes a second, and bytes at once. 0: no limit."""

    rate: int = 0
    burst: int = 0


class Stats(NamedTuple):
    """What passed over one connection: payload of packets, frames not counted."""

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0


class Opened(NamedTuple):
    """A connection was accepted, is through TLS, and has sent something."""

    id: ConnectionId
    listener: ListenerId
    peer: Endpoint
    local: Endpoint
    tls_version: str | None


class Connected(NamedTuple):
    """A connection that we dialled is up, and through TLS."""

    id: ConnectionId
    peer: Endpoint
    certificate: bytes
    """The leaf that the peer showed, DER; empty without TLS."""


class Bytes(NamedTuple):
    """A connection in stream state received this; kept until consumed."""

    id: ConnectionId
    data: bytes


class Drained(NamedTuple):
    """What `send` had queued for a connection has left."""

    id: ConnectionId


class Frame(NamedTuple):
    """A frame that is not a packet and not answered by the plane."""

    id: ConnectionId
    kind: int
    payload: bytes


class NoRoute(NamedTuple):
    """A disco packet had nowhere to go. At most 3 at once and 1 a second each."""

    id: ConnectionId
    destination: NodeKey


class Packet(NamedTuple):
    """A packet for a connection that is framed above."""

    id: ConnectionId
    source: NodeKey
    data: bytes


class FirstFrom(NamedTuple):
    """A receiver got its first packet from this source, until `forget`."""

    id: ConnectionId
    source: NodeKey


class Activity(NamedTuple):
    """A connection marked duplicate or questioned sent at least one frame."""

    id: ConnectionId


class Closed(NamedTuple):
    """A connection is no more. Once for each `Opened` and each `connect`, and last."""

    id: ConnectionId
    reason: CloseReason
    detail: str
    stats: Stats


Event = (
    Opened
    | Connected
    | Bytes
    | Drained
    | Frame
    | NoRoute
    | Packet
    | FirstFrom
    | Activity
    | Closed
)

EventSink = Callable[[Sequence[Event]], None]
"""Takes what one turn gave, in order. Commands may be given from within."""


@dataclass
class Counters:
    """What a plane did since it began. Only grows, but for the last four."""

    packets_received_disco: int = 0
    packets_received_other: int = 0
    """Send frames from clients; Forward frames are not counted here."""

    bytes_received: int = 0
    packets_sent: int = 0
    """Recv frames handed to a receiver's socket or TLS session."""

    bytes_sent: int = 0
    forwarded_in: int = 0
    """Forward frames received, also those dropped later."""

    forwarded_out: int = 0
    pings: int = 0
    pongs: int = 0
    unknown_frames: int = 0
    write_timeouts: int = 0
    accepted: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)
    dropped_packets: Counter[tuple[DropReason, bool]] = field(default_factory=Counter)
    """By reason, and whether the packet was disco."""

    dropped_bytes: Counter[tuple[DropReason, bool]] = field(default_factory=Counter)
    flush_frames: Counter[int] = field(default_factory=Counter)
    """Flushes by frames in them, rounded up to a bucket of `FLUSH_BUCKETS`."""

    tls_versions: Counter[str] = field(default_factory=Counter)
    rtt: Counter[str] = field(default_factory=Counter)
    """Samples of the kernel's round-trip estimate, by derper's label."""

    queue_seconds: float = 0.0
    """Moving average of the time packets waited for a blocked receiver."""

    connections: int = 0
    handshakes: int = 0
    queued_bytes: int = 0


class Plane(Protocol):
    """Commands to a plane. Its events go to the sink it was made with."""

    @property
    def counters(self) -> Counters:
        """What it did so far."""

    def listen(
        self, address: Endpoint, tls: ServerTls | None, limits: AcceptLimits
    ) -> tuple[ListenerId, Endpoint]:
        """Open a listener; also returns the address it got.

        Raises:
            OSError: The address cannot be bound.
        """

    def set_tls(self, listener: ListenerId, tls: ServerTls) -> None:
        """Use this for handshakes that begin from now on."""

    def stop(self, listener: ListenerId) -> None:
        """Take what waits in the backlog, then close the listener."""

    def spare(self, hosts: frozenset[str]) -> None:
        """Never cap these by source or rate, no more than loopback.

        Args:
            hosts: IP literals; they replace those of before.
        """

    def connect(
        self, address: Endpoint, tls: ClientTls | None, timeout: float
    ) -> ConnectionId:
        """Dial. `Connected` follows, or `Closed`: after `timeout` seconds at most.

        The address is an IP literal: names are looked up above.

        Raises:
            OSError: It cannot even begin: no route, or a CA that cannot be read.
        """

    def consume(self, connection: ConnectionId, offset: int) -> None:
        """Forget the bytes of a stream before this absolute offset."""

    def send(self, connection: ConnectionId, data: bytes) -> None:
        """Queue bytes, before any data that comes later."""

    def attach(
        self,
        connection: ConnectionId,
        key: NodeKey,
        offset: int,
        flags: Flags,
        limit: ReceiveLimit,
    ) -> None:
        """Make a stream relayed: from this absolute offset on it carries frames."""

    def mark(self, connection: ConnectionId, flags: Flags) -> None:
        """Set the flags of a connection, all of them."""

    def limit(self, connection: ConnectionId, limit: ReceiveLimit) -> None:
        """Shape what is read from a connection, from a full bucket on."""

    def set_route(
        self, key: NodeKey, connection: ConnectionId, kind: RouteKind
    ) -> None:
        """Send packets for a key there from now on."""

    def clear_route(self, key: NodeKey) -> None:
        """Know no way to a key."""

    def deliver(
        self, connection: ConnectionId, destination: NodeKey, data: bytes
    ) -> None:
        """Route a packet that a connection framed above sent."""

    def forget(self, receiver: ConnectionId, source: NodeKey) -> None:
        """Tell `FirstFrom` again when the next packet of the pair comes."""

    def stats(self, connection: ConnectionId) -> Stats:
        """Say what passed over a connection so far; zeros when it is gone."""

    def close(
        self, connection: ConnectionId, detail: str, *, abort: bool = False
    ) -> None:
        """End a connection: what is queued first, unless aborted."""

    def shutdown(self) -> None:
        """Abort everything and give every resource back. Idempotent."""
