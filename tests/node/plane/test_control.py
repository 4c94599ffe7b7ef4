"""What the plane says by itself, and what it is told to say: pongs and keepalives."""

import asyncio

import pytest

from derpnode.plane.contract import Activity, Closed, CloseReason, Flags
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.payloads import KEEP_ALIVE
from tests.node.plane import frames
from tests.node.plane.scene import FIRST, A, B


KEPT_ALIVE = (FrameType.KEEP_ALIVE, b"")
TELL = encode_frame(FrameType.HEALTH, b"listen")
TOLD = (FrameType.HEALTH, b"listen")


# Ping.


@pytest.mark.parametrize("size", [8, 13, 1000])
async def test_ping_is_answered(scene, size):
    """With its first eight bytes; the others are reserved."""
    peer = await scene.client(A)
    payload = bytes(range(250)) * 4
    await peer.send(encode_frame(FrameType.PING, payload[:size]))
    assert await peer.frame() == (FrameType.PONG, payload[:8])
    assert (scene.counters.pings, scene.counters.pongs) == (1, 1)


@pytest.mark.parametrize("size", [7, 1001])
async def test_bad_ping(scene, size):
    """Too little to echo, or too much to throw away."""
    peer = await scene.client(A)
    await peer.send(encode_frame(FrameType.PING, bytes(size)))
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.PROTOCOL


async def test_many_pings(scene):
    """Some may go unanswered, but not the last, and none is answered late."""
    peer = await scene.client(A)
    asked = [n.to_bytes(8) for n in range(200)]
    peer.push(b"".join(frames.ping(payload) for payload in asked))
    answers = await peer.before_pong()
    payloads = [payload for _, payload in answers]
    assert payloads == sorted(set(payloads) & set(asked))
    assert payloads[-1] == asked[-1]


async def test_pings_of_who_does_not_read(scene):
    """At most one answer is owed, however often a blocked peer asks."""
    peer = await scene.client(A)
    await scene.blocked(peer)
    await peer.send(b"".join(frames.ping(n.to_bytes(8)) for n in range(1000)))
    await scene.until(lambda: scene.counters.pings == 1000)
    await scene.unblocked(peer)
    answers = await peer.before_pong()
    assert [kind for kind, _ in answers] == [FrameType.PONG]


async def test_link_is_answered(scene):
    """A node that we dialled may ask as well."""
    link = await scene.link()
    assert await link.before_pong() == []


async def test_pong_is_taken(scene):
    """An answer of a peer is activity, and nothing else."""
    peer = await scene.client(A, Flags.QUESTIONED)
    await peer.send(encode_frame(FrameType.PONG, b"here I am"))
    await scene.recorder.next(Activity, peer.id)
    assert await peer.before_pong() == []
    assert scene.counters.unknown_frames == 0


# Keepalive.


class Draws:
    """A random source that is asked for a long time, and gives a short one."""

    def __init__(self, seconds: float) -> None:
        self.asked: list[tuple[float, float]] = []
        self.seconds = seconds

    def __call__(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return self.seconds


async def test_keepalive(opens):
    """Each gap is drawn anew, between 60 and 65 seconds."""
    draws = Draws(0.01)
    scene = opens(uniform=draws)
    peer = await scene.client(A)
    assert await peer.frames(3) == [KEPT_ALIVE] * 3
    assert len(draws.asked) >= 3
    assert all(60 <= low < high <= 65 for low, high in draws.asked)


async def test_keepalive_is_not_early(opens):
    """It waits for as long as was drawn."""
    scene = opens(uniform=Draws(0.3))
    peer = await scene.client(A)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await peer.frame() == KEPT_ALIVE
    assert 0.25 <= loop.time() - began < 2


async def test_keepalive_whatever_else_is_said(opens):
    """Traffic does not put it off."""
    scene = opens(uniform=Draws(0.05))
    peer = await scene.client(A)
    seen = []
    async with asyncio.timeout(5):
        while seen.count(KEPT_ALIVE) < 2:
            seen += await peer.before_pong()
    assert set(seen) == {KEPT_ALIVE}


async def test_keepalive_of_a_client_over_tls(opens):
    """The same."""
    scene = opens(uniform=Draws(0.01))
    peer = await scene.client(A, tls=True)
    assert await peer.frames(2) == [KEPT_ALIVE] * 2


async def test_no_keepalive_for_others(opens):
    """A stream has no frames, and a link is kept alive by the node that it leads to."""
    scene = opens(uniform=Draws(0.01))
    guest, link = await scene.guest(), await scene.link()
    peer = await scene.client(A)
    await peer.frames(3)
    assert await link.before_pong() == []
    scene.plane.send(guest.id, b"hello")
    assert await guest.exactly(5) == b"hello"


async def test_keepalive_of_who_left(opens):
    """Nobody is kept alive who is gone, or going."""
    scene = opens(uniform=Draws(0.01))
    gone, going, staying = [await scene.client(key) for key in (A, B, A)]
    gone.close()
    scene.plane.close(going.id, "drained")
    await staying.frames(3)
    assert KEEP_ALIVE not in await going.rest()


# What is sent from above.


async def test_control_before_data(scene):
    """What was sent before a packet came is read before it."""
    sender, receiver = await scene.client(A), await scene.client(B)
    for n in range(50):
        data = n.to_bytes(8)
        scene.plane.send(receiver.id, encode_frame(FrameType.HEALTH, data))
        await sender.send(frames.send(B, data))
        await sender.before_pong()
        assert await receiver.frames(2) == [
            (FrameType.HEALTH, data),
            frames.received(A, data),
        ]


async def test_control_before_data_while_blocked(scene):
    """The same for a receiver that does not read now."""
    sender, receiver = await scene.client(A), await scene.client(B)
    await scene.blocked(receiver)
    scene.plane.send(receiver.id, TELL)
    await sender.send(frames.send(B, b"data") + frames.send(B, frames.disco()))
    await sender.before_pong()
    await scene.unblocked(receiver)
    first, *others = await receiver.frames(3)
    assert first == TOLD
    assert sorted(others) == sorted(
        [frames.received(A, b"data"), frames.received(A, frames.disco())]
    )


async def test_control_is_never_dropped(scene):
    """However much data waits beside it."""
    sender, receiver = await scene.client(A), await scene.client(B)
    await scene.blocked(receiver)
    for _ in range(20):
        await sender.send(frames.send(B, bytes(60_000)) * 3)
        scene.plane.send(receiver.id, TELL)
    await sender.before_pong()
    await scene.unblocked(receiver)
    read = await receiver.before_pong()
    assert read.count(TOLD) == 20


async def test_send_after_attach(scene):
    """Streams and clients are sent to in the same way."""
    peer = await scene.client(A)
    assert scene.recorder.stream(peer.id) == FIRST
    scene.plane.send(peer.id, TELL)
    assert await peer.frame() == TOLD
