"""How one link speaks, byte for byte, and what it makes of what it hears."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.link import peering as peering_module
from derpmesh.link.peering import LinkFailure, LinkToSelf, Stage
from derpnode.wire.frames import MAX_UNKNOWN, NODE_STATE, FrameType
from derpnode.wire.handshake import ClientInfo, open_client_info
from derpnode.wire.keys import PrivateKey
from tests.mesh.link.conversation import (
    CLIENT_INFO,
    GREETING,
    LOGIN,
    SERVER_INFO,
    SERVER_KEY,
    SWITCHING,
    THEM,
    US,
    WATCHING,
    A,
    B,
    C,
    Conversation,
    D,
    frame,
    numbered_ping,
)


FLOOD, CHANGE = True, False

CERTIFICATE = b"DER of a leaf"
PIN = f"sha256-raw:{hashlib.sha256(CERTIFICATE).hexdigest()}"

ADDRESS = bytes.fromhex("00000000000000000000ffff7f000001bc4a")
PRESENT = FrameType.PEER_PRESENT
GONE = FrameType.PEER_GONE


@pytest.fixture
def talk():
    """A conversation that has not begun."""
    return Conversation()


@pytest.fixture
def asked(talk):
    """One that waits for the answer to its request."""
    talk.begin()
    talk.take()
    return talk


@pytest.fixture
def greeted(asked):
    """One that waits for ServerInfo."""
    asked.hear(GREETING)
    asked.take()
    return asked


@pytest.fixture
def link(talk):
    """One whose link is up."""
    talk.link_up()
    return talk


@pytest.fixture
def settled(link):
    """One whose link is up, and was told who is there."""
    link.pong()
    link.take()
    return link


# The handshake.


@pytest.mark.parametrize(
    "pieces",
    [
        [SWITCHING + SERVER_KEY, SERVER_INFO],
        [SWITCHING, SERVER_KEY, SERVER_INFO],
        [SWITCHING + SERVER_KEY[:5], SERVER_KEY[5:], SERVER_INFO],
    ],
    ids=["one write", "two writes", "anyhow"],
)
def test_whole_conversation(talk, pieces):
    """Go answers the upgrade and greets in one write; others need not."""
    talk.begin()
    talk.hear(*pieces)
    assert talk.take() == LOGIN + WATCHING
    assert talk.peering.stage is Stage.UP


def test_conversation_step_by_step(talk):
    """Nothing is said before it is due."""
    talk.begin()
    assert talk.take() == LOGIN[:1]
    talk.hear(SWITCHING)
    assert (talk.take(), talk.peering.stage) == ([], Stage.LOGIN)
    talk.hear(SERVER_KEY)
    assert talk.take() == LOGIN[1:]
    talk.hear(SERVER_INFO)
    assert talk.take() == WATCHING


@pytest.mark.parametrize("cut", range(1, len(GREETING)))
def test_greeting_cut_anywhere(asked, cut):
    """The network may split what came in one write."""
    asked.hear(GREETING[:cut], GREETING[cut:], SERVER_INFO)
    assert asked.take() == LOGIN[1:] + WATCHING


@pytest.mark.parametrize("cut", range(1, len(SERVER_INFO)))
def test_server_info_cut_anywhere(greeted, cut):
    """The same."""
    greeted.hear(SERVER_INFO[:cut], SERVER_INFO[cut:])
    assert greeted.take() == WATCHING


def test_conversation_byte_by_byte(asked):
    """However slow."""
    for byte in GREETING + SERVER_INFO:
        asked.hear(bytes([byte]))
    assert asked.take() == LOGIN[1:] + WATCHING


def test_what_follows_the_login_is_left_to_the_plane(greeted):
    """Frames are parsed from the offset on that it is told."""
    greeted.hear(SERVER_INFO + frame(PRESENT, A) + frame(FrameType.KEEP_ALIVE))
    assert greeted.take() == WATCHING


def test_bytes_that_were_under_way_when_the_link_came_up(greeted):
    """The plane has them; they are reported once, and parsed there."""
    greeted.hear(SERVER_INFO)
    greeted.take()
    greeted.hear(frame(PRESENT, A))
    assert greeted.take() == []


def test_login_proves_the_mesh_key():
    """And says that pings are not answered, as Go's links do not."""
    login = open_client_info(CLIENT_INFO[5:], PrivateKey(b"\x11" * 32))
    assert login.key == US.public
    assert login.info == ClientInfo(
        mesh_key=b"\x55" * 32, version=2, can_ack_pings=False, is_prober=False
    )


