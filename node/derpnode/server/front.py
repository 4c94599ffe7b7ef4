"""The public ports: from a connection's first bytes to a client that has logged in.

One guest is a connection that is not a client yet: it speaks HTTP, then it asks
for DERP, proves its key, and is attached; or it asks for a WebSocket.
"""

import enum
import logging
from collections import Counter
from collections.abc import Callable

from wsproto.frame_protocol import CloseReason as WebSocketCode

from derpnode.plane.contract import (
    Bytes,
    ConnectionId,
    Endpoint,
    ListenerId,
    Opened,
    Plane,
)
from derpnode.server.answers import (
    Answer,
    Site,
    Upgrade,
    WebSocket,
    keeps_alive,
    port80_answer,
    relay_answer,
    render,
    text,
)
from derpnode.server.head import BadRequest, Request, head_size, parse_head
from derpnode.server.logins import Logins, Visitor
from derpnode.server.websocket import WebSocketSession, switching
from derpnode.wire.frames import (
    HEADER,
    HEADER_SIZE,
    MAX_CLIENT_INFO,
    MIN_CLIENT_INFO,
    FrameType,
)
from derpnode.wire.handshake import Login, server_key_frame
from derpnode.wire.keys import NodeKey, untyped_text


logger = logging.getLogger(__name__)

HEAD_TIMEOUT = 5.0
"""Seconds from the first byte of a request to its blank line."""

IDLE_TIMEOUT = 20.0
"""Seconds that a connection may wait between two requests."""

LOGIN_TIMEOUT = 10.0
"""Seconds from the upgrade to a whole ClientInfo.
Source: derpserver.go, accept, the deadline around recvClientKey."""

TOTAL_TIMEOUT = 20.0
"""Seconds from the first byte of the request that upgrades to being let in,
admission included."""

LARGE_LOGIN = 16 * 1024
"""Bytes of a ClientInfo that is large: real ones have a few hundred."""

LARGE_LOGINS = 16
"""Guests that may be sending a large one; more are turned away."""

MAX_REQUESTS = 10_000
"""Requests that one connection may make."""


class Role(enum.Enum):
    """What a listener is for."""

    RELAY = "relay"
    HTTP = "http"
    INTERNAL = "internal"
    """The relay's port for the node's own readiness checks; not counted."""


class Stage(enum.Enum):
    """How far a guest has come."""

    HTTP = "http"
    DERP = "derp"
    ASKED = "asked"


class Guest:
    """A connection that is not a client yet."""

    def __init__(self, front: "Front", opened: Opened, role: Role, now: float) -> None:
        self.front = front
        self.connection = opened.id
        self.peer: Endpoint = opened.peer
        self.tls_version = opened.tls_version
        self.role = role
        self.stage = Stage.HTTP
        self.buffer = bytearray()
        self.offset = 0
        """Absolute offset in the stream of the first byte in the buffer."""

        self.requests = 0
        self.ideal = ""
        self.began = now
        """When the request began that it is at."""

        self.deadline = now + HEAD_TIMEOUT

    def admit(self, login: Login, *, mesh: bool) -> None:
        """Make it a client, if it is still here."""
        self.front.admit(self, login, mesh=mesh)

    def refuse(self, reason: str) -> None:
        """Turn it away, without a word: DERP has no frame for that."""
        self.front.turn_away(self, reason)


