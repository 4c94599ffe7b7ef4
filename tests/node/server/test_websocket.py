"""A WebSocket session: framing, deadlines of the peer's patience, and its end."""

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from derpnode.plane.contract import Drained, Flags, Packet, RouteKind
from derpnode.relay.relay import Client
from derpnode.server import websocket
from derpnode.server.front import LOGIN_TIMEOUT
from derpnode.server.websocket import LOGIN, MESSAGE, WAITING
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, server_key_frame
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import (
    KEEP_ALIVE,
    WATCH_CONNS,
    note_preferred,
    ping,
    pong,
    send_packet,
)
from tests.node.server.desk import (
    DENY,
    MESH_KEY,
    NODE,
    Desk,
    client_info,
    frames,
    is_server_info,
    private_key,
)


REQUEST = (
    b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: derp\r\n\r\n"
)
ALICE = private_key("alice")
BOB = NodeKey(b"b" * 32)


class Browser:
    """A client with a WebSocket to a desk."""

    def __init__(self, desk: Desk, request: bytes = REQUEST) -> None:
        self.desk = desk
        self.codec = Connection(ConnectionType.CLIENT)
        self.id = desk.open()
        desk.say(self.id, request)
        head, _, rest = desk.hear(self.id).partition(b"\r\n\r\n")
        self.head = head
        self.codec.receive_data(rest)

    def say(self, *events) -> None:
        """Send messages, all in one piece."""
        self.desk.say(self.id, b"".join(self.codec.send(event) for event in events))

    def frames(self, *data: bytes) -> None:
        """Send frames, a message each."""
        self.say(*(BytesMessage(one) for one in data))

    def events(self) -> list:
        """Take what was received."""
        self.codec.receive_data(self.desk.hear(self.id))
        return list(self.codec.events())

    def hear(self) -> list[tuple[int, bytes]]:
        """Take the frames that were received."""
        return frames(b"".join(bytes(event.data) for event in self.events()))

    def code(self) -> int:
        """Take the code with which it was closed."""
        (event,) = [e for e in self.events() if isinstance(e, CloseConnection)]
        assert self.id in self.desk.plane.closed
        return event.code


@pytest.fixture
def desk() -> Desk:
    """A node's public port."""
    return Desk()


def logged_in(desk: Desk, info: ClientInfo | None = None) -> Browser:
    """Bring a client as far as ServerInfo."""
    browser = Browser(desk)
    browser.frames(client_info(ALICE, info))
    greeting, server_info = browser.hear()
    assert greeting == (FrameType.SERVER_KEY, server_key_frame(NODE.public)[5:])
    assert is_server_info(server_info, ALICE)
    return browser


# Opening and logging in.


def test_the_handshake(desk):
    """The vector of RFC 6455, 1.3; and it is counted."""
    head = Browser(desk).head
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert b"Sec-WebSocket-Protocol: derp" in head
    assert desk.switchboard.websocket_accepts == 1
    assert not desk.front.guests


def test_no_subprotocol(desk):
    """101 all the same, then 1008."""
    browser = Browser(desk, REQUEST.replace(b"derp\r\n", b"derpx\r\n"))
    assert b"Sec-WebSocket-Protocol" not in browser.head
    assert browser.code() == 1008


def test_everything_in_one_piece(desk):
    """Request, login and frames in the same segment."""
    codec = Connection(ConnectionType.CLIENT)
    message = codec.send(BytesMessage(client_info(ALICE) + ping(b"12345678")))
    browser = Browser(desk, REQUEST + message)
    kinds = [kind for kind, _ in browser.hear()]
    assert kinds == [FrameType.SERVER_KEY, FrameType.SERVER_INFO, FrameType.PONG]


def test_a_login(desk):
    """Its packets come from above, and it counts as a handshake no more."""
    browser = logged_in(desk)
    assert desk.plane.routes[ALICE.public] == (browser.id, RouteKind.ABOVE)
    assert desk.plane.marks[browser.id] == Flags.SETTLED
    assert not desk.plane.attached
    (client,) = desk.relay.clients()
    assert (client.host, client.key) == ("192.0.2.7", ALICE.public)


@pytest.mark.parametrize(
    "first",
    [ping(bytes(8)), encode_frame(0x7F, b""), encode_frame(FrameType.CLIENT_INFO, b"")],
)
def test_a_wrong_first_frame(desk, first):
    """Closes with 1008."""
    browser = Browser(desk)
    browser.frames(first)
    assert browser.code() == 1008


def test_a_login_that_is_too_long(desk):
    """Unlike raw clients, browsers have no 256 KiB to say."""
    browser = Browser(desk)
    browser.frames(b"\x02" + (LOGIN + 1).to_bytes(4))
    assert browser.code() == 1008


