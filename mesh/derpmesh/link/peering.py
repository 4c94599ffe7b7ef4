"""How one link speaks: upgrade, proof, watch, then presence. Sans-IO.

Events go in as calls with the time; commands come out through `Wire`, and what was
learned through `Presence`. One `Peering` lives as long as its connection.
"""

import enum
import hashlib
from dataclasses import dataclass
from typing import Protocol

from derpnode.errors import ProtocolError
from derpnode.relay.presence import PIECE
from derpnode.wire.frames import (
    HEADER,
    HEADER_SIZE,
    MAX_UNKNOWN,
    NODE_STATE,
    FrameType,
)
from derpnode.wire.handshake import (
    ClientInfo,
    client_info_frame,
    open_server_info,
    parse_server_key,
)
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey
from derpnode.wire.payloads import (
    WATCH_CONNS,
    parse_health,
    parse_peer_gone,
    parse_peer_present,
    ping,
)


PING_INTERVAL = 5.0
"""Seconds between two pings."""

MISSED_PINGS = 3
"""Pings without an answer after which a link is dead."""

LAST_SHARE = 0.6
"""Part of an interval that the last of them is given: a peer that vanished just after
an answer, and whose pings are each a moment late, is given up within 20 s."""

MAX_KEYS = 200_000
"""Keys that one peer may announce; beyond it something is wrong with the peer."""

_MAX_HEAD = 4096


class Stage(enum.Enum):
    """How far a link has come."""

    GREETING = "greeting"
    """Waits for 101 and ServerKey."""

    LOGIN = "login"
    """Waits for ServerInfo."""

    UP = "up"