def test_server_key_with_an_extension(asked):
    """Bytes after the key are left to newer nodes."""
    longer = frame(FrameType.SERVER_KEY, SERVER_KEY[5:] + b"more")
    asked.hear(SWITCHING + longer, SERVER_INFO)
    assert asked.take() == [
        *LOGIN[1:],
        ("attach", THEM, len(SWITCHING + longer + SERVER_INFO)),
        *WATCHING[1:],
    ]


# The certificate.


def test_right_pin():
    """The link goes on."""
    talk = Conversation(PIN)
    talk.begin(CERTIFICATE)
    assert talk.take() == LOGIN[:1]


@pytest.mark.parametrize("shown", [b"another", b""])
def test_wrong_pin(shown):
    """Both are named, and the mesh key is not."""
    talk = Conversation(PIN)
    found = f"sha256-raw:{hashlib.sha256(shown).hexdigest()}"
    with pytest.raises(LinkFailure, match=f"^certificate is {found}, pin is {PIN}$"):
        talk.begin(shown)
    assert talk.take() == []


# Who is no relay, or not the right one.


def test_own_key(asked):
    """A relay with our key is us, or was copied from us; nothing is proved to it."""
    own = frame(FrameType.SERVER_KEY, SERVER_KEY[5:13] + US.public)
    with pytest.raises(LinkToSelf, match=r"^it is this node$"):
        asked.hear(SWITCHING + own)
    assert asked.take() == []


