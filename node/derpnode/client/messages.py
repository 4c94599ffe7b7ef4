"""What a server says to a client that is logged in."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from derpnode.errors import ProtocolError
from derpnode.wire import payloads
from derpnode.wire.frames import FrameType
from derpnode.wire.keys import NodeKey


PeerPresent = payloads.Present
"""A connection, as announced to watchers."""


class Received(NamedTuple):
    """A packet from another client."""

    source: NodeKey
    data: bytes


class PeerGone(NamedTuple):
    """A client cannot be reached here; for reasons see `payloads.GoneReason`."""

    key: NodeKey
    reason: int


class Ping(NamedTuple):
    """The server asks. Only clients that do not answer by themselves see it."""

    data: bytes


class Pong(NamedTuple):
    """An answer to a ping that was not `Client.ping`'s."""

    data: bytes


class Health(NamedTuple):
    """What is wrong with the node; empty if nothing is."""

    text: str


class Restarting(NamedTuple):
    """The node restarts; both in seconds."""

    reconnect_in: float
    try_for: float


class KeepAlive(NamedTuple):
    """The connection is alive."""


class Unknown(NamedTuple):
    """A frame that is newer than this client, or cut short."""

    kind: int
    payload: bytes


Message = (
    Received
    | PeerGone
    | PeerPresent
    | Ping
    | Pong
    | Health
    | Restarting
    | KeepAlive
    | Unknown
)

_PARSERS: Final[Mapping[int, Callable[[bytes], Message]]] = {
    FrameType.RECV_PACKET: lambda data: Received(*payloads.parse_recv_packet(data)),
    FrameType.PEER_GONE: lambda data: PeerGone(*payloads.parse_peer_gone(data)),
    FrameType.PEER_PRESENT: payloads.parse_peer_present,
    FrameType.PING: Ping,
    FrameType.PONG: lambda data: Pong(payloads.parse_pong(data)),
    FrameType.HEALTH: lambda data: Health(payloads.parse_health(data)),
    FrameType.RESTARTING: lambda data: Restarting(*payloads.parse_restarting(data)),
    FrameType.KEEP_ALIVE: lambda _: KeepAlive(),
}


def parse_message(kind: int, payload: bytes) -> Message:
    """Read a frame from a server; what cannot be read is `Unknown`."""
    try:
        return _PARSERS[kind](payload)
    except (KeyError, ProtocolError):
        return Unknown(kind, payload)
