"""The public port: a guest's way from its first byte to a login, or to the door."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.plane.contract import Flags, ListenerId, ReceiveLimit
from derpnode.server.answers import Site
from derpnode.server.front import (
    HEAD_TIMEOUT,
    IDLE_TIMEOUT,
    LARGE_LOGIN,
    LARGE_LOGINS,
    LOGIN_TIMEOUT,
    MAX_REQUESTS,
    TOTAL_TIMEOUT,
    Role,
)
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, server_key_frame
from derpnode.wire.payloads import ping
from tests.node.server.desk import (
    ALLOW,
    DENY,
    NODE,
    PUBLIC,
    Desk,
    client_info,
    frames,
    is_server_info,
    private_key,
)


UPGRADE = b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n"
FAST = b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n"
PROBE = b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n"
GREETING = server_key_frame(NODE.public)
ALICE = private_key("alice")


@pytest.fixture
def desk() -> Desk:
    """A node's public port."""
    return Desk()


def upgraded(desk: Desk) -> int:
    """Bring a guest as far as ServerKey."""
    guest = desk.open()
    desk.say(guest, FAST)
    assert desk.hear(guest) == GREETING
    return guest


# HTTP.


def test_an_upgrade(desk):
    """101, then ServerKey unasked, and the guest may log in."""
    guest = desk.open()
    desk.say(guest, UPGRADE)
    said = desk.hear(guest)
    assert said.startswith(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n")
    assert said.endswith(b"\r\n\r\n" + GREETING)
    assert desk.plane.consumed[guest] == len(UPGRADE)


def test_answers_until_an_upgrade(desk):
    """Pipelined, and then an upgrade on the same connection."""
    guest = desk.open()
    desk.say(guest, PROBE * 3 + FAST + client_info(ALICE))
    said = desk.hear(guest)
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert GREETING in said
    assert desk.plane.attached[guest][0] == ALICE.public


def test_a_bad_request(desk):
    """Answered once, counted, and the connection ends after it."""
    guest = desk.open()
    desk.say(guest, b"get / HTTP/1.1\r\n", PROBE)
    assert desk.hear(guest).startswith(b"HTTP/1.1 400 ")
    assert desk.plane.closed[guest] == ("answered", False)
    assert desk.front.bad_requests == 1
    assert not desk.front.guests


def test_the_end_after_an_answer(desk):
    """If the client wants it, or the page; nothing after it is read."""
    guest = desk.open()
    desk.say(
        guest, PROBE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + PROBE
    )
    assert desk.hear(guest).count(b"HTTP/1.1 ") == 1
    assert guest in desk.plane.closed


def test_the_last_of_many_requests(desk):
    """It says that it is the last."""
    guest = desk.open()
    desk.say(guest, PROBE * (MAX_REQUESTS - 1))
    assert b"Connection: close" not in desk.hear(guest)
    desk.say(guest, PROBE)
    assert b"Connection: close" in desk.hear(guest)
    assert guest in desk.plane.closed


def test_requests_are_counted_by_tls_version(desk):
    """Those of clients; not plain ones, and not the node's own."""
    internal = ListenerId(7)
    desk.front.roles[internal] = Role.INTERNAL
    for options in ({"tls": "1.2"}, {"tls": None}, {"listener": internal}):
        desk.say(desk.open(**options), PROBE)
    assert desk.front.requests == {"1.2": 1}


def test_port_80(desk):
    """It has answers of its own."""
    desk.front.roles[PUBLIC] = Role.HTTP
    guest = desk.open(tls=None)
    desk.say(guest, UPGRADE)
    assert desk.hear(guest).startswith(b"HTTP/1.1 302 ")
    assert not desk.front.requests


def test_another_site():
    """What the paths say can change at any time."""
    desk = Desk(Site(home="default"))
    guest = desk.open()
    desk.say(guest, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"<h1>DERP</h1>" in desk.hear(guest)
    desk.front.site = Site()
    desk.say(guest, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"<h1>DERP</h1>" not in desk.hear(guest)


# The login.


def test_a_login(desk):
    """Registered, told, and attached where its frames begin, in this order."""
    guest = upgraded(desk)
    desk.say(guest, client_info(ALICE) + ping(b"12345678"))
    (server_info,) = frames(desk.hear(guest))
    assert is_server_info(server_info, ALICE)
    key, offset, flags, limit = desk.plane.attached[guest]
    assert (key, flags, limit) == (ALICE.public, Flags.NONE, ReceiveLimit(5, 6))
    assert offset == len(FAST) + len(client_info(ALICE))
    assert desk.relay.connections_of(ALICE.public) == [guest]
    assert not desk.front.guests


def test_a_mesh_peer(desk):
    """It is not slowed down."""
    guest = upgraded(desk)
    desk.say(guest, client_info(ALICE, ClientInfo(b"\xd1" * 32)))
    _, _, flags, limit = desk.plane.attached[guest]
    assert (flags, limit) == (Flags.MESH, ReceiveLimit())


def test_not_ideal(desk):
    """The header marks the client."""
    guest = desk.open()
    desk.say(guest, FAST.replace(b"Host: x", b"Host: x\r\nIdeal-Node: y"))
    desk.say(guest, client_info(ALICE))
    (client,) = desk.relay.clients()
    assert client.not_ideal


SESSION = PROBE + FAST + client_info(ALICE) + ping(b"12345678") * 2


@pytest.mark.parametrize("at", range(1, len(SESSION)))
def test_every_split_of_a_session(at):
    """B4: wherever the stream is cut, the same is said and the same is attached."""
    whole, split = Desk(), Desk()
    for desk, pieces in ((whole, [SESSION]), (split, [SESSION[:at], SESSION[at:]])):
        desk.say(desk.open(), *pieces)
    assert split.plane.attached == whole.plane.attached
    said = [desk.hear(1) for desk in (whole, split)]
    assert [len(one) for one in said] == [len(said[0])] * 2
    assert said[0][: -len("sealed") - 53] == said[1][: -len("sealed") - 53]


@given(st.lists(st.integers(1, len(SESSION) - 1)))
def test_any_split_of_a_session(cuts):
    """B4: in any number of pieces."""
    desk = Desk()
    edges = [0, *sorted(cuts), len(SESSION)]
    desk.say(desk.open(), *(SESSION[a:b] for a, b in itertools.pairwise(edges)))
    offset = len(SESSION) - 2 * len(ping(b"12345678"))
    assert desk.plane.attached[1][:2] == (ALICE.public, offset)


@pytest.mark.parametrize(
    "first",
    [
        ping(bytes(8)),
        encode_frame(FrameType.CLIENT_INFO, bytes(55)),
        encode_frame(FrameType.CLIENT_INFO, b"")[:1] + b"\x00\x04\x00\x01",
        b"\x02\xff\xff\xff\xff",
    ],
    ids=["ping", "55 bytes", "262,145 bytes", "4 GiB"],
)
def test_a_wrong_first_frame(desk, first):
    """Its header is enough to be shown the door."""
    guest = upgraded(desk)
    desk.say(guest, first)
    assert desk.hear(guest) == b""
    assert desk.plane.closed[guest][1]
    assert not desk.front.guests


def test_a_login_that_cannot_be_opened(desk):
    """It is refused without a word."""
    guest = upgraded(desk)
    desk.say(guest, encode_frame(FrameType.CLIENT_INFO, b"\1" * 100))
    assert desk.hear(guest) == b""
    assert guest in desk.plane.closed
    assert desk.logins.outcomes == {"handshake": 1}


def large(size: int) -> bytes:
    """Begin a ClientInfo of so many bytes."""
    return b"\x02" + size.to_bytes(4) + bytes(60)


def test_the_plane_keeps_no_more_than_it_can(desk):
    """Regression: with its header, the longest login was more than a plane keeps."""
    guest = upgraded(desk)
    desk.say(guest, large(262_144))
    assert desk.plane.consumed[guest] == len(FAST) + 5


def test_few_large_logins_at_once(desk):
    """More are turned away; small ones are not, and those that end make room."""
    guests = [upgraded(desk) for _ in range(LARGE_LOGINS)]
    for guest in guests:
        desk.say(guest, large(LARGE_LOGIN + 1), bytes(10))
    one_more, small = upgraded(desk), upgraded(desk)
    desk.say(one_more, large(LARGE_LOGIN + 1))
    assert one_more in desk.plane.closed
    desk.say(small, large(LARGE_LOGIN))
    assert small not in desk.plane.closed
    desk.leave(guests[0])
    another = upgraded(desk)
    desk.say(another, large(262_144))
    assert another not in desk.plane.closed


async def test_admission_takes_a_while(desk):
    """What comes meanwhile waits in the plane, and is the client's."""
    desk.admission.seen = None
    guest = upgraded(desk)
    desk.say(guest, client_info(ALICE), ping(b"12345678"), ping(b"87654321"))
    assert guest not in desk.plane.attached
    await desk.answer(ALLOW)
    assert desk.plane.attached[guest][1] == len(FAST) + len(client_info(ALICE))
    assert desk.plane.consumed[guest] == len(FAST)


async def test_admission_says_no(desk):
    """The guest is closed, without a word."""
    desk.admission.seen = None
    guest = upgraded(desk)
    desk.say(guest, client_info(ALICE))
    await desk.answer(DENY)
    assert desk.hear(guest) == b""
    assert guest in desk.plane.closed


@pytest.mark.parametrize("verdict", [ALLOW, DENY])
async def test_a_guest_that_left_meanwhile(desk, verdict):
    """Nothing happens to anybody."""
    desk.admission.seen = None
    guest = upgraded(desk)
    desk.say(guest, client_info(ALICE))
    desk.leave(guest)
    await desk.answer(verdict)
    assert not desk.plane.attached
    assert not desk.plane.closed
    assert not list(desk.relay.clients())


def test_bytes_of_nobody(desk):
    """They come from a connection that was closed in the same turn."""
    desk.say(99, PROBE)
    desk.leave(99)
    assert not desk.plane.sent


# Time.


def late(desk: Desk, seconds: float) -> None:
    """Let time go by, and look at the deadlines."""
    desk.now += seconds
    desk.front.tick()


def test_a_head_has_its_time(desk):
    """A byte now and then gains nothing."""
    guest = desk.open()
    desk.say(guest, b"GET")
    late(desk, HEAD_TIMEOUT - 0.1)
    desk.say(guest, b" /")
    assert guest not in desk.plane.closed
    late(desk, 0.2)
    assert desk.plane.closed[guest] == ("out of time", False)
    assert desk.front.timeouts == {"http": 1}


def test_an_idle_connection_has_its_time(desk):
    """And the next head has no more than the first."""
    idle, slow = desk.open(), desk.open()
    for guest in (idle, slow):
        desk.say(guest, PROBE)
    late(desk, IDLE_TIMEOUT - 0.1)
    assert not desk.plane.closed
    desk.say(slow, b"GET")
    late(desk, 0.2)
    assert list(desk.plane.closed) == [idle]
    late(desk, HEAD_TIMEOUT)
    assert list(desk.plane.closed) == [idle, slow]


def test_a_login_has_its_time(desk):
    """From the upgrade on; it is cut off, with what it may have unsent."""
    guest = upgraded(desk)
    late(desk, LOGIN_TIMEOUT - 0.1)
    desk.say(guest, client_info(ALICE)[:50])
    assert guest not in desk.plane.closed
    late(desk, 0.2)
    assert desk.plane.closed[guest] == ("out of time", True)
    assert desk.front.timeouts == {"derp": 1}


def test_everything_together_has_its_time(desk):
    """Regression: each stage was in time, and all of them took 25 s."""
    desk.admission.seen = None
    guest = desk.open()
    late(desk, HEAD_TIMEOUT - 0.1)
    desk.say(guest, FAST)
    late(desk, LOGIN_TIMEOUT - 0.1)
    desk.say(guest, client_info(ALICE))
    late(desk, TOTAL_TIMEOUT - HEAD_TIMEOUT - LOGIN_TIMEOUT + 0.1)
    assert guest not in desk.plane.closed
    late(desk, 0.2)
    assert guest in desk.plane.closed
    assert desk.front.timeouts == {"asked": 1}
    for waiting in desk.waiting:
        waiting.close()


def test_requests_before_it_do_not_count(desk):
    """The time of a login begins with its own request."""
    guest = desk.open()
    for _ in range(5):
        desk.say(guest, PROBE)
        late(desk, IDLE_TIMEOUT - 1)
    desk.say(guest, FAST)
    late(desk, LOGIN_TIMEOUT - 0.1)
    assert guest not in desk.plane.closed


def test_a_client_has_no_deadline(desk):
    """It is no guest any more."""
    guest = upgraded(desk)
    desk.say(guest, client_info(ALICE))
    late(desk, 10 * TOTAL_TIMEOUT)
    assert not desk.plane.closed
