"""Links over a plane that does nothing, at a time that a test sets."""

import logging
from collections.abc import Coroutine
from datetime import UTC, datetime

from derpmesh.link.links import Links
from derpmesh.link.plan import Target
from derpnode.config import Address
from derpnode.plane.contract import (
    Bytes,
    ClientTls,
    Closed,
    CloseReason,
    Connected,
    ConnectionId,
    Endpoint,
    Event,
    Flags,
    Frame,
    ReceiveLimit,
    Stats,
)
from derpnode.relay.relay import Client, Relay
from derpnode.server.journal import Journal
from derpnode.server.switchboard import LinkEvents
from derpnode.wire.frames import FrameType
from derpnode.wire.keys import MeshKey, NodeKey
from derpnode.wire.meshring import MeshRing
from tests.mesh.link.conversation import (
    GREETING,
    MESH_KEY,
    SERVER_INFO,
    US,
    login,
)
from tests.node.relay.recorder import Recorder


TICK = 0.25
"""Seconds between two looks at the links, as `derpd` takes them."""


def target(letter: str, **about: object) -> Target:
    """Make a target whose address needs no look-up."""
    plain = {
        "host": f"{letter}.example.com",
        "port": 443,
        "dial": Address(f"192.0.2.{ord(letter)}", 443),
    }
    return Target(f"900{letter}", **(plain | about))


B, C, D = map(target, "bcd")


class RecordingPlane:
    """Writes down what links command; connections live until they are closed."""

    def __init__(self) -> None:
        self.dials: list[tuple[Endpoint, ClientTls | None, float]] = []
        self.sent: dict[ConnectionId, bytes] = {}
        self.attached: dict[ConnectionId, tuple[NodeKey, int, Flags]] = {}
        self.closed: list[tuple[ConnectionId, str, bool]] = []
        self.counted: dict[ConnectionId, Stats] = {}
        """What went over connections that are not closed."""

        self.failure: OSError | None = None
        """Raised by `connect`, while it is set."""

    def connect(
        self, address: Endpoint, tls: ClientTls | None, timeout: float
    ) -> ConnectionId:
        if self.failure is not None:
            raise self.failure
        self.dials.append((address, tls, timeout))
        connection = ConnectionId(100 + len(self.dials))
        self.sent[connection] = b""
        return connection

    def send(self, connection: ConnectionId, data: bytes) -> None:
        self.sent[connection] += data

    def attach(
        self,
        connection: ConnectionId,
        key: NodeKey,
        offset: int,
        flags: Flags,
        limit: ReceiveLimit,
    ) -> None:
        assert limit == ReceiveLimit()
        self.attached[connection] = (key, offset, flags)

    def close(
        self, connection: ConnectionId, detail: str, *, abort: bool = False
    ) -> None:
        self.closed.append((connection, detail, abort))
        self.counted.pop(connection, None)

    def stats(self, connection: ConnectionId) -> Stats:
        return self.counted.get(connection, Stats())

    @property
    def last(self) -> ConnectionId:
        """The connection that was dialled last."""
        return ConnectionId(100 + len(self.dials))


class World:
    """A node's links, its relay, and the plane below them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ring = MeshRing(MESH_KEY)
        self.plane = RecordingPlane()
        self.told = Recorder()
        self.relay = Relay(self.told, US.public)
        self.routes: dict[ConnectionId, LinkEvents] = {}
        self.spawned: list[Coroutine[None, None, None]] = []
        self.journal = Journal(lambda: datetime.now(UTC))
        self.links = Links(
            US,
            lambda: self.ring,
            self.plane,
            self.relay,
            routes=self.routes,
            clock=lambda: self.now,
            spawn=self.spawned.append,
            journal=self.journal,
        )

    def want(self, *targets: Target) -> None:
        """Have links to these, and no others."""
        self.links.apply({wanted.name: wanted for wanted in targets})

    def wait(self, seconds: float) -> None:
        """Let time pass, look by look."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + TICK, until)
            self.links.tick()

    def happen(self, event: Event) -> None:
        """Report an event of a connection to whom it concerns."""
        self.routes[event.id].event(event)

    # What peers do.

    def greet(
        self,
        connection: ConnectionId,
        certificate: bytes = b"",
        *,
        key: MeshKey = MESH_KEY,
    ) -> None:
        """Take the connection, which must prove the key, and shake hands."""
        peer = Endpoint("192.0.2.1", 443)
        self.happen(Connected(connection, peer, certificate))
        self.happen(Bytes(connection, GREETING))
        assert self.plane.sent[connection].endswith(login(key))
        self.happen(Bytes(connection, SERVER_INFO))

    def bring_up(self, wanted: Target) -> ConnectionId:
        """Have one more link, and bring it up, with nobody there."""
        others = [link.target for link in self.links._links.values()]
        self.want(*others, wanted)
        return self.come_up()

    def come_up(self, key: MeshKey = MESH_KEY) -> ConnectionId:
        """Bring up what was dialled last."""
        connection = self.plane.last
        self.greet(connection, key=key)
        self.pong(connection)
        return connection

    def announce(self, connection: ConnectionId, *keys: NodeKey) -> None:
        """Tell of clients, as news."""
        for key in keys:
            self.frame(connection, FrameType.PEER_PRESENT, key)

    def pong(self, connection: ConnectionId) -> None:
        """Answer the last ping."""
        self.frame(connection, FrameType.PONG, bytes(8))

    def frame(self, connection: ConnectionId, kind: int, payload: bytes) -> None:
        """Send a frame over a link that is up."""
        self.happen(Frame(connection, kind, payload))

    def end(
        self,
        connection: ConnectionId,
        reason: CloseReason = CloseReason.EOF,
        detail: str = "",
        stats: Stats | None = None,
    ) -> None:
        """End a connection from outside."""
        self.plane.counted.pop(connection, None)
        self.happen(Closed(connection, reason, detail, stats or Stats()))

    def refuse(self) -> None:
        """Refuse what was dialled last."""
        self.end(self.plane.last, CloseReason.RESET, "Connection refused")

    def join(self, connection: int, key: NodeKey) -> None:
        """Log a client in, that received from everybody who is announced."""
        self.relay.register(Client(connection=connection, key=key))

    # Looking.

    def status(self, name: str):
        """The status of one link."""
        return next(one for one in self.links.statuses() if one.peer == name)

    @property
    def states(self) -> dict[str, str]:
        """What each link is doing."""
        return {one.peer: one.state.value for one in self.links.statuses()}


def messages(caplog, level: int = logging.INFO) -> list[str]:
    """Give what was logged of that level or above."""
    return [one.getMessage() for one in caplog.records if one.levelno >= level]