HTTP_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
KEY_FRAME = FrameType.SERVER_KEY


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (HTTP_OK, "the upgrade was answered with b'HTTP/1.1 200 OK'"),
        (
            b"HTTP/1.1 426 Upgrade Required\r\n\r\n",
            "the upgrade was answered with b'HTTP/1.1 426 Upgrade Required'",
        ),
        (b"\r\n\r\n", "the upgrade was answered with b''"),
        (
            b"SSH-2.0-101 \r\n" + b"x" * 4096,
            "no answer to the upgrade in 4096 bytes",
        ),
        (
            SWITCHING + frame(FrameType.PONG, bytes(8)),
            "frame 0x13 instead of ServerKey",
        ),
        (
            SWITCHING + bytes.fromhex("0100010021"),
            "frame 0x01: 65569 bytes, limit is 65568",
        ),
        (
            SWITCHING + frame(KEY_FRAME, b"DERP".ljust(40)),
            "handshake: ServerKey does not start with the magic",
        ),
        (
            SWITCHING + frame(KEY_FRAME, SERVER_KEY[5:13] + bytes(32)),
            "handshake: the peer's key is a point of low order",
        ),
        (
            SWITCHING + frame(KEY_FRAME, SERVER_KEY[5:44]),
            "frame 0x01: 39 bytes, minimum is 40",
        ),
        (
            SWITCHING + frame(KEY_FRAME, SERVER_KEY[5:].ljust(1025)),
            "frame 0x01: 1025 bytes, limit is 1024",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_is_no_relay(asked, heard, reason):
    """It is said what was heard instead; nothing was proved to it.

    Regression: a ServerKey of a wrong size was no `LinkFailure`, and went up through
    the plane that had delivered it.
    """
    with pytest.raises(LinkFailure) as caught:
        asked.hear(heard)
    assert str(caught.value) == reason
    assert asked.take() == []


def test_long_answer_to_the_upgrade(asked):
    """Up to 4 KiB are waited for, and an answer may come with any header."""
    head = SWITCHING[:-2].ljust(4090, b"x")
    asked.hear(head)
    asked.hear(b"\r\n\r\n" + SERVER_KEY)
    assert asked.take() == LOGIN[1:]


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (frame(PRESENT, A), "frame 0x09 instead of ServerInfo"),
        (SERVER_KEY, "frame 0x01 instead of ServerInfo"),
        (
            frame(FrameType.SERVER_INFO, SERVER_INFO[5:-1] + b"x"),
            "handshake: the sealed box cannot be opened",
        ),
        (
            frame(FrameType.SERVER_INFO, b"short"),
            "frame 0x03: 5 bytes, minimum is 24",
        ),
        (
            bytes.fromhex("0300010021"),
            "frame 0x03: 65569 bytes, limit is 65568",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_is_not_who_it_said(greeted, heard, reason):
    """Whoever has not the key of its ServerKey cannot seal ServerInfo."""
    with pytest.raises(LinkFailure) as caught:
        greeted.hear(heard)
    assert str(caught.value) == reason
    assert greeted.take() == []
    assert greeted.peering.stage is Stage.LOGIN


def test_server_info_that_is_no_document(greeted):
    """Sealed well, and still nonsense."""
    nonce = b"\x44" * 24
    sealed = PrivateKey(b"\x11" * 32).seal(US.public, b"[]", nonce)
    with pytest.raises(LinkFailure, match=r"^handshake: "):
        greeted.hear(frame(FrameType.SERVER_INFO, sealed))


@given(st.binary(max_size=200), st.sampled_from([b"", SWITCHING, GREETING]))
def test_any_bytes_end_the_link_at_most(heard, before):
    """And nobody else's."""
    talk = Conversation()
    talk.begin()
    with suppress(LinkFailure):
        talk.hear(before, heard)


# Presence.


@pytest.mark.parametrize(
    "about",
    [
        b"",
        ADDRESS,
        ADDRESS + b"\x01",
        ADDRESS + b"\x02\x00",
        ADDRESS + b"\x01\x08test-app",
        ADDRESS + b"\x01\x20" + b"x" * 32,
        ADDRESS + b"\x01\x09too-long",
        ADDRESS + b"\x01\x00future",
        b"half an address",
    ],
    ids=lambda about: f"{32 + len(about)} bytes",
)
def test_presence_of_every_age(settled, about):
    """Servers added fields at the end; what matters is the key."""
    settled.present(A, about)
    assert settled.take() == [("announced", A, CHANGE)]


def test_flood_and_then_changes(link):
    """What comes before the first Pong is old news: decision 2."""
    for key in (A, B):
        link.present(key)
    link.pong()
    link.present(C)
    link.present(A)
    assert link.take() == [
        ("announced", A, FLOOD),
        ("announced", B, FLOOD),
        ("up", THEM),
        ("announced", C, CHANGE),
        ("announced", A, CHANGE),
    ]


def test_flood_of_nobody(settled):
    """The first to come is news."""
    settled.present(A)
    assert settled.take() == [("announced", A, CHANGE)]


def test_regression_flood_in_pieces(link, monkeypatch):
    """The Pong comes behind the first piece; the others are old news as well.

    A node of ours tells its clients in pieces. Those of the later ones took routes
    over that were newer, when a link came back.
    """
    monkeypatch.setattr(peering_module, "PIECE", 2)
    link.present(A)
    link.present(US.public)  # a piece has our own key, too
    link.pong()
    assert link.take() == [("announced", A, FLOOD), ("up", THEM), numbered_ping(2)]
    link.present(B)
    link.frame(GONE, A)
    link.pong()
    assert link.take() == [
        ("announced", B, FLOOD),
        ("withdrawn", A),
        numbered_ping(3),
    ]
    link.present(C)
    link.pong()
    link.present(D)
    assert link.take() == [("announced", C, FLOOD), ("announced", D, CHANGE)]


def test_flood_in_pieces_that_ends_with_one(link, monkeypatch):
    """Then there is one question more, and its answer is the end."""
    monkeypatch.setattr(peering_module, "PIECE", 1)
    link.present(A)
    link.pong()
    link.pong()
    link.present(B)
    assert link.take()[-1] == ("announced", B, CHANGE)


@pytest.mark.parametrize("reason", [b"\x00", b"\x01", b"\x07", b""])
def test_gone_for_any_reason(settled, reason):
    """NotHere too: a packet that was forwarded there found nobody."""
    settled.present(A)
    settled.frame(GONE, A + reason)
    assert settled.take()[1:] == [("withdrawn", A)]
    assert settled.peering.keys == 0


def test_gone_before_it_came(settled):
    """M6: it is passed on; the relay knows what it knows."""
    settled.frame(GONE, A + b"\x00")
    assert settled.take() == [("withdrawn", A)]


def test_own_key_is_not_announced(settled):
    """The peer lists whoever is connected, and so ourselves."""
    settled.present(US.public)
    assert settled.take() == []
    assert settled.peering.keys == 0


def test_keys_are_counted_once(settled):
    """M6: announced with each of its connections, and gone with the last."""
    for key in (A, A, B, C):
        settled.present(key)
    settled.frame(GONE, C)
    assert settled.peering.keys == 2


def test_too_many_keys(settled, monkeypatch):
    """Something is wrong with such a peer; repeats are no more keys."""
    monkeypatch.setattr(peering_module, "MAX_KEYS", 2)
    for key in (A, B, A):
        settled.present(key)
    with pytest.raises(LinkFailure, match=r"^announces more than 2 keys$"):
        settled.present(C)
    settled.frame(GONE, A)
    settled.present(C)
    assert settled.take()[-1] == ("announced", C, CHANGE)


@pytest.mark.parametrize("kind", [PRESENT, GONE])
def test_no_whole_key(settled, kind):
    """Go's watchers skip such a frame, and so do we."""
    settled.frame(kind, bytes(31))
    assert settled.take() == []


@pytest.mark.parametrize(
    "kind",
    [
        FrameType.KEEP_ALIVE,
        FrameType.SERVER_INFO,
        FrameType.RECV_PACKET,
        FrameType.FORWARD_PACKET,
        FrameType.RESTARTING,
        0x77,
        0xFF,
    ],
)
def test_frames_that_mean_nothing_here(settled, kind):
    """A newer peer may send what it likes; packets only leave by a link."""
    settled.frame(kind, bytes(MAX_UNKNOWN))
    assert settled.take() == []


@given(st.integers(0, 255), st.binary(max_size=80))
def test_any_frame_is_survived(kind, payload):
    """None of them ends a link."""
    talk = Conversation()
    talk.link_up()
    talk.frame(kind, payload)


def test_state_of_a_node_of_ours(settled):
    """It is handed on as it came."""
    settled.frame(NODE_STATE, b'{"state":"draining"}')
    assert settled.take() == [("state", b'{"state":"draining"}')]


def test_health(settled):
    """What is wrong with the peer, in its words; nothing at first."""
    assert settled.peering.health == ""
    settled.frame(FrameType.HEALTH, "über".encode())
    assert settled.peering.health == "über"


# Pings.


def test_ping_every_five_seconds(settled):
    """The first left with the login."""
    settled.wait(4.9)
    assert settled.take() == []
    settled.wait(0.1)
    assert settled.take() == [numbered_ping(2)]
    settled.pong()
    settled.wait(5.0)
    assert settled.take() == [numbered_ping(3)]


def test_link_is_up_once_the_peer_has_answered(link):
    """And not at each answer.

    Regression: it was up with ServerInfo. A peer with another mesh key sends that, too,
    and hangs up then; such links were up for a moment, over and over.
    """
    assert link.take() == []
    link.pong()
    link.pong()
    assert link.take() == [("up", THEM)]


def test_round_trip(link):
    """Of the last ping."""
    assert link.peering.round_trip is None
    link.pong(after=0.25)
    assert link.peering.round_trip == pytest.approx(0.25)


def test_death_after_three_pings(link):
    """Thirteen seconds without an answer.

    Regression: it was fifteen, and more than 20 since the peer was there.
    """
    link.wait(5.0)
    link.wait(5.0)
    link.wait(2.9)
    assert link.take() == [numbered_ping(2), numbered_ping(3)]
    with pytest.raises(LinkFailure, match=r"^no answer to pings for 13 s$"):
        link.wait(0.1)
    assert link.take() == []


def test_late_answer_saves_the_link(link):
    """Any answer does, to whichever of them."""
    link.wait(5.0)
    link.wait(5.0)
    link.pong(after=4.9)
    for _ in range(3):
        link.wait(5.0)
    with pytest.raises(LinkFailure):
        link.wait(5.0)


def test_presence_is_no_answer(link):
    """A peer whose writes still arrive may have stopped reading ours."""
    for _ in range(2):
        link.wait(5.0)
        link.present(A)
    with pytest.raises(LinkFailure):
        link.wait(5.0)


def test_no_ping_before_the_link_is_up(greeted):
    """The login has a deadline of its own."""
    greeted.wait(100.0)
    assert greeted.take() == []