@dataclass(eq=False)
class LinkFailure(ProtocolError):
    """The link must end; says why, for status."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class LinkToSelf(LinkFailure):
    """The relay at the other end is this node, or has its key."""


@dataclass(eq=False)
class MeshKeyDoubted(LinkFailure):
    """The peer hung up as one does that has another mesh key."""


@dataclass(eq=False)
class TooManyKeys(LinkFailure):
    """The peer announces more than it may."""


class Wire(Protocol):
    """Commands to the connection of one link."""

    def send(self, data: bytes) -> None:
        """Queue bytes."""

    def attach(self, key: NodeKey, offset: int) -> None:
        """Have frames parsed from this absolute offset of the stream on."""


class Learned(Protocol):
    """Takes what a link learns."""

    def announced(self, key: NodeKey, *, in_flood: bool) -> None:
        """A client is connected at the peer."""

    def withdrawn(self, key: NodeKey) -> None:
        """A client is connected there no more."""

    def up(self, server_key: NodeKey) -> None:
        """The link is up: the peer has answered on it."""

    def state_of_peer(self, document: bytes) -> None:
        """A node of ours says how it is: JSON."""


class Peering:
    """One link, from TLS to its end.

    Args:
        wire: Carries out its commands.
        learned: Takes what it learns.
        identity: This node's key, which is what it logs in with.
        mesh_key: What it proves.
        host: The Host of its request.
        pin: What the certificate must hash to; None where TLS checked it.
    """

    def __init__(
        self,
        wire: Wire,
        learned: Learned,
        *,
        identity: PrivateKey,
        mesh_key: MeshKey,
        host: str,
        pin: str | None,
    ) -> None:
        self._wire = wire
        self._learned = learned
        self._identity = identity
        self._mesh_key = mesh_key
        self._host = host
        self._pin = pin
        self._buffer = bytearray()
        self._offset = 0
        self._server_key: NodeKey | None = None
        self._keys: set[NodeKey] = set()
        self._in_flood = True
        self._told = 0  # records of presence since the last ping
        self._pinged = 0.0
        self._unanswered = 0
        self._pings = 0
        self.stage = Stage.GREETING
        self.round_trip: float | None = None
        """Seconds that the last ping took."""

        self.health = ""
        """What the peer says is wrong with it."""

    @property
    def keys(self) -> int:
        """How many keys the peer announces."""
        return len(self._keys)

    # The handshake.

    def connected(self, certificate: bytes) -> None:
        """Begin to speak, once the certificate is the right one.

        Raises:
            LinkFailure: It is not.
        """
        if self._pin is not None:
            shown = f"sha256-raw:{hashlib.sha256(certificate).hexdigest()}"
            if shown != self._pin:
                message = f"certificate is {shown}, pin is {self._pin}"
                raise LinkFailure(message)
        # No fast start: it would save one round trip of a link that lives for days.
        self._wire.send(
            f"GET /derp HTTP/1.1\r\nHost: {self._host}\r\n"
            "Upgrade: DERP\r\nConnection: Upgrade\r\n\r\n".encode()
        )

    def received(self, data: bytes, now: float, nonce: bytes) -> None:
        """Go on with the handshake.

        Args:
            data: What came.
            now: Seconds, monotonic.
            nonce: 24 random bytes, for the login if it comes to that.

        Raises:
            LinkFailure: The peer is no relay, or refuses us.
            LinkToSelf: The peer is this node.
        """
        if self.stage is Stage.UP:
            return  # it was under way; the plane has it, and parses it
        self._buffer += data
        if self._server_key is None and not self._greeted(nonce):
            return
        frame = self._frame()
        if frame is None:
            return
        kind, payload = frame
        if kind != FrameType.SERVER_INFO or self._server_key is None:
            message = f"frame 0x{kind:02x} instead of ServerInfo"
            raise LinkFailure(message)
        try:
            open_server_info(payload, self._identity, self._server_key)
        except ProtocolError as exc:
            raise LinkFailure(str(exc)) from exc
        self.stage = Stage.UP
        self._wire.attach(self._server_key, self._offset)
        self._wire.send(WATCH_CONNS)
        self._ping(now)

    def _greeted(self, nonce: bytes) -> bool:
        """Read 101 and ServerKey, and log in; say whether that is done."""
        if self.stage is Stage.GREETING and not self._skip_head():
            return False
        frame = self._frame()
        if frame is None:
            return False
        kind, payload = frame
        if kind != FrameType.SERVER_KEY:
            message = f"frame 0x{kind:02x} instead of ServerKey"
            raise LinkFailure(message)
        try:
            key = parse_server_key(payload)
            info = ClientInfo(mesh_key=self._mesh_key.secret, can_ack_pings=False)
            login = client_info_frame(info, self._identity, key, nonce)
        except ProtocolError as exc:
            raise LinkFailure(str(exc)) from exc
        if key == self._identity.public:
            raise LinkToSelf(reason="it is this node")
        self._server_key = key
        self._wire.send(login)
        return True

    def _skip_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise LinkFailure(reason="no answer to the upgrade in 4096 bytes")
            return False
        line = bytes(self._buffer[: self._buffer.find(b"\r\n")])
        if b" 101 " not in line:
            message = f"the upgrade was answered with {line[:80]!r}"
            raise LinkFailure(message)
        self._take(end + 4)
        self.stage = Stage.LOGIN
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        """Take one frame of the handshake, if it is whole."""
        if len(self._buffer) < HEADER_SIZE:
            return None
        kind, size = HEADER.unpack_from(self._buffer)
        if size > MAX_UNKNOWN:
            message = f"frame 0x{kind:02x}: {size} bytes, limit is {MAX_UNKNOWN}"
            raise LinkFailure(message)
        end = HEADER_SIZE + size
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER_SIZE:end])
        self._take(end)
        return kind, payload

    def _take(self, size: int) -> None:
        del self._buffer[:size]
        self._offset += size

    # Presence.

    def frame(self, kind: int, payload: bytes, now: float) -> None:
        """Act on a frame of a link that is up.

        Frames that are too short are skipped, as Go's watcher does.

        Raises:
            TooManyKeys: The peer announces more than it may.
        """
        try:
            self._frame_up(kind, payload, now)
        except LinkFailure:
            raise
        except ProtocolError:
            return

    def _frame_up(self, kind: int, payload: bytes, now: float) -> None:
        self._told += kind in (FrameType.PEER_PRESENT, FrameType.PEER_GONE)
        if kind == FrameType.PEER_PRESENT:
            self._announced(parse_peer_present(payload).key)
        elif kind == FrameType.PEER_GONE:
            key, _reason = parse_peer_gone(payload)
            self._keys.discard(key)
            self._learned.withdrawn(key)
        elif kind == FrameType.PONG:
            self._answered(now)
        elif kind == FrameType.HEALTH:
            self.health = parse_health(payload)
        elif kind == NODE_STATE:
            self._learned.state_of_peer(payload)

    def _answered(self, now: float) -> None:
        """Act on a Pong.

        The first one says that the peer took us for what we are: whoever has another
        mesh key lets us in like any client, and hangs up on WatchConns.
        """
        if self.round_trip is None and self._server_key is not None:
            self._learned.up(self._server_key)
        self.round_trip = now - self._pinged
        self._unanswered = 0
        if self._in_flood:
            self._end_flood(now)

    def _end_flood(self, now: float) -> None:
        """Act on a Pong: what a 1.104 sends before its first one is the flood.

        A node of ours tells a long one in pieces, the next when the one before has
        left: so before the next Pong, if that is asked for once this one is here.
        """
        if self._told < PIECE:
            self._in_flood = False
        else:
            self._ping(now)

    def _announced(self, key: NodeKey) -> None:
        if key == self._identity.public:
            return
        if key not in self._keys and len(self._keys) >= MAX_KEYS:
            message = f"announces more than {MAX_KEYS} keys"
            raise TooManyKeys(message)
        self._keys.add(key)
        self._learned.announced(key, in_flood=self._in_flood)

    # Time.

    def tick(self, now: float) -> None:
        """Ping when it is time.

        Raises:
            LinkFailure: Too many pings were not answered.
        """
        if self.stage is not Stage.UP:
            return
        is_last = self._unanswered >= MISSED_PINGS
        wait = PING_INTERVAL * (LAST_SHARE if is_last else 1.0)
        if now - self._pinged < wait:
            return
        if is_last:
            seconds = (MISSED_PINGS - 1) * PING_INTERVAL + wait
            message = f"no answer to pings for {seconds:g} s"
            raise LinkFailure(message)
        self._ping(now)

    def _ping(self, now: float) -> None:
        self._pings += 1
        self._unanswered += 1
        self._told = 0
        self._pinged = now
        self._wire.send(ping(self._pings.to_bytes(8)))
