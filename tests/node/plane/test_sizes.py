"""Sizes: every type of frame that there could be, at its limits and beyond."""

import itertools
from collections.abc import Iterator

import pytest

from derpnode.plane.contract import Bytes, Closed, CloseReason, Flags
from derpnode.wire.frames import NODE_STATE, FrameType, encode_frame
from tests.node.plane import frames
from tests.node.plane.peer import Peer
from tests.node.plane.scene import NO_LIMIT, A, M


LIMITS = {
    FrameType.SEND_PACKET: (32, 32 + 65_536),
    FrameType.NOTE_PREFERRED: (1, 1),
    FrameType.FORWARD_PACKET: (64, 64 + 65_536),
    FrameType.WATCH_CONNS: (0, 0),
    FrameType.CLOSE_PEER: (32, 32),
    FrameType.PING: (8, 1000),
}
"""Payload sizes that a server takes. Source: protocol.md 4.1."""

UNKNOWN = (0, 65_568)
"""The same for every other type. Source: changes-1.104.md 2.4."""

ANSWERED = {*LIMITS, FrameType.PONG, FrameType.KEEP_ALIVE, NODE_STATE}
"""Types that are not unknown, whether or not anything is done about them."""

KINDS = range(256)
SIZES = [*range(71), *range(65_500, 65_601), 1 << 31, (1 << 32) - 1]
AT_ONCE = 250


def taken(kind: int, size: int) -> bool:
    """Tell whether a peer with the mesh right may send this."""
    least, most = LIMITS.get(kind, UNKNOWN)
    return least <= size <= most


async def refused(scene, cases: Iterator[tuple[int, int]]) -> None:
    """See that each header alone ends its connection, before any payload."""
    closed = 0

    def react(event) -> None:
        nonlocal closed
        if type(event) is Bytes:
            scene.plane.attach(event.id, M, 0, Flags.MESH, NO_LIMIT)
        elif type(event) is Closed:
            assert event.reason is CloseReason.PROTOCOL, event
            closed += 1

    scene.recorder.reactions.append(react)
    address = scene.address()
    count = 0
    while batch := list(itertools.islice(cases, AT_ONCE)):
        peers = [Peer.dial(address) for _ in batch]
        for peer, (kind, size) in zip(peers, batch, strict=True):
            peer.push(frames.header(kind, size))
        count += len(batch)
        await scene.recorder.until(lambda n=count: closed == n)
        for peer in peers:
            peer.close()
    assert count > 0


@pytest.mark.parametrize("kind", [*LIMITS, 0xFE])
async def test_least_and_most(scene, kind):
    """Both limits are themselves allowed."""
    least, most = LIMITS.get(kind, UNKNOWN)
    peer = await scene.client(A, Flags.MESH)
    for size in (least, most):
        await peer.send(encode_frame(kind, bytes(size)))
        await peer.before_pong()
    assert scene.recorder.of(Closed) == []


@pytest.mark.parametrize("kind", [*LIMITS, 0xFE])
async def test_one_too_many(scene, kind):
    """Its header is enough, however little of the payload has come."""
    _, most = LIMITS.get(kind, UNKNOWN)
    peer = await scene.client(A, Flags.MESH)
    await peer.send(frames.header(kind, most + 1))
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.PROTOCOL
    assert f"0x{kind:02x}" in closed.detail
    assert str(most + 1) in closed.detail
    assert await peer.rest() == b""


@pytest.mark.parametrize("kind", [k for k, (least, _) in LIMITS.items() if least])
async def test_one_too_few(scene, kind):
    """A frame that cannot hold its fixed fields ends the connection."""
    least, _ = LIMITS[kind]
    peer = await scene.client(A, Flags.MESH)
    await peer.send(encode_frame(kind, bytes(least - 1)))
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.PROTOCOL
    assert f"0x{kind:02x}" in closed.detail


async def test_what_came_before_counts(scene):
    """The frames before a bad one have their effect, and those behind it have none."""
    peer, other = await scene.client(A), await scene.client(M)
    good = frames.send(M, b"good")
    peer.push(good + frames.header(FrameType.SEND_PACKET, 31) + bytes(31) + good)
    await scene.recorder.next(Closed, peer.id)
    assert await other.before_pong() == [frames.received(A, b"good")]


async def test_unknown_frames_are_skipped(scene):
    """They are counted, and what follows them is found."""
    peer = await scene.client(A)
    for size in (0, 1, 5, 65_567, 65_568):
        await peer.send(encode_frame(0xFE, bytes(size)))
    assert await peer.before_pong() == []
    assert scene.counters.unknown_frames == 5


async def test_every_good_size_of_every_type(scene):
    """Whatever a server takes, it goes on behind it: B2, the half that is allowed."""
    peer = await scene.client(M, Flags.MESH)
    unknown = 0
    for kind in KINDS:
        good = [size for size in SIZES if taken(kind, size)]
        data = b"".join(encode_frame(kind, bytes(size)) for size in good)
        await peer.send(data)
        await peer.before_pong(bytes([kind]) + b"the end")
        unknown += len(good) if kind not in ANSWERED else 0
    assert scene.recorder.of(Closed) == []
    assert scene.counters.unknown_frames == unknown


async def test_every_bad_size_of_every_type(scene):
    """Whatever a server does not take ends the connection: B2, the other half."""
    cases = (
        (kind, size)
        for kind, size in itertools.product(KINDS, SIZES)
        if not taken(kind, size)
    )
    await refused(scene, cases)
