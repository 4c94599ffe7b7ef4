"""Joins plane, relay and front: events to whom they concern, commands back."""

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from derpnode.plane.contract import (
    Activity,
    Bytes,
    Closed,
    Connected,
    ConnectionId,
    Drained,
    DropReason,
    Endpoint,
    Event,
    FirstFrom,
    Flags,
    Frame,
    NoRoute,
    Opened,
    Packet,
    Plane,
    ReceiveLimit,
    RouteKind,
)
from derpnode.relay.relay import Client, Relay
from derpnode.server.front import Front, Guest
from derpnode.server.logins import Logins
from derpnode.server.websocket import WebSocketSession
from derpnode.wire.frames import NODE_STATE, FrameType, looks_like_disco
from derpnode.wire.handshake import Login, server_info_frame
from derpnode.wire.keys import NONCE_SIZE, NodeKey
from derpnode.wire.payloads import ping


class LinkEvents(Protocol):
    """Takes the events of connections that we dialled."""

    def event(self, event: Event) -> None:
        """Act on one of them."""


class Switchboard:
    """Takes the events of the plane, and is the relay's port to its connections.

    Args:
        clock: Seconds, monotonic.
        limit: How fast clients without the mesh right are read.
    """

    plane: Plane
    relay: Relay
    front: Front
    logins: Logins

    def __init__(self, clock: Callable[[], float], limit: ReceiveLimit) -> None:
        self._clock = clock
        self._flags: dict[ConnectionId, Flags] = {}
        self.limit = limit
        self.sessions: dict[ConnectionId, WebSocketSession] = {}
        self.websocket_accepts = 0
        self.links: dict[ConnectionId, LinkEvents] = {}
        """Connections that we dialled, and who acts for each."""

        self.watched: Callable[[int], None] = lambda _: None
        """Called with each connection that began to watch."""

        self.sibling_said: Callable[[bytes], None] = lambda _: None
        """Called with what nodes that watch this one say of themselves."""

    def join(self, plane: Plane, relay: Relay, front: Front, logins: Logins) -> None:
        """Connect the parts; each knows only this."""
        self.plane = plane
        self.relay = relay
        self.front = front
        self.logins = logins

    def tick(self) -> None:
        """Do what is due: ghosts, and the keepalives of WebSocket sessions."""
        now = self._clock()
        self.relay.tick(now)
        for session in list(self.sessions.values()):
            session.tick(now)

    # Events of the plane.

    def events(self, batch: Sequence[Event]) -> None:
        """Hand on what one turn gave."""
        for event in batch:
            link = self.links.get(event.id)
            if link is None:
                self._event(event)
            else:
                link.event(event)

    def _event(self, event: Event) -> None:  # noqa: C901 - one arm an event
        match event:
            case Opened():
                self.front.opened(event)
            case Bytes():
                self._bytes(event)
            case Frame():
                self._frame(event.id, event.kind, event.payload)
            case FirstFrom():
                self.relay.received_from(event.id, event.source)
            case Activity():
                self.relay.spoke(event.id)
            case NoRoute():
                self.relay.no_route(event.id, event.destination)
            case Packet():
                self._packet(event)
            case Drained():
                self._drained(event.id)
            case Closed():
                self._closed(event.id)
            case Connected():  # nobody waits for it any more
                self.plane.close(event.id, "not wanted", abort=True)

    def _frame(self, connection: ConnectionId, kind: int, payload: bytes) -> None:
        self.relay.frame(connection, kind, payload, self._clock())
        if kind == FrameType.WATCH_CONNS and connection in self.relay.presence:
            self.watched(connection)
        elif kind == NODE_STATE:
            client = self.relay.client(connection)
            if client is not None and client.mesh:
                self.sibling_said(payload)

    def _bytes(self, event: Bytes) -> None:
        session = self.sessions.get(event.id)
        if session is None:
            self.front.received(event)
            return
        session.received(event.data)

    def _packet(self, event: Packet) -> None:
        session = self.sessions.get(event.id)
        if session is None or not session.packet(event.source, event.data):
            disco = looks_like_disco(event.data)
            counters = self.plane.counters
            counters.dropped_packets[DropReason.QUEUE_TAIL, disco] += 1
            counters.dropped_bytes[DropReason.QUEUE_TAIL, disco] += len(event.data)

    def _drained(self, connection: ConnectionId) -> None:
        session = self.sessions.get(connection)
        if session is not None:
            session.drained()
        self.relay.drained(connection)

    def _closed(self, connection: ConnectionId) -> None:
        session = self.sessions.pop(connection, None)
        if session is not None:
            session.gone = True
        self._flags.pop(connection, None)
        self.front.closed(connection)
        self.relay.unregister(connection)

    # Guests become clients.

    def admitted(self, guest: Guest, login: Login, mesh: bool) -> None:
        """Register, say so to the client, and let its frames flow, in this order."""
        flags = Flags.MESH if mesh else Flags.NONE
        self._flags[guest.connection] = flags
        client = self._client(guest.connection, guest.peer, login, mesh=mesh)
        client.ideal = guest.ideal
        self.relay.register(client)
        self.plane.send(guest.connection, _server_info(login))
        flags = self._flags[guest.connection]
        limit = ReceiveLimit() if mesh else self.limit
        self.plane.attach(guest.connection, login.key, guest.offset, flags, limit)

    def session(
        self, connection: ConnectionId, peer: Endpoint, offset: int
    ) -> WebSocketSession:
        """Begin a WebSocket session."""
        self.websocket_accepts += 1
        session = WebSocketSession(
            connection,
            peer,
            offset,
            self.plane,
            log_in=self.logins.begin,
            logged_in=self._session_admitted,
            frame=self._frame,
            spoke=self.relay.spoke,
        )
        self.sessions[connection] = session
        return session

    def _session_admitted(
        self,
        session: WebSocketSession,
        login: Login,
        mesh: bool,
    ) -> None:
        self._flags[session.connection] = Flags.SETTLED
        client = self._client(session.connection, session.peer, login, mesh=mesh)
        self.relay.register(client)
        session.send(_server_info(login))

    def _client(
        self, connection: ConnectionId, peer: Endpoint, login: Login, *, mesh: bool
    ) -> Client:
        return Client(
            connection=connection,
            key=login.key,
            host=peer.host.partition("%")[0],
            port=peer.port,
            since=self._clock(),
            mesh=mesh,
            prober=login.info.is_prober,
            app_name=login.info.app_name,
            version=login.info.version,
            can_ack_pings=login.info.can_ack_pings,
        )

    # The relay's port.

    def send(self, connection: int, data: bytes) -> None:
        """Queue control frames."""
        identity = ConnectionId(connection)
        session = self.sessions.get(identity)
        if session is not None:
            session.send(data)
        else:
            self.plane.send(identity, data)

    def set_route(self, key: NodeKey, connection: int) -> None:
        """Bring packets for a key to a client."""
        identity = ConnectionId(connection)
        kind = RouteKind.ABOVE if identity in self.sessions else RouteKind.CLIENT
        self.plane.set_route(key, identity, kind)

    def set_forward(self, key: NodeKey, link: int) -> None:
        """Bring packets for a key to a link."""
        self.plane.set_route(key, ConnectionId(link), RouteKind.LINK)

    def clear_route(self, key: NodeKey) -> None:
        """Know no way to a key."""
        self.plane.clear_route(key)

    def mark_duplicate(self, connection: int, *, duplicate: bool) -> None:
        """Report every turn in which a connection speaks, or no longer."""
        identity = ConnectionId(connection)
        session = self.sessions.get(identity)
        if session is not None:
            session.duplicate = duplicate
        else:
            self._mark(identity, Flags.DUPLICATE, on=duplicate)

    def question(self, connection: int) -> None:
        """Ask a client whether it lives, and report when it speaks."""
        identity = ConnectionId(connection)
        session = self.sessions.get(identity)
        if session is not None:
            session.questioned = True
        else:
            self._mark(identity, Flags.QUESTIONED, on=True)
        self.send(connection, ping(os.urandom(8)))

    def unquestion(self, connection: int) -> None:
        """Stop reporting that."""
        identity = ConnectionId(connection)
        session = self.sessions.get(identity)
        if session is not None:
            session.questioned = False
        else:
            self._mark(identity, Flags.QUESTIONED, on=False)

    def _mark(self, connection: ConnectionId, flag: Flags, *, on: bool) -> None:
        flags = self._flags.get(connection, Flags.NONE)
        flags = flags | flag if on else flags & ~flag
        self._flags[connection] = flags
        self.plane.mark(connection, flags)

    def forget(self, receiver: int, source: NodeKey) -> None:
        """Report the next packet of the pair as the first."""
        self.plane.forget(ConnectionId(receiver), source)

    def close(self, connection: int, detail: str) -> None:
        """End a connection at once."""
        self.plane.close(ConnectionId(connection), detail, abort=True)


def _server_info(login: Login) -> bytes:
    return server_info_frame(login.box, os.urandom(NONCE_SIZE))
