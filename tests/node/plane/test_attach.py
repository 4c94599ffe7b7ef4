"""From a stream to frames: an absolute offset, wherever the network cut the bytes."""

import pytest

from derpnode.plane.contract import (
    STREAM_CAPACITY,
    Bytes,
    Closed,
    CloseReason,
    Flags,
    Frame,
    RouteKind,
)
from derpnode.wire.frames import FrameType
from tests.node.plane import frames
from tests.node.plane.scene import NO_LIMIT, A, B


REQUEST = b"GET /derp HTTP/1.1\r\n\r\n"
SESSION = b"".join(
    [
        frames.NOTE_PREFERRED,
        frames.send(A, b"to myself"),
        frames.UNKNOWN,
        frames.send(A, frames.disco(b"find me")),
        frames.WATCH_CONNS,
        frames.send(B, b"to nobody"),
        frames.ping(b"the end."),
    ]
)
READ = [
    frames.received(A, b"to myself"),
    frames.received(A, frames.disco(b"find me")),
    frames.pong(b"the end."),
]
"""What the peer reads of it, whose key is A."""


def attach(scene, peer, offset: int = len(REQUEST)) -> None:
    """Log a peer in: its frames begin behind its request."""
    scene.plane.set_route(A, peer.id, RouteKind.CLIENT)
    scene.plane.attach(peer.id, A, offset, Flags.MESH, NO_LIMIT)


def attach_when_asked(scene, peer) -> None:
    """Do so from within the sink, as soon as the request is there."""

    def react(event) -> None:
        stream = scene.recorder.stream(event.id)
        if type(event) is Bytes and len(stream) >= len(REQUEST):
            peer.id = event.id
            attach(scene, peer)
            scene.recorder.reactions.remove(react)

    scene.recorder.reactions.append(react)


async def check(scene, peer) -> None:
    """See that the session had all of its effects, each once."""
    assert await peer.frames(len(READ)) == READ
    assert scene.recorder.of(Frame, peer.id) == [
        Frame(peer.id, FrameType.NOTE_PREFERRED, b"\x01"),
        Frame(peer.id, FrameType.WATCH_CONNS, b""),
    ]
    assert await peer.before_pong() == []
    assert scene.recorder.of(Closed) == []


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request):
    """Over both kinds of stream."""
    return request.param


# Every split.


@pytest.mark.parametrize("split", range(len(REQUEST), len(REQUEST + SESSION) + 1))
async def test_attached_after(scene, split):
    """What came before `attach` and what comes after it are one stream."""
    everything = REQUEST + SESSION
    peer = await scene.guest(everything[:split])
    attach(scene, peer)
    await peer.send(everything[split:])
    await check(scene, peer)


async def test_every_split(scene, tls):
    """However the session is cut in two, the sink that attaches at once loses none."""
    everything = REQUEST + SESSION
    for split in range(1, len(everything)):
        scene.recorder.events.clear()
        peer = await scene.silent(tls=tls)
        attach_when_asked(scene, peer)
        await peer.send(everything[:split])
        await scene.opened(peer)
        await peer.send(everything[split:])
        await check(scene, peer)
        scene.plane.close(peer.id, "next", abort=True)
        await scene.recorder.next(Closed, peer.id)


async def test_byte_by_byte(scene, tls):
    """The slowest network there is."""
    everything = REQUEST + SESSION
    peer = await scene.silent(tls=tls)
    attach_when_asked(scene, peer)
    await peer.drip(everything)
    await scene.opened(peer)
    await check(scene, peer)


async def test_everything_at_once(scene, tls):
    """Request and session in one piece: fast start."""
    peer = await scene.silent(tls=tls)
    attach_when_asked(scene, peer)
    peer.push(REQUEST + SESSION)
    await check(scene, peer)


