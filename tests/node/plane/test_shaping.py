"""Receive shaping: how fast one client is read. Nothing is dropped, the peer waits."""

import asyncio
import itertools

import pytest

from derpnode.plane.contract import Closed, Flags, ReceiveLimit
from tests.node.plane import frames
from tests.node.plane.scene import NO_LIMIT, A, B


MB = 1_000_000

PACKET = frames.send(B, bytes(16_000))

TRICKLE = ReceiveLimit(rate=1_000, burst=65_568)
"""So slow that what is in flight takes minutes."""


async def flooding(scene, flags: Flags, limit: ReceiveLimit, *, tls: bool = False):
    """Join, and send as fast as one is read."""
    peer = await scene.client(A, flags, limit, tls=tls)
    scene.spawn(feed(peer))
    return peer


async def feed(peer) -> None:
    for _ in itertools.count():
        await peer.send(PACKET * 16)


def taken(scene, peer) -> int:
    """Count the payload that the plane has read of a peer."""
    return scene.plane.stats(peer.id).rx_bytes


async def took(scene, peer, size: int) -> float:
    """Wait until so much more was read; give the time."""
    goal = taken(scene, peer) + size
    await scene.until(lambda: taken(scene, peer) >= goal)
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_rate(scene, tls):
    """It is kept within 5 %, over a few seconds, once the burst is spent."""
    limit = ReceiveLimit(rate=8 * MB, burst=2 * MB)
    peer = await flooding(scene, Flags.NONE, limit, tls=tls)
    began = await took(scene, peer, 3 * MB)
    start = taken(scene, peer)
    ended = await took(scene, peer, 16 * MB)
    rate = (taken(scene, peer) - start) / (ended - began)
    assert rate == pytest.approx(limit.rate, rel=0.05)


async def test_burst(scene):
    """That much is read at once, and not much more."""
    limit = ReceiveLimit(rate=1000, burst=1 * MB)
    peer = await flooding(scene, Flags.NONE, limit)
    await took(scene, peer, MB * 95 // 100)
    other = await scene.client(B)
    await other.before_pong()
    assert taken(scene, peer) <= 1 * MB + 300_000


async def test_nothing_is_lost(scene):
    """All arrives that was sent, in its order, only later."""
    receiver = await scene.client(B)
    peer = await scene.client(A, Flags.NONE, ReceiveLimit(4 * MB, 65_568))
    packets = [n.to_bytes(4) * 1000 for n in range(400)]  # 1.6 MB
    loop = asyncio.get_running_loop()
    began = loop.time()
    scene.spawn(peer.send(b"".join(frames.send(B, data) for data in packets)))
    assert await receiver.frames(400) == [frames.received(A, p) for p in packets]
    assert loop.time() - began > 0.3
    assert not scene.counters.dropped_packets


async def test_what_came_with_the_request_counts(scene):
    """Frames in front of `attach` are no way around the limit for those behind."""
    peer = await scene.guest(PACKET)
    scene.plane.attach(peer.id, A, 0, Flags.NONE, TRICKLE)
    scene.spawn(feed(peer))
    other = await scene.client(B)
    for _ in range(20):
        await other.before_pong()
    assert taken(scene, peer) < 400_000


async def test_mesh_is_exempt(scene):
    """Nodes are not shaped."""
    peer = await flooding(scene, Flags.MESH, TRICKLE)
    await took(scene, peer, 20 * MB)


async def test_others_are_not_held_up(scene):
    """One that has to wait is no reason for anybody else to."""
    await flooding(scene, Flags.NONE, TRICKLE)
    other = await scene.client(B)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(100):
        await other.send(frames.send(B, b"x"))
        while (await other.frame())[1] != B + b"x":
            pass  # the flood's
    assert loop.time() - began < 5


async def test_lifted(scene):
    """A limit that is taken away has no effect any more, at once."""
    peer = await flooding(scene, Flags.NONE, TRICKLE)
    await took(scene, peer, 60_000)
    scene.plane.limit(peer.id, NO_LIMIT)
    began = asyncio.get_running_loop().time()
    assert await took(scene, peer, 10 * MB) - began < 3


async def test_raised(scene):
    """A new limit is in force within a second, and with a full bucket."""
    peer = await flooding(scene, Flags.NONE, TRICKLE)
    await took(scene, peer, 60_000)
    scene.plane.limit(peer.id, ReceiveLimit(rate=8 * MB, burst=4 * MB))
    began = asyncio.get_running_loop().time()
    assert await took(scene, peer, 3 * MB) - began < 1


async def test_lowered(scene):
    """And so is one that is less."""
    peer = await flooding(scene, Flags.NONE, NO_LIMIT)
    await took(scene, peer, MB)
    scene.plane.limit(peer.id, TRICKLE)
    other = await scene.client(B)
    before = taken(scene, peer)
    for _ in range(50):
        await other.before_pong()
    assert taken(scene, peer) - before < 500_000


async def test_mesh_right_lifts_the_limit(scene):
    """Who proves the mesh key while it waits does not wait any more."""
    peer = await flooding(scene, Flags.NONE, TRICKLE)
    await took(scene, peer, 60_000)
    scene.plane.mark(peer.id, Flags.MESH)
    scene.plane.limit(peer.id, NO_LIMIT)
    await took(scene, peer, 10 * MB)


async def test_limit_of_a_stream(scene):
    """It may be set before there are frames, and changes nothing for bytes."""
    peer = await scene.guest()
    scene.plane.limit(peer.id, ReceiveLimit(1, 1))
    await peer.send(bytes(10_000))
    await scene.recorder.until(lambda: len(scene.recorder.stream(peer.id)) == 10_001)


async def test_left_while_it_had_to_wait(scene):
    """Its end is noticed, though it is not read: at the latest when it is aborted."""
    peer = await flooding(scene, Flags.NONE, TRICKLE)
    await took(scene, peer, 60_000)
    scene.plane.close(peer.id, "enough", abort=True)
    await scene.recorder.next(Closed, peer.id)


async def test_full_stream_with_a_limit(scene):
    """Setting a limit does not resume a stream that has nobody to consume it."""
    peer = await scene.guest()
    scene.spawn(peer.send(bytes(20 * MB)))
    await scene.recorder.until(lambda: len(scene.recorder.stream(peer.id)) > 256 * 1024)
    kept = len(scene.recorder.stream(peer.id))
    scene.plane.limit(peer.id, NO_LIMIT)
    await (await scene.client(B)).before_pong()
    assert len(scene.recorder.stream(peer.id)) == kept