class Front:
    """Speaks with guests.

    Args:
        plane: Moves their bytes.
        site: What the paths say; may be replaced while running.
        server_key: The node's public key.
        logins: Decides who gets in.
        admitted: Takes a guest that may relay, and where its frames begin.
        session: Makes a WebSocket session.
        clock: Seconds, monotonic.
        wall: Seconds since the epoch.
    """

    def __init__(  # noqa: PLR0913 - the seams of the public port
        self,
        plane: Plane,
        site: Site,
        server_key: NodeKey,
        logins: Logins,
        *,
        admitted: Callable[[Guest, Login, bool], None],
        session: Callable[[ConnectionId, Endpoint, int], WebSocketSession],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._plane = plane
        self._logins = logins
        self._admitted = admitted
        self._session = session
        self._clock = clock
        self._wall = wall
        self._greeting = server_key_frame(server_key)
        self._switching = (
            "HTTP/1.1 101 Switching Protocols\r\n"
            "Upgrade: DERP\r\nConnection: Upgrade\r\n"
            f"Derp-Version: 2\r\nDerp-Public-Key: {untyped_text(server_key)}\r\n\r\n"
        ).encode()
        self.site = site
        self.roles: dict[ListenerId, Role] = {}
        self.guests: dict[ConnectionId, Guest] = {}
        self._large: set[ConnectionId] = set()
        self._sessions: dict[WebSocketSession, float] = {}
        self.requests: Counter[str] = Counter()
        """HTTPS requests by TLS version."""

        self.timeouts: Counter[str] = Counter()
        """Guests whose time was up, by how far they had come."""

        self.bad_requests = 0

    # Events.

    def opened(self, event: Opened) -> None:
        """Begin with a guest."""
        role = self.roles.get(event.listener, Role.RELAY)
        self.guests[event.id] = Guest(self, event, role, self._clock())

    def received(self, event: Bytes) -> None:
        """Go on with a guest."""
        guest = self.guests.get(event.id)
        if guest is None or guest.stage is Stage.ASKED:
            return
        if guest.stage is Stage.HTTP and guest.requests and not guest.buffer:
            guest.began = self._clock()
            guest.deadline = guest.began + HEAD_TIMEOUT
        guest.buffer += event.data
        if guest.stage is Stage.HTTP:
            self._http(guest)
        if guest.stage is Stage.DERP:
            self._derp(guest)

    def closed(self, connection: ConnectionId) -> None:
        """Forget a guest that left."""
        self.guests.pop(connection, None)

    def tick(self) -> None:
        """Turn away guests whose time is up."""
        now = self._clock()
        for guest in [g for g in self.guests.values() if g.deadline <= now]:
            self.timeouts[guest.stage.value] += 1
            self.turn_away(guest, "out of time")
        for session, deadline in list(self._sessions.items()):
            if session.ready or session.gone:
                del self._sessions[session]
            elif deadline <= now:
                self.timeouts["websocket"] += 1
                session.refuse("out of time")

    # HTTP.

    def _http(self, guest: Guest) -> None:
        """Answer the requests that are whole, until one is an upgrade."""
        try:
            while guest.stage is Stage.HTTP and guest.connection in self.guests:
                size = head_size(guest.buffer)
                if size == 0:
                    return
                head = bytes(guest.buffer[:size])
                self._skip(guest, size)
                self._request(guest, parse_head(head))
        except BadRequest as exc:
            self.bad_requests += 1
            answer = text(exc.status, exc.reason)
            self._plane.send(guest.connection, render(None, answer, self._wall()))
            self._dismiss(guest)

    def _skip(self, guest: Guest, size: int) -> None:
        del guest.buffer[:size]
        guest.offset += size
        self._plane.consume(guest.connection, guest.offset)

    def _request(self, guest: Guest, request: Request) -> None:
        guest.requests += 1
        if guest.role is Role.HTTP:
            self._answer(guest, request, port80_answer(self.site, request))
            return
        if guest.tls_version is not None and guest.role is Role.RELAY:
            self.requests[guest.tls_version] += 1
        match relay_answer(self.site, request):
            case Answer() as answer:
                self._answer(guest, request, answer)
            case Upgrade() as upgrade:
                self._upgrade(guest, upgrade)
            case WebSocket() as websocket:
                self._open_websocket(guest, websocket)

    def _answer(self, guest: Guest, request: Request, answer: Answer) -> None:
        again = keeps_alive(request, answer) and guest.requests < MAX_REQUESTS
        if not again and not answer.close:
            answer = Answer(answer.status, answer.headers, answer.body, close=True)
        self._plane.send(guest.connection, render(request, answer, self._wall()))
        if again:
            guest.deadline = self._clock() + IDLE_TIMEOUT
        else:
            self._dismiss(guest)

    def _upgrade(self, guest: Guest, upgrade: Upgrade) -> None:
        """Greet in DERP. The server speaks first, and in fast start without 101."""
        guest.stage = Stage.DERP
        guest.ideal = upgrade.ideal
        guest.deadline = self._login_deadline(guest)
        if not upgrade.fast_start:
            self._plane.send(guest.connection, self._switching)
        self._plane.send(guest.connection, self._greeting)

    def _open_websocket(self, guest: Guest, request: WebSocket) -> None:
        del self.guests[guest.connection]
        self._plane.send(guest.connection, switching(request))
        session = self._session(guest.connection, guest.peer, guest.offset)
        self._sessions[session] = self._login_deadline(guest)
        if request.subprotocol is None:
            session.close(WebSocketCode.POLICY_VIOLATION)
            return
        session.send(self._greeting)
        if guest.buffer:
            session.received(bytes(guest.buffer))

    def _login_deadline(self, guest: Guest) -> float:
        return min(self._clock() + LOGIN_TIMEOUT, guest.began + TOTAL_TIMEOUT)

    # DERP.

    def _derp(self, guest: Guest) -> None:
        """Wait for a whole ClientInfo frame, and have it judged."""
        if len(guest.buffer) < HEADER_SIZE:
            return
        kind, size = HEADER.unpack_from(guest.buffer)
        if kind != FrameType.CLIENT_INFO:
            self.turn_away(guest, f"frame 0x{kind:02x} before ClientInfo")
            return
        if not MIN_CLIENT_INFO <= size <= MAX_CLIENT_INFO:
            limits = f"{MIN_CLIENT_INFO} to {MAX_CLIENT_INFO}"
            self.turn_away(guest, f"ClientInfo: {size} bytes, limits are {limits}")
            return
        if size > LARGE_LOGIN and not self._may_be_large(guest):
            self.turn_away(guest, "too many large logins at once")
            return
        end = HEADER_SIZE + size
        if len(guest.buffer) < end:
            # The plane keeps less than the longest frame has with its header.
            self._plane.consume(guest.connection, guest.offset + HEADER_SIZE)
            return
        self._large.discard(guest.connection)
        guest.stage = Stage.ASKED
        guest.deadline = guest.began + TOTAL_TIMEOUT
        payload = bytes(guest.buffer[HEADER_SIZE:end])
        guest.offset += end
        guest.buffer.clear()
        visitor: Visitor = guest
        self._logins.begin(payload, visitor)

    def _may_be_large(self, guest: Guest) -> bool:
        self._large &= self.guests.keys()
        if len(self._large) < LARGE_LOGINS:
            self._large.add(guest.connection)
        return guest.connection in self._large

    def admit(self, guest: Guest, login: Login, *, mesh: bool) -> None:
        """Hand a guest on that may relay, if it is still here."""
        if self.guests.pop(guest.connection, None) is not None:
            self._admitted(guest, login, mesh)

    def turn_away(self, guest: Guest, reason: str) -> None:
        """Close a guest at once."""
        if self.guests.pop(guest.connection, None) is not None:
            self._plane.close(guest.connection, reason, abort=guest.stage is Stage.DERP)

    def _dismiss(self, guest: Guest) -> None:
        """Close a guest once it has its answer."""
        if self.guests.pop(guest.connection, None) is not None:
            self._plane.close(guest.connection, "answered")
