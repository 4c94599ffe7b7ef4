"""Framing: the same frames come out however the network cut the stream."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire import frames
from derpnode.wire.errors import FrameTooLarge, FrameTooShort
from derpnode.wire.frames import (
    HEADER_SIZE,
    FrameDecoder,
    FrameType,
    check_size,
    encode_frame,
    looks_like_disco,
)


PING = bytes.fromhex(
    "12"  # type
    "00000008"  # size
    "0102030405060708"  # payload
)


def decode(*chunks: bytes, max_payload: int = 100) -> list[tuple[int, bytes]]:
    """Feed chunk by chunk, and collect what comes out."""
    decoder = FrameDecoder(max_payload=max_payload)
    found = []
    for chunk in chunks:
        decoder.feed(chunk)
        found += decoder
    return found


streams = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=64)))


def test_types_match_derp_go():
    """Type numbers are those of tailscale's derp/derp.go."""
    assert {kind.name: kind.value for kind in FrameType} == {
        "SERVER_KEY": 0x01,
        "CLIENT_INFO": 0x02,
        "SERVER_INFO": 0x03,
        "SEND_PACKET": 0x04,
        "RECV_PACKET": 0x05,
        "KEEP_ALIVE": 0x06,
        "NOTE_PREFERRED": 0x07,
        "PEER_GONE": 0x08,
        "PEER_PRESENT": 0x09,
        "FORWARD_PACKET": 0x0A,
        "WATCH_CONNS": 0x10,
        "CLOSE_PEER": 0x11,
        "PING": 0x12,
        "PONG": 0x13,
        "HEALTH": 0x14,
        "RESTARTING": 0x15,
    }


def test_limits_match_derp_go():
    """Limits are those of tailscale's derp package, and the cap that 1.104 added."""
    assert frames.MAX_PACKET == 65_536
    assert frames.MAX_UNKNOWN == 65_568
    assert (frames.MIN_CLIENT_INFO, frames.MAX_CLIENT_INFO) == (56, 262_144)
    assert (frames.MIN_SERVER_KEY, frames.MAX_SERVER_KEY) == (40, 1024)
    assert (frames.MAX_SERVER_INFO, frames.MAX_CLIENT_FRAME) == (1_048_600, 1_048_576)


def test_encode_matches_derp_go():
    """A ping is the same bytes as in tailscale's derp/client_test.go."""
    assert encode_frame(FrameType.PING, bytes(range(1, 9))) == PING


@given(st.integers(0, 255), st.binary(max_size=200))
def test_claimed_length_is_actual(kind, payload):
    """The header claims what follows it, and nothing else."""
    frame = encode_frame(kind, payload)
    assert frames.HEADER.unpack_from(frame) == (kind, len(frame) - HEADER_SIZE)
    assert frame[HEADER_SIZE:] == payload


def test_size_limit():
    """The limit is on the payload, and is itself allowed."""
    assert decode(PING, max_payload=8) == [(FrameType.PING, PING[5:])]
    with pytest.raises(FrameTooLarge, match=r"^frame 0x12: 8 bytes, limit is 7$"):
        decode(PING, max_payload=7)


def test_size_limit_needs_no_payload():
    """A claim of 4 GiB is refused by its header; frames before it come out."""
    decoder = FrameDecoder(max_payload=100)
    decoder.feed(PING + bytes.fromhex("ff ffffffff"))
    stream = iter(decoder)
    assert next(stream) == (FrameType.PING, PING[5:])
    with pytest.raises(FrameTooLarge):
        next(stream)


def test_too_large_stays_too_large():
    """After a refused frame there is no way back into the stream."""
    decoder = FrameDecoder(max_payload=7)
    decoder.feed(PING)
    for _ in range(2):
        with pytest.raises(FrameTooLarge):
            list(decoder)
        decoder.feed(PING)


@given(streams, st.lists(st.integers(0, 500)))
def test_chunking_does_not_matter(sent, cuts):
    """However the network splits a stream, the same frames come out."""
    stream = b"".join(encode_frame(kind, payload) for kind, payload in sent)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(*chunks) == sent


