"""Payloads: golden bytes, round trips, and frames from servers of any age."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire import payloads
from derpnode.wire.errors import FrameTooShort, ProtocolError
from derpnode.wire.frames import HEADER, HEADER_SIZE, MAX_PACKET, FrameType, check_size
from derpnode.wire.keys import ZERO_KEY, NodeKey
from derpnode.wire.payloads import GoneReason, Present, PresentFlags
from tests.node.wire.strategies import keys, packets, ports


A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)
LOCALHOST = ip_address("127.0.0.1")

PRESENT = bytes.fromhex(
    "a1"
    * 32  # key
    + "00000000000000000000ffff7f000001"  # address
    "a8ea"  # port
    "01"  # flags
    "08"  # length of the name
    "746573742d617070"  # name
)

app_names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=32)
presents = st.builds(
    Present,
    keys,
    st.none() | st.ip_addresses(v=4),
    ports,
    st.integers(0, 255).map(PresentFlags),
    app_names,
)
delays = st.integers(0, 2**32 - 1).map(lambda milliseconds: milliseconds / 1000)


@pytest.mark.parametrize(
    ("frame", "golden"),
    [
        (payloads.KEEP_ALIVE, "06 00000000"),
        (payloads.WATCH_CONNS, "10 00000000"),
        (payloads.note_preferred(True), "07 00000001 01"),
        (payloads.note_preferred(False), "07 00000001 00"),
        (payloads.ping(bytes(range(1, 9))), "12 00000008 0102030405060708"),
        (payloads.pong(bytes(range(1, 9))), "13 00000008 0102030405060708"),
        (
            payloads.peer_gone(A, GoneReason.DISCONNECTED),
            "08 00000021" + A.hex() + "00",
        ),
        (payloads.peer_gone(A, GoneReason.NOT_HERE), "08 00000021" + A.hex() + "01"),
        (payloads.close_peer(A), "11 00000020" + A.hex()),
        (payloads.send_packet(A, b"hi"), "04 00000022" + A.hex() + "6869"),
        (payloads.recv_packet(A, b"hi"), "05 00000022" + A.hex() + "6869"),
        (
            payloads.forward_packet(A, B, b"hi"),
            "0a 00000042" + A.hex() + B.hex() + "6869",
        ),
        (payloads.health("bad"), "14 00000003 626164"),
        (payloads.health(""), "14 00000000"),
        (payloads.restarting(0.25, 5), "15 00000008 000000fa 00001388"),
        (
            payloads.peer_present(Present(A, LOCALHOST, 43250, PresentFlags.REGULAR)),
            "09 00000034" + A.hex() + "00000000000000000000ffff7f000001 a8f2 01 00",
        ),
        (
            payloads.peer_present(
                Present(A, LOCALHOST, 43242, PresentFlags.REGULAR, "test-app")
            ),
            "09 0000003c" + PRESENT.hex(),
        ),
        (
            payloads.peer_present(Present(A, flags=PresentFlags.NOT_IDEAL)),
            "09 00000034" + A.hex() + "00" * 18 + "08 00",
        ),
    ],
)
def test_golden(frame, golden):
    """Frames are the bytes seen between Go peers; presence as of 1.104."""
    assert frame == bytes.fromhex(golden)
    kind, size = HEADER.unpack_from(frame)
    assert FrameType(kind)
    assert size == len(frame) - HEADER_SIZE


@given(keys, st.sampled_from(GoneReason))
def test_peer_gone_round_trip(key, reason):
    """Who is gone, and why, survives the wire."""
    frame = payloads.peer_gone(key, reason)
    assert payloads.parse_peer_gone(frame[HEADER_SIZE:]) == (key, reason)


def test_peer_gone_of_any_age():
    """Old servers send no reason; new ones may send another, or more."""
    assert payloads.parse_peer_gone(A) == (A, GoneReason.DISCONNECTED)
    assert payloads.parse_peer_gone(A + b"\xf0") == (A, 0xF0)
    assert payloads.parse_peer_gone(A + b"\x01more") == (A, GoneReason.NOT_HERE)


@given(presents)
def test_peer_present_round_trip(present):
    """An announcement survives the wire, and is 52 bytes and the name."""
    frame = payloads.peer_present(present)
    assert len(frame) == HEADER_SIZE + 52 + len(present.app_name)
    assert payloads.parse_peer_present(frame[HEADER_SIZE:]) == present


@pytest.mark.parametrize(
    ("ip", "back"),
    [
        ("2001:db8::1", ip_address("2001:db8::1")),
        ("::ffff:127.0.0.1", LOCALHOST),
        ("::", None),
    ],
)
def test_peer_present_ipv6(ip, back):
    """IPv6 survives; a v4-mapped address comes back as IPv4, no address as None."""
    frame = payloads.peer_present(Present(A, ip_address(ip)))
    assert payloads.parse_peer_present(frame[HEADER_SIZE:]).ip == back


FLAGGED = Present(A, LOCALHOST, 43242, PresentFlags.REGULAR)


@pytest.mark.parametrize(
    ("payload", "present"),
    [
        pytest.param(PRESENT[:32], Present(A), id="key only, ancient"),
        pytest.param(PRESENT[:49], Present(A), id="half an endpoint"),
        pytest.param(PRESENT[:50], Present(A, LOCALHOST, 43242), id="no flags, old"),
        pytest.param(PRESENT[:51], FLAGGED, id="no name, before 1.104"),
        pytest.param(PRESENT[:51] + b"\0", FLAGGED, id="empty name"),
        pytest.param(PRESENT, FLAGGED._replace(app_name="test-app"), id="1.104"),
        pytest.param(
            PRESENT + b"\xde\xad", FLAGGED._replace(app_name="test-app"), id="newer"
        ),
        pytest.param(PRESENT[:52], FLAGGED, id="name missing"),
        pytest.param(PRESENT[:-1], FLAGGED, id="name cut short"),
        pytest.param(PRESENT[:51] + b"\3a\nb", FLAGGED, id="control byte in name"),
        pytest.param(PRESENT[:51] + b"\1\x7f", FLAGGED, id="DEL in name"),
        pytest.param(PRESENT[:51] + b"\2\xc3\xa9", FLAGGED, id="UTF-8 in name"),
        pytest.param(
            PRESENT[:51] + b"\x20" + b"x" * 32,
            FLAGGED._replace(app_name="x" * 32),
            id="longest name",
        ),
        pytest.param(PRESENT[:51] + b"\x21" + b"x" * 33, FLAGGED, id="name too long"),
    ],
)
def test_peer_present_of_any_age(payload, present):
    """What a server did not send has its default; a bad name costs only itself."""
    assert payloads.parse_peer_present(payload) == present


@pytest.mark.parametrize("name", ["x" * 33, "\n", "\x7f", "\xe9", "\N{SNOWMAN}"])
def test_peer_present_refuses_a_bad_name(name):
    """We do not send names that other nodes would drop."""
    with pytest.raises(ValueError, match=name):
        payloads.peer_present(Present(A, app_name=name))


@pytest.mark.parametrize("name", ["", " ~", "x" * 32, "a-b_c 1.2"])
def test_valid_app_name(name):
    """Up to 32 printable ASCII characters, none among them, make a name."""
    assert payloads.valid_app_name(name)


@pytest.mark.parametrize(
    "name", ["x" * 33, "a\n", "\0", "\x1f", "\x7f", "\xe9", "\ud800", "\N{SNOWMAN}"]
)
def test_invalid_app_name(name):
    """Longer names, and any other character, do not."""
    assert not payloads.valid_app_name(name)


@given(delays, delays)
def test_restarting_round_trip(reconnect_in, try_for):
    """Seconds on both sides, whole milliseconds between."""
    frame = payloads.restarting(reconnect_in, try_for)
    assert payloads.parse_restarting(frame[HEADER_SIZE:]) == (reconnect_in, try_for)


def test_restarting_is_cut_to_the_wire():
    """Delays that the wire cannot say become the nearest it can."""
    frame = payloads.restarting(-1, 1e9)
    assert frame[HEADER_SIZE:] == bytes.fromhex("00000000 ffffffff")


def test_ping_carries_eight_bytes():
    """A longer ping is answered with its first eight bytes."""
    longest = bytes(range(1, 9)) + bytes(992)
    assert payloads.pong(longest) == payloads.pong(longest[:8])
    assert payloads.parse_pong(longest) == longest[:8]


@given(st.text())
def test_health_round_trip(text):
    """Any text that can be sent at all comes out as it was."""
    assert payloads.parse_health(payloads.health(text)[HEADER_SIZE:]) == text


def test_health_is_readable_whatever_the_bytes():
    """Broken UTF-8 is shown as far as it goes."""
    assert payloads.parse_health(b"a\xff") == "a\N{REPLACEMENT CHARACTER}"


@given(keys, packets)
def test_recv_packet_round_trip(source, packet):
    """A packet and its sender survive the wire."""
    if source != ZERO_KEY:
        payload = payloads.recv_packet(source, packet)[HEADER_SIZE:]
        assert payloads.parse_recv_packet(payload) == (source, packet)


def test_zero_source_is_version_1():
    """A packet from nobody has no source key, as derper sends it."""
    assert payloads.recv_packet(ZERO_KEY, b"hi") == b"\x05\0\0\0\2hi"


@pytest.mark.parametrize("size", [0, 1, MAX_PACKET])
def test_packet_limits(size):
    """Empty packets and the largest are both within what a server takes."""
    for frame in (
        payloads.send_packet(A, bytes(size)),
        payloads.forward_packet(A, B, bytes(size)),
    ):
        check_size(*HEADER.unpack_from(frame))


PARSERS = [
    (payloads.parse_peer_gone, 32),
    (payloads.parse_peer_present, 32),
    (payloads.parse_recv_packet, 32),
    (payloads.parse_restarting, 8),
    (payloads.parse_pong, 8),
]


@pytest.mark.parametrize(("parse", "minimum"), PARSERS)
def test_short_payloads(parse, minimum):
    """The fixed-size fields must all be there; one byte fewer is an error."""
    parse(bytes(minimum))
    with pytest.raises(
        FrameTooShort, match=f"{minimum - 1} bytes, minimum is {minimum}"
    ):
        parse(bytes(minimum - 1))


@pytest.mark.parametrize("build", [payloads.ping, payloads.pong])
def test_short_ping(build):
    """A ping of seven bytes cannot be built."""
    with pytest.raises(FrameTooShort, match=r"7 bytes, minimum is 8$"):
        build(bytes(7))


@given(st.binary(max_size=120))
@pytest.mark.parametrize(("parse", "minimum"), [*PARSERS, (payloads.parse_health, 0)])
def test_arbitrary_payloads(parse, minimum, payload):
    """Any payload is read or refused, never anything else."""
    try:
        parse(payload)
    except ProtocolError:
        assert len(payload) < minimum


@given(st.binary(max_size=120))
def test_parsed_presence_can_be_sent(tail):
    """Whatever a peer announces can be announced again."""
    present = payloads.parse_peer_present(A + tail)
    frame = payloads.peer_present(present)
    assert payloads.parse_peer_present(frame[HEADER_SIZE:]) == present


def test_flags_are_bits():
    """Flags combine; unknown ones from newer servers are kept."""
    busy = PresentFlags.MESH_PEER | PresentFlags.PROBER | PresentFlags.NOT_IDEAL
    assert busy == 14
    assert payloads.parse_peer_present(PRESENT[:50] + b"\x90").flags == 0x90
