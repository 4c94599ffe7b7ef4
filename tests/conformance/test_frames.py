"""C23 to C29: single frames of a client that is logged in."""

import asyncio

import pytest

from derpnode.plane.python import timers
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.payloads import KEEP_ALIVE, WATCH_CONNS, note_preferred, send_packet
from tests.conformance.scene import Place, header, packets


PATTERN = bytes(range(256)) * 4


@pytest.mark.parametrize("size", [8, 13, 1000])
async def test_c23_a_ping_comes_back(place: Place, size):
    """Of a long one, the first eight bytes."""
    client = await place.login()
    await client.say(encode_frame(FrameType.PING, PATTERN[:size]))
    assert await client.frame() == (FrameType.PONG, PATTERN[:8])


@pytest.mark.parametrize("size", [0, 7, 1001])
async def test_c23_a_ping_of_another_size_closes(place: Place, size):
    """Source: protocol.md 4.1."""
    client = await place.login()
    await client.say(encode_frame(FrameType.PING, bytes(size)))
    assert await client.rest() == b""


@pytest.mark.parametrize("payload", [b"", b"\1\1"])
async def test_c24_note_preferred_has_one_byte(place: Place, payload):
    """Anything else closes."""
    client = await place.login()
    await client.say(encode_frame(FrameType.NOTE_PREFERRED, payload))
    assert await client.rest() == b""


async def test_c24_any_value_but_zero_is_home(start):
    """A 2 is a yes as well as a 1."""
    node, place = await start()
    client = await place.login()
    for payload, home in ((b"\2", True), (b"\0", False), (b"\1", True)):
        await client.say(encode_frame(FrameType.NOTE_PREFERRED, payload))
        await client.sync()
        assert [found.home for found in node.relay.clients()] == [home]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(WATCH_CONNS, id="watch"),
        pytest.param(encode_frame(FrameType.CLOSE_PEER, bytes(32)), id="close peer"),
        pytest.param(encode_frame(FrameType.FORWARD_PACKET, bytes(70)), id="forward"),
    ],
)
async def test_c25_without_the_mesh_right(place: Place, frame):
    """Frames of the mesh close an ordinary client."""
    client = await place.login()
    await client.say(frame)
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(encode_frame(FrameType.WATCH_CONNS, b"\0"), id="watch 1"),
        pytest.param(encode_frame(FrameType.CLOSE_PEER, bytes(31)), id="close 31"),
        pytest.param(encode_frame(FrameType.CLOSE_PEER, bytes(33)), id="close 33"),
        pytest.param(encode_frame(FrameType.FORWARD_PACKET, bytes(63)), id="fwd 63"),
        pytest.param(
            header(FrameType.FORWARD_PACKET, 65_601) + bytes(100), id="fwd 65,601"
        ),
    ],
)
async def test_c25_with_the_mesh_right_and_a_wrong_size(place: Place, frame):
    """Source: protocol.md 4.1."""
    peer = await place.login(mesh=True)
    await peer.say(frame)
    assert await peer.rest() == b""


STRAY = [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x09, 0x13, 0x14, 0x15, 0x7F, 0xFF]


@pytest.mark.parametrize("kind", STRAY, ids=hex)
async def test_c26_stray_frames_are_skipped(place: Place, kind):
    """Unknown ones, and known ones that only servers send."""
    client = await place.login()
    for size in (0, 1, 8, 40, 65_568):
        await client.say(encode_frame(kind, bytes(size)))
    assert await client.sync() == []


@pytest.mark.parametrize("kind", STRAY, ids=hex)
@pytest.mark.parametrize("size", [65_569, 2**32 - 1])
async def test_c26_longer_ones_close(place: Place, kind, size):
    """At once: no byte of them is waited for. Source: changes-1.104.md 2.4."""
    client = await place.login()
    await client.say(header(kind, size))
    assert await client.rest() == b""


async def test_c26_longer_ones_close_mesh_peers_too(place: Place):
    """Whoever they are. Source: changes-1.104.md 2.4."""
    peer = await place.login(mesh=True)
    await peer.say(header(0xFE, 65_569))
    assert await peer.rest() == b""


@pytest.mark.parametrize("size", [0, 1, 1400, 65_535, 65_536])
async def test_c27_packets(place: Place, size):
    """From none to 65,536 bytes of data arrive as they were."""
    sender, receiver = await place.login(), await place.login()
    data = (PATTERN * 64)[:size]
    await sender.send(receiver, data)
    assert await receiver.packet() == (sender.key, data)


@pytest.mark.parametrize("size", [0, 31, 65_569, 2**31, 2**32 - 1])
async def test_c27_packets_of_other_sizes_close(place: Place, size):
    """Without a whole key, or beyond 65,536 bytes of data."""
    client = await place.login()
    await client.say(header(FrameType.SEND_PACKET, size), bytes(100))
    assert await client.rest() == b""


async def test_c28_frames_in_one_piece(place: Place):
    """Thirty arrive in their order; packets to oneself among them."""
    one, other = await place.login(), await place.login()
    datas = [b"%d" % number for number in range(30)]
    await one.say(*(send_packet(other.key, data) for data in datas))
    assert [(await other.packet())[1] for _ in datas] == datas
    await one.say(*(send_packet(one.key, data) for data in datas))
    assert sorted([(await one.packet())[1] for _ in datas]) == sorted(datas)


async def test_c28_each_key_in_one_piece(place: Place):
    """Frames to several receivers, mixed, reach each in their order."""
    sender = await place.login()
    receivers = [await place.login() for _ in range(3)]
    await sender.say(
        *(
            send_packet(receivers[n % 3].key, b"%d" % n) + note_preferred(True)
            for n in range(9)
        )
    )
    for turn, receiver in enumerate(receivers):
        got = [(await receiver.packet())[1] for _ in range(3)]
        assert got == [b"%d" % n for n in range(turn, 9, 3)]


async def test_c29_keepalives(start, monkeypatch):
    """They come whether or not anything else does, each after a time of its own."""
    monkeypatch.setattr(timers, "KEEPALIVE_GAP", (0.2, 0.6))
    _, place = await start()
    client = await place.login()
    loop = asyncio.get_running_loop()
    gaps = []
    for _ in range(4):
        started = loop.time()
        await client.send(client, b"traffic")
        frames = [await client.frame(), await client.frame()]
        assert packets(frames) == [b"traffic"]
        assert (FrameType.KEEP_ALIVE, KEEP_ALIVE[5:]) in frames
        gaps.append(loop.time() - started)
    assert len({round(gap, 2) for gap in gaps}) > 1
    assert min(gaps) > 0.1


def test_c29_the_numbers():
    """At least 60 s and below 65, the tick of a tenth included."""
    assert timers.KEEPALIVE_GAP[0] == 60
    assert timers.KEEPALIVE_GAP[1] + 0.1 < 65