def test_a_login_that_is_refused(desk):
    """Closes with 1008."""
    desk.admission.seen = DENY
    browser = Browser(desk)
    browser.frames(client_info(ALICE))
    assert browser.code() == 1008
    assert not list(desk.relay.clients())


async def test_admission_takes_a_while(desk):
    """Regression: what a client said meanwhile closed it. Now it waits, unread."""
    desk.admission.seen = None
    browser = Browser(desk)
    browser.frames(client_info(ALICE))
    before = desk.plane.consumed[browser.id]
    for _ in range(3):
        browser.frames(ping(b"12345678"))
    assert desk.plane.consumed[browser.id] == before
    await desk.answer()
    kinds = [kind for kind, _ in browser.hear()]
    assert kinds == [FrameType.SERVER_KEY, FrameType.SERVER_INFO] + [FrameType.PONG] * 3
    assert desk.plane.consumed[browser.id] > before


async def test_a_bad_frame_while_admission_takes_a_while(desk):
    """It closes once it is looked at."""
    desk.admission.seen = None
    browser = Browser(desk)
    browser.frames(client_info(ALICE), encode_frame(FrameType.PING, b""))
    await desk.answer()
    assert browser.code() == 1008


async def test_a_client_that_left_while_admission_took_a_while(desk):
    """Is not let in any more."""
    desk.admission.seen = None
    browser = Browser(desk)
    browser.frames(client_info(ALICE))
    desk.leave(browser.id)
    await desk.answer()
    assert not list(desk.relay.clients())
    assert not desk.switchboard.sessions


def test_a_client_that_does_not_log_in(desk):
    """Regression: it stayed for ever. Now it has the time of any guest."""
    quiet, client = Browser(desk), logged_in(desk)
    desk.now += LOGIN_TIMEOUT + 0.1
    desk.front.tick()
    assert quiet.code() == 1008
    assert client.id not in desk.plane.closed
    assert desk.front.timeouts == {"websocket": 1}
    desk.front.tick()
    assert not desk.front._sessions


# Frames.


def test_packets(desk):
    """Those it sends are delivered, those for it are framed."""
    browser = logged_in(desk)
    browser.frames(send_packet(BOB, b"hello"))
    assert desk.plane.delivered == [(browser.id, BOB, b"hello")]
    desk.switchboard.events([Packet(browser.id, BOB, b"and back")])
    assert browser.hear() == [(FrameType.RECV_PACKET, BOB + b"and back")]


def test_no_message_is_long(desk):
    """Go's library takes no more than 32,768 bytes."""
    browser = logged_in(desk)
    desk.switchboard.events([Packet(browser.id, BOB, bytes(65_536))])
    sizes, size = [], 0
    for event in browser.events():
        size += len(event.data)
        if event.message_finished:
            sizes.append(size)
            size = 0
    assert sum(sizes) == 5 + 32 + 65_536
    assert max(sizes) == MESSAGE


def test_a_ping(desk):
    """Its first eight bytes come back."""
    browser = logged_in(desk)
    browser.frames(encode_frame(FrameType.PING, b"12345678and more"))
    assert browser.hear() == [(FrameType.PONG, b"12345678")]


def test_home(desk):
    """It is told to the relay."""
    browser = logged_in(desk)
    browser.frames(note_preferred(True))
    (client,) = desk.relay.clients()
    assert client.home


def test_frames_that_mean_nothing(desk):
    """They are skipped."""
    browser = logged_in(desk)
    browser.frames(encode_frame(0x7F, b"?"), pong(bytes(8)), KEEP_ALIVE)
    assert browser.hear() == []
    assert browser.id not in desk.plane.closed


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(FrameType.PING, b""),
        encode_frame(FrameType.FORWARD_PACKET, bytes(64)),
        b"\x04\xff\xff\xff\xff",
        encode_frame(0x7F, bytes(65_569)),
    ],
    ids=["ping 0", "forward", "4 GiB", "unknown too long"],
)
def test_frames_that_close(desk, frame):
    """With 1008."""
    browser = logged_in(desk, ClientInfo(MESH_KEY.secret))
    browser.frames(frame)
    assert browser.code() == 1008


def test_mesh_frames(desk):
    """Without the right they end the connection, with it they are acted on."""
    browser = logged_in(desk)
    browser.frames(WATCH_CONNS)
    assert desk.plane.closed[browser.id][1]
    browser = logged_in(Desk(), ClientInfo(MESH_KEY.secret))
    browser.frames(WATCH_CONNS)
    ((kind, payload),) = browser.hear()
    assert (kind, payload[:32]) == (FrameType.PEER_PRESENT, ALICE.public)


