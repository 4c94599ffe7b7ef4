"""A plane and an admission that record what they are told, and a front between them."""

import hashlib
from collections.abc import Coroutine
from dataclasses import dataclass, field

from derpnode.plane.contract import (
    Bytes,
    Closed,
    CloseReason,
    ConnectionId,
    Counters,
    Endpoint,
    Flags,
    ListenerId,
    Opened,
    ReceiveLimit,
    RouteKind,
    ServerTls,
    Stats,
)
from derpnode.relay.relay import Relay
from derpnode.server.admission.verdict import Outcome, Verdict
from derpnode.server.answers import Site
from derpnode.server.front import Front
from derpnode.server.logins import Logins
from derpnode.server.switchboard import Switchboard
from derpnode.wire.frames import FrameDecoder
from derpnode.wire.handshake import ClientInfo, client_info_frame, open_server_info
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey


PUBLIC = ListenerId(1)
PEER = Endpoint("192.0.2.7", 4711)
MESH_KEY = MeshKey(b"\xd1" * 32)

ALLOW = Verdict(Outcome.ALLOW, "test", "may")
DENY = Verdict(Outcome.DENY, "test", "may not")


def private_key(name: str) -> PrivateKey:
    """Make the key that belongs to a name."""
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


NODE = private_key("node")


@dataclass
class FakePlane:
    """Records commands; everything sent leaves at once."""

    sent: dict[int, bytearray] = field(default_factory=dict)
    consumed: dict[int, int] = field(default_factory=dict)
    attached: dict[int, tuple[NodeKey, int, Flags, ReceiveLimit]] = field(
        default_factory=dict
    )
    closed: dict[int, tuple[str, bool]] = field(default_factory=dict)
    marks: dict[int, Flags] = field(default_factory=dict)
    routes: dict[NodeKey, tuple[int, RouteKind]] = field(default_factory=dict)
    delivered: list[tuple[int, NodeKey, bytes]] = field(default_factory=list)
    forgotten: list[tuple[int, NodeKey]] = field(default_factory=list)
    tls: dict[int, ServerTls] = field(default_factory=dict)
    traffic: dict[int, Stats] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)

    def consume(self, connection: ConnectionId, offset: int) -> None:
        self.consumed[connection] = max(offset, self.consumed.get(connection, 0))

    def send(self, connection: ConnectionId, data: bytes) -> None:
        if connection not in self.closed:
            self.sent.setdefault(connection, bytearray()).extend(data)

    def attach(
        self,
        connection: ConnectionId,
        key: NodeKey,
        offset: int,
        flags: Flags,
        limit: ReceiveLimit,
    ) -> None:
        self.attached[connection] = (key, offset, flags, limit)

    def close(
        self, connection: ConnectionId, detail: str, *, abort: bool = False
    ) -> None:
        self.closed.setdefault(connection, (detail, abort))

    def mark(self, connection: ConnectionId, flags: Flags) -> None:
        self.marks[connection] = flags

    def set_route(
        self, key: NodeKey, connection: ConnectionId, kind: RouteKind
    ) -> None:
        self.routes[key] = (connection, kind)

    def clear_route(self, key: NodeKey) -> None:
        self.routes.pop(key, None)

    def deliver(
        self, connection: ConnectionId, destination: NodeKey, data: bytes
    ) -> None:
        self.delivered.append((connection, destination, data))

    def forget(self, receiver: ConnectionId, source: NodeKey) -> None:
        self.forgotten.append((receiver, source))

    def set_tls(self, listener: ListenerId, tls: ServerTls) -> None:
        self.tls[listener] = tls

    def stats(self, connection: ConnectionId) -> Stats:
        return self.traffic.get(connection, Stats())

    def take(self, connection: int) -> bytes:
        """Take what was sent to a connection since."""
        return bytes(self.sent.pop(connection, b""))


class FakeAdmission:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.seen: Verdict | None = ALLOW
        """What `known` says."""

        self.verdict = ALLOW
        """What `decide` says."""

        self.asked: list[tuple[NodeKey, str]] = []

    def known(self, key: NodeKey, ip: str = "") -> Verdict | None:
        return self.seen

    async def decide(self, key: NodeKey, ip: str) -> Verdict:
        self.asked.append((key, ip))
        return self.verdict


class Desk:
    """A front, a switchboard and a relay over a fake plane, and a clock to set."""

    def __init__(
        self, site: Site | None = None, disallowed: tuple[str, ...] = ()
    ) -> None:
        self.now = 100.0
        self.plane = FakePlane()
        self.admission = FakeAdmission()
        self.waiting: list[Coroutine[None, None, None]] = []
        """Questions to admission that nobody has answered yet."""

        self.switchboard = Switchboard(lambda: self.now, ReceiveLimit(5, 6))
        self.relay = Relay(self.switchboard, NODE.public)
        self.logins = Logins(
            NODE,
            MESH_KEY.matches,
            self.admission,  # type: ignore[arg-type]
            disallowed=disallowed,
            clock=lambda: self.now,
            spawn=self.waiting.append,
        )
        self.front = Front(
            self.plane,  # type: ignore[arg-type]
            site or Site(),
            NODE.public,
            self.logins,
            admitted=self.switchboard.admitted,
            session=self.switchboard.session,
            clock=lambda: self.now,
            wall=lambda: 0.0,
        )
        self.switchboard.join(
            self.plane,  # type: ignore[arg-type]
            self.relay,
            self.front,
            self.logins,
        )
        self._next = 0

    def open(self, *, tls: str | None = "1.3", listener: ListenerId = PUBLIC) -> int:
        """Accept a connection; return its id."""
        self._next += 1
        event = Opened(ConnectionId(self._next), listener, PEER, PEER, tls)
        self.switchboard.events([event])
        return self._next

    def say(self, connection: int, *data: bytes) -> None:
        """Have bytes come, each as an event of its own."""
        for piece in data:
            self.switchboard.events([Bytes(ConnectionId(connection), piece)])

    def hear(self, connection: int) -> bytes:
        """Take what was sent to a connection since."""
        return self.plane.take(connection)

    def leave(self, connection: int) -> None:
        """Have a connection end."""
        closed = Closed(ConnectionId(connection), CloseReason.EOF, "", Stats())
        self.switchboard.events([closed])

    async def answer(self, verdict: Verdict = ALLOW) -> None:
        """Have admission answer all questions."""
        self.admission.verdict = verdict
        while self.waiting:
            await self.waiting.pop(0)


def client_info(
    private: PrivateKey, info: ClientInfo | None = None, nonce: bytes = bytes(24)
) -> bytes:
    """Write a ClientInfo frame for the node."""
    return client_info_frame(info or ClientInfo(), private, NODE.public, nonce)


def frames(stream: bytes) -> list[tuple[int, bytes]]:
    """Cut a stream into frames."""
    decoder = FrameDecoder(max_payload=1 << 20)
    decoder.feed(stream)
    found = list(decoder)
    assert decoder.buffered == 0
    return found


def is_server_info(frame: tuple[int, bytes], private: PrivateKey) -> bool:
    """Whether a frame is ServerInfo, for this client."""
    kind, payload = frame
    if kind != 0x03:
        return False
    return open_server_info(payload, private, NODE.public) == {"version": 2}