async def test_in_two_records(scene):
    """The same when the header of a frame is cut by the end of a TLS record."""
    peer = await scene.silent(tls=True)
    attach_when_asked(scene, peer)
    everything = REQUEST + SESSION
    cut = len(REQUEST) + 2
    peer.sock.send(peer.seal(everything[:cut]) + peer.seal(everything[cut:]))
    await check(scene, peer)


# Offsets.


async def test_offset_counts_what_was_consumed(scene):
    """It is absolute: from the first byte that the connection ever sent."""
    peer = await scene.guest(REQUEST * 3 + SESSION)
    scene.plane.consume(peer.id, 2 * len(REQUEST))
    attach(scene, peer, offset=3 * len(REQUEST))
    await check(scene, peer)


async def test_offset_in_the_middle(scene):
    """What lies between consumed and attached is skipped."""
    peer = await scene.guest(REQUEST * 3 + SESSION)
    attach(scene, peer, offset=3 * len(REQUEST))
    await check(scene, peer)


async def test_offset_at_the_end(scene):
    """Everything before was the request, and frames are yet to come."""
    peer = await scene.guest(REQUEST)
    attach(scene, peer)
    await peer.send(SESSION)
    await check(scene, peer)


async def test_bytes_in_flight(scene):
    """What the plane reads between an event and the answer to it is not lost."""
    peer = await scene.guest(REQUEST)
    for n in range(0, len(SESSION), 16):
        peer.push(SESSION[n : n + 16])
    attach(scene, peer)
    await check(scene, peer)


async def test_much_behind_the_request(scene, tls):
    """Whoever sends on while it is being admitted is read up to the capacity."""
    packet = frames.send(A, bytes(16 * 1024))
    peer = await scene.silent(tls=tls)
    data = REQUEST + packet * 64 + frames.ping(b"the end.")
    sending = scene.spawn(peer.send(data))
    await scene.opened(peer)
    await scene.recorder.until(
        lambda: len(scene.recorder.stream(peer.id)) > STREAM_CAPACITY
    )
    attach(scene, peer)
    expected = frames.received(A, bytes(16 * 1024))
    assert await peer.frames(64) == [expected] * 64
    assert await peer.frame() == frames.pong(b"the end.")
    await sending


async def test_attached_twice_as_much(scene):
    """The same for a peer whose every frame is as large as it may be."""
    packet = frames.send(A, bytes(65_536))
    peer = scene.dial()
    sending = scene.spawn(peer.send(REQUEST + packet * 20))
    await scene.opened(peer)
    await scene.recorder.until(
        lambda: len(scene.recorder.stream(peer.id)) > STREAM_CAPACITY
    )
    attach(scene, peer)
    assert await peer.frames(20) == [frames.received(A, bytes(65_536))] * 20
    await sending


# What attach changes.


async def test_no_bytes_after_attach(scene):
    """The stream is over: what comes are frames."""
    peer = await scene.guest(REQUEST)
    attach(scene, peer)
    await peer.before_pong()
    assert scene.recorder.stream(peer.id) == REQUEST


async def test_bad_frame_behind_the_request(scene):
    """It ends the connection as any other would."""
    peer = await scene.guest(REQUEST + frames.header(FrameType.SEND_PACKET, 31))
    attach(scene, peer)
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.PROTOCOL


async def test_ended_before_attach(scene):
    """What a peer said before it left counts, though it is attached later."""
    receiver = await scene.client(B)
    peer = await scene.guest(REQUEST + frames.send(B, b"last words"))
    attach(scene, peer)
    peer.close()
    assert await receiver.frame() == frames.received(A, b"last words")
    await scene.recorder.next(Closed, peer.id)


async def test_login_then_frames(scene):
    """What is sent before `attach` comes before what the frames lead to."""
    peer = await scene.guest(REQUEST + frames.ping(b"question"))
    info = frames.encode_frame(FrameType.SERVER_INFO, b"welcome")
    scene.plane.send(peer.id, info)
    attach(scene, peer)
    assert await peer.frames(2) == [
        (FrameType.SERVER_INFO, b"welcome"),
        frames.pong(b"question"),
    ]