def test_who_does_not_read(desk):
    """Beyond so many bytes its packets are dropped, and counted, until it reads."""
    browser = logged_in(desk)
    packet = Packet(browser.id, BOB, bytes(60_000))
    for _ in range(10):
        desk.switchboard.events([packet])
    received = len(browser.hear())
    assert received == WAITING // 60_000 + 1
    assert sum(desk.plane.counters.dropped_packets.values()) == 10 - received
    assert sum(desk.plane.counters.dropped_bytes.values()) == (10 - received) * 60_000
    desk.switchboard.events([Drained(browser.id), packet])
    assert len(browser.hear()) == 1


def test_whoever_speaks_is_active(desk):
    """Of several connections of a key; and only then is it asked about."""
    browser = logged_in(desk)
    desk.relay.register(Client(connection=99, key=ALICE.public))
    assert desk.plane.routes[ALICE.public][0] == 99
    browser.frames(pong(bytes(8)))
    assert desk.plane.routes[ALICE.public] == (browser.id, RouteKind.ABOVE)
    desk.leave(99)
    assert not desk.switchboard.sessions[browser.id].duplicate


def test_a_client_that_is_asked_whether_it_lives(desk):
    """It is sent a ping, and any frame is an answer."""
    browser = logged_in(desk)
    desk.switchboard.question(browser.id)
    ((kind, payload),) = browser.hear()
    assert (kind, len(payload)) == (FrameType.PING, 8)
    session = desk.switchboard.sessions[browser.id]
    assert session.questioned
    desk.switchboard.unquestion(browser.id)
    assert not session.questioned


def test_keepalives(desk, monkeypatch):
    """A first one after a whole gap, and then on; none before the login."""
    monkeypatch.setattr(websocket, "KEEPALIVE_GAP", (60, 60))
    guest, browser = Browser(desk), logged_in(desk)
    guest.hear()
    said = []
    for _ in range(4):
        desk.switchboard.tick()
        said.append(browser.hear())
        desk.now += 60
    assert said == [[], *[[(FrameType.KEEP_ALIVE, b"")]] * 3]
    assert guest.hear() == []


# The WebSocket itself.


def test_a_ping_of_the_websocket(desk):
    """Is answered by it."""
    browser = logged_in(desk)
    browser.say(Ping(b"x"))
    assert browser.events() == [Pong(bytearray(b"x"))]


def test_text(desk):
    """Is not what it was agreed on: 1003."""
    browser = logged_in(desk)
    browser.say(TextMessage("x"))
    assert browser.code() == 1003


@pytest.mark.parametrize(
    "more",
    [Ping(b"x"), CloseConnection(1000), TextMessage("y"), BytesMessage(ping(bytes(8)))],
)
def test_what_follows_the_end(desk, more):
    """Regression: it raised, and the events of everybody else were lost."""
    browser = logged_in(desk)
    browser.say(TextMessage("x"), more)
    assert browser.code() == 1003


def test_what_the_relay_has_for_a_session_that_ended(desk):
    """Regression: it raised. Now nothing happens."""
    browser = logged_in(desk)
    browser.say(TextMessage("x"))
    browser.code()
    desk.switchboard.send(browser.id, KEEP_ALIVE)
    desk.switchboard.events([Packet(browser.id, BOB, b"late")])
    desk.switchboard.tick()
    desk.say(browser.id, b"late")
    assert desk.hear(browser.id) == b""
    assert sum(desk.plane.counters.dropped_packets.values()) == 1


def test_a_clean_end(desk):
    """Is answered with its code."""
    browser = logged_in(desk)
    browser.say(CloseConnection(1001))
    assert browser.code() == 1001


@pytest.mark.parametrize(
    "data",
    [b"\x82\x05\x12\0\0\0\0", b"\xc2\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\xff" * 20],
)
def test_what_is_no_websocket(desk, data):
    """Closes with 1002."""
    browser = logged_in(desk)
    desk.say(browser.id, data)
    assert browser.code() == 1002


def test_the_end_is_said_once(desk):
    """However often it is closed."""
    browser = logged_in(desk)
    session = desk.switchboard.sessions[browser.id]
    session.close()
    session.close()
    session.refuse("twice")
    assert browser.code() == 1000


def test_a_client_that_leaves(desk):
    """Is forgotten by everybody."""
    browser = logged_in(desk)
    session = desk.switchboard.sessions[browser.id]
    desk.leave(browser.id)
    assert session.gone
    assert not desk.switchboard.sessions
    assert not list(desk.relay.clients())
    assert ALICE.public not in desk.plane.routes