def test_byte_by_byte():
    """A frame may come one byte at a time, empty reads between them."""
    chunks = [part for byte in PING + PING for part in (bytes([byte]), b"")]
    assert decode(*chunks) == [(FrameType.PING, PING[5:])] * 2


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data):
    """Any bytes are frames, the beginning of one, or too large."""
    decoder = FrameDecoder(max_payload=100)
    decoder.feed(data)
    try:
        used = sum(HEADER_SIZE + len(payload) for _, payload in decoder)
    except FrameTooLarge:
        return
    assert decoder.buffered == len(data) - used


def test_buffered():
    """Bytes count as buffered until their frame has been yielded."""
    decoder = FrameDecoder(max_payload=8)
    decoder.feed(PING + PING[:7])
    assert decoder.buffered == 20
    assert list(decoder) == [(FrameType.PING, PING[5:])]
    assert decoder.buffered == 7


def test_leaving_the_loop_loses_nothing():
    """Iteration goes on where an earlier one was left, also after more bytes."""
    decoder = FrameDecoder(max_payload=8)
    decoder.feed(PING + encode_frame(FrameType.PONG, b"12345678"))
    assert next(iter(decoder)) == (FrameType.PING, PING[5:])
    decoder.feed(PING)
    assert [kind for kind, _ in decoder] == [FrameType.PONG, FrameType.PING]


def test_feeding_inside_the_loop():
    """Bytes fed while iterating come out of the same iteration."""
    decoder = FrameDecoder(max_payload=8)
    decoder.feed(PING)
    stream = iter(decoder)
    assert next(stream) == (FrameType.PING, PING[5:])
    decoder.feed(PING)
    assert list(stream) == [(FrameType.PING, PING[5:])]


def test_payload_does_not_alias_the_buffer():
    """A payload is its own bytes: it may be kept while the stream goes on."""
    decoder = FrameDecoder(max_payload=8)
    decoder.feed(PING)
    ((_, payload),) = decoder
    assert type(payload) is bytes


@pytest.mark.parametrize(
    ("kind", "minimum", "maximum"),
    [
        (FrameType.SEND_PACKET, 32, 65_568),
        (FrameType.FORWARD_PACKET, 64, 65_600),
        (FrameType.NOTE_PREFERRED, 1, 1),
        (FrameType.WATCH_CONNS, 0, 0),
        (FrameType.CLOSE_PEER, 32, 32),
        (FrameType.PING, 8, 1000),
        (FrameType.PONG, 0, 65_568),
        (FrameType.KEEP_ALIVE, 0, 65_568),
        (FrameType.CLIENT_INFO, 0, 65_568),
        (FrameType.RESTARTING, 0, 65_568),
        (0x00, 0, 65_568),
        (0xFE, 0, 65_568),
    ],
)
def test_size_rules(kind, minimum, maximum):
    """Both limits are allowed; one byte beyond either closes the connection."""
    check_size(kind, minimum)
    check_size(kind, maximum)
    with pytest.raises(FrameTooLarge) as caught:
        check_size(kind, maximum + 1)
    assert (caught.value.kind, caught.value.limit) == (kind, maximum)
    if minimum:
        with pytest.raises(FrameTooShort, match=f"minimum is {minimum}$"):
            check_size(kind, minimum - 1)


def test_mesh_frames():
    """Three frames are for peers that proved the mesh key, and all have rules."""
    assert {0x0A, 0x10, 0x11} == frames.NEEDS_MESH
    assert frames.SERVER_RULES.keys() >= frames.NEEDS_MESH


def test_disco():
    """A disco packet has the magic and room for a key and a nonce."""
    magic = bytes.fromhex("5453f09f92ac")
    assert looks_like_disco(magic + bytes(56))
    assert looks_like_disco(memoryview(magic + bytes(1000)))
    assert not looks_like_disco(magic + bytes(55))
    assert not looks_like_disco(bytes(62))
    assert not looks_like_disco(b"")
