"""Events go to whom they concern, and the relay's commands to the right connection."""

import pytest

from derpnode.plane.contract import (
    Activity,
    Closed,
    CloseReason,
    Connected,
    ConnectionId,
    Drained,
    Endpoint,
    FirstFrom,
    Flags,
    Frame,
    NoRoute,
    Opened,
    Packet,
    ReceiveLimit,
    RouteKind,
    Stats,
)
from derpnode.wire.frames import FrameType
from derpnode.wire.handshake import ClientInfo
from derpnode.wire.keys import NodeKey
from tests.node.server.desk import (
    MESH_KEY,
    PUBLIC,
    Desk,
    client_info,
    frames,
    private_key,
)


FAST = b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n"
BOB = NodeKey(b"b" * 32)


@pytest.fixture
def desk() -> Desk:
    """A node's public port."""
    return Desk()


def login(desk: Desk, name: str, info: ClientInfo | None = None) -> int:
    """Log a client in."""
    connection = desk.open()
    nonce = len(desk.plane.attached).to_bytes(24, "little")
    desk.say(connection, FAST + client_info(private_key(name), info, nonce))
    desk.hear(connection)
    return connection


def test_a_client_as_watchers_see_it(desk):
    """What its login said, and where it is from; a zone is none of their business."""
    connection = ConnectionId(99)
    peer = Endpoint("fe80::1%eth0", 7)
    desk.switchboard.events([Opened(connection, PUBLIC, peer, peer, "1.3")])
    info = ClientInfo(
        None, version=3, can_ack_pings=True, is_prober=True, app_name="test"
    )
    desk.say(connection, FAST + client_info(private_key("alice"), info))
    (client,) = desk.relay.clients()
    assert (client.host, client.port, client.since) == ("fe80::1", 7, desk.now)
    assert (client.prober, client.app_name, client.version) == (True, "test", 3)
    assert client.can_ack_pings


def test_frames_go_to_the_relay(desk):
    """With the time, which a change of home needs."""
    connection = login(desk, "alice")
    desk.now += 10
    desk.switchboard.events([Frame(connection, FrameType.NOTE_PREFERRED, b"\1")])
    (client,) = desk.relay.clients()
    assert client.home
    assert desk.relay.counters.home_moves_in == 1


def test_contacts_and_departures(desk):
    """Who received from somebody is told when it leaves, and armed again."""
    alice, bob = login(desk, "alice"), login(desk, "bob")
    key = private_key("bob").public
    desk.switchboard.events([FirstFrom(ConnectionId(alice), key)])
    desk.leave(bob)
    assert frames(desk.hear(alice)) == [(FrameType.PEER_GONE, key + b"\0")]
    assert desk.plane.forgotten == [(alice, key)]
    assert key not in desk.plane.routes


def test_no_route(desk):
    """The sender is told."""
    alice = login(desk, "alice")
    desk.switchboard.events([NoRoute(ConnectionId(alice), BOB)])
    assert frames(desk.hear(alice)) == [(FrameType.PEER_GONE, BOB + b"\1")]


def test_duplicates(desk):
    """Both are watched for activity, and whoever speaks gets the packets."""
    first, second = login(desk, "alice"), login(desk, "alice")
    key = private_key("alice").public
    assert desk.plane.marks[first] == Flags.DUPLICATE
    assert desk.plane.attached[second][2] == Flags.DUPLICATE
    assert desk.plane.routes[key] == (second, RouteKind.CLIENT)
    desk.switchboard.events([Activity(ConnectionId(first))])
    assert desk.plane.routes[key] == (first, RouteKind.CLIENT)
    desk.leave(second)
    assert desk.plane.marks[first] == Flags.NONE


def test_a_mesh_peer_keeps_its_right_as_a_duplicate(desk):
    """Marks are all flags of a connection, not only the new one."""
    info = ClientInfo(MESH_KEY.secret)
    first = login(desk, "peer", info)
    login(desk, "peer", info)
    assert desk.plane.marks[first] == Flags.MESH | Flags.DUPLICATE


def test_questions(desk):
    """A ping, and a mark that has any frame reported."""
    alice = login(desk, "alice")
    desk.switchboard.question(alice)
    ((kind, payload),) = frames(desk.hear(alice))
    assert (kind, len(payload)) == (FrameType.PING, 8)
    assert desk.plane.marks[alice] == Flags.QUESTIONED
    desk.switchboard.unquestion(alice)
    assert desk.plane.marks[alice] == Flags.NONE


def test_watchers(desk):
    """They are sent what changes, piece by piece; and somebody is told of them."""
    told: list[int] = []
    desk.switchboard.watched = told.append
    watcher = login(desk, "peer", ClientInfo(MESH_KEY.secret))
    watch = Frame(ConnectionId(watcher), FrameType.WATCH_CONNS, b"")
    desk.switchboard.events([watch])
    assert told == [watcher]
    assert [kind for kind, _ in frames(desk.hear(watcher))] == [FrameType.PEER_PRESENT]
    login(desk, "alice")
    assert desk.hear(watcher) == b""  # the flood has not left yet
    desk.switchboard.events([Drained(ConnectionId(watcher))])
    assert [kind for kind, _ in frames(desk.hear(watcher))] == [FrameType.PEER_PRESENT]


def test_who_may_not_watch(desk):
    """Is closed at once, and nobody is told."""
    told: list[int] = []
    desk.switchboard.watched = told.append
    alice = login(desk, "alice")
    watch = Frame(ConnectionId(alice), FrameType.WATCH_CONNS, b"")
    desk.switchboard.events([watch])
    assert desk.plane.closed[alice][1]
    assert told == []


def test_routes_to_links(desk):
    """And to nowhere."""
    desk.switchboard.set_forward(BOB, 7)
    assert desk.plane.routes[BOB] == (7, RouteKind.LINK)
    desk.switchboard.clear_route(BOB)
    assert BOB not in desk.plane.routes


def test_a_packet_for_a_session_that_is_gone(desk):
    """Is counted as dropped."""
    packet = Packet(ConnectionId(99), BOB, b"data")
    desk.switchboard.events([packet])
    assert sum(desk.plane.counters.dropped_packets.values()) == 1
    assert sum(desk.plane.counters.dropped_bytes.values()) == 4


class Link:
    """Records the events of a connection that we dialled."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def event(self, event: object) -> None:
        self.events.append(event)


def test_links_have_their_own_events(desk):
    """All of them, and the relay sees none."""
    link = desk.switchboard.links[ConnectionId(50)] = Link()
    connected = Connected(ConnectionId(50), Endpoint("192.0.2.1", 443), b"")
    closed = Closed(ConnectionId(50), CloseReason.EOF, "", Stats())
    desk.switchboard.events([connected, closed])
    assert link.events == [connected, closed]


def test_a_link_that_nobody_waits_for(desk):
    """Is closed as soon as it is up."""
    connected = Connected(ConnectionId(50), Endpoint("192.0.2.1", 443), b"")
    desk.switchboard.events([connected])
    assert desk.plane.closed[50][1]


def test_limits(desk):
    """Clients are read at the rate that is set, mesh peers as fast as they come."""
    alice = login(desk, "alice")
    peer = login(desk, "peer", ClientInfo(MESH_KEY.secret))
    assert desk.plane.attached[alice][3] == ReceiveLimit(5, 6)
    assert desk.plane.attached[peer][3] == ReceiveLimit()
