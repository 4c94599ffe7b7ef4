"""Stream state: bytes up and down, before there are frames, and the end of it all."""

import asyncio
import random

import pytest

from derpnode.plane.contract import (
    STREAM_CAPACITY,
    Bytes,
    Closed,
    CloseReason,
    Drained,
    Flags,
    Opened,
    Stats,
)
from tests.node.plane import frames
from tests.node.plane.scene import FIRST, NO_LIMIT, A, B


pytestmark = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])

SLACK = 512 * 1024
"""How far one read may go beyond the capacity of a stream."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that are like no others, and the same every time."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - no secret


# Up.


async def test_bytes_come_up(scene, tls):
    """Each once, in their order."""
    peer = await scene.guest(b"one", tls=tls)
    for more in (b"two", b"three"):
        await peer.send(more)
    await scene.recorder.until(lambda: scene.recorder.stream(peer.id) == b"onetwothree")


async def test_much_comes_up(scene, tls):
    """What is consumed as it comes is never held up."""
    peer = await scene.guest(tls=tls)
    data = noise(3 << 20)
    consume_all(scene)
    await peer.send(data)
    await scene.recorder.until(
        lambda: len(scene.recorder.stream(peer.id)) == len(FIRST + data)
    )
    assert scene.recorder.stream(peer.id) == FIRST + data


def consume_all(scene) -> None:
    """Consume each byte when it comes."""
    had: dict[int, int] = {}

    def react(event) -> None:
        if type(event) is Bytes:
            if event.id not in had:
                had[event.id] = len(scene.recorder.stream(event.id))
            else:
                had[event.id] += len(event.data)
            scene.plane.consume(event.id, had[event.id])

    scene.recorder.reactions.append(react)


async def flood(scene, peer, size: int) -> asyncio.Task:
    """Send so much, and wait until the plane has paused."""
    data = noise(size)
    sending = scene.spawn(peer.send(data))
    await scene.recorder.until(
        lambda: len(scene.recorder.stream(peer.id)) > STREAM_CAPACITY
    )
    return sending


async def test_reading_pauses_above_the_capacity(scene, tls):
    """256 KiB are kept, and one read more; then the peer has to wait."""
    peer = await scene.guest(tls=tls)
    sending = await flood(scene, peer, 40 << 20)
    bystander = await scene.guest(tls=tls)
    await bystander.send(bytes(1000))
    await scene.recorder.until(lambda: len(scene.recorder.stream(bystander.id)) == 1001)
    assert len(scene.recorder.stream(peer.id)) <= STREAM_CAPACITY + SLACK
    assert not sending.done()


async def test_reading_resumes(scene, tls):
    """When enough is consumed, by absolute offset, the rest comes: nothing is lost."""
    peer = await scene.guest(tls=tls)
    sending = await flood(scene, peer, 12 << 20)
    consume_all(scene)
    scene.plane.consume(peer.id, len(scene.recorder.stream(peer.id)))
    await sending
    await scene.recorder.until(
        lambda: len(scene.recorder.stream(peer.id)) == 1 + (12 << 20)
    )
    assert scene.recorder.stream(peer.id) == FIRST + noise(12 << 20)


async def test_consuming_a_little_is_not_enough(scene, tls):
    """Reading goes on only below the capacity; then by what was consumed."""
    peer = await scene.guest(tls=tls)
    await flood(scene, peer, 40 << 20)
    kept = len(scene.recorder.stream(peer.id))
    scene.plane.consume(peer.id, kept - STREAM_CAPACITY - 1)
    await (await scene.guest()).send(b"a turn or two")
    await scene.recorder.next(Opened, count=2)
    assert len(scene.recorder.stream(peer.id)) == kept
    scene.plane.consume(peer.id, kept - STREAM_CAPACITY)
    await scene.recorder.until(lambda: len(scene.recorder.stream(peer.id)) > kept)


async def test_consumed_twice(scene, tls):
    """An offset that was passed before changes nothing."""
    peer = await scene.guest(b"0123456789", tls=tls)
    for offset in (7, 3, 7, 0):
        scene.plane.consume(peer.id, offset)
    scene.plane.attach(peer.id, A, 10, Flags.NONE, NO_LIMIT)
    assert await peer.before_pong() == []


# Down.


async def test_send(scene, tls):
    """What is sent comes in its order, and then it is said to have left, once."""
    peer = await scene.guest(tls=tls)
    scene.plane.send(peer.id, b"one")
    scene.plane.send(peer.id, b"two")
    assert await peer.exactly(6) == b"onetwo"
    await scene.recorder.next(Drained, peer.id)
    assert scene.recorder.of(Drained) == [Drained(peer.id)]


async def test_send_nothing(scene, tls):
    """No bytes have left as soon as any."""
    peer = await scene.guest(tls=tls)
    scene.plane.send(peer.id, b"")
    await scene.recorder.next(Drained, peer.id)
    scene.plane.send(peer.id, b"something")
    assert await peer.exactly(9) == b"something"


async def test_send_from_within_the_sink(scene, tls):
    """An answer to an event leaves in the same turn."""
    scene.recorder.reactions.append(
        lambda event: type(event) is Bytes and scene.plane.send(event.id, event.data)
    )
    peer = await scene.guest(b"echo", tls=tls)
    assert await peer.exactly(4) == b"echo"


async def test_drained_when_it_has_left(scene, tls):
    """Not while a receiver that does not read has it waiting."""
    peer = await scene.guest(tls=tls)
    filler = scene.block(peer)
    await scene.until(lambda: scene.counters.queued_bytes > 0)
    scene.plane.send(peer.id, b"the last of it")
    assert scene.recorder.of(Drained) == []
    assert await peer.exactly(len(filler) + 14) == filler + b"the last of it"
    await scene.recorder.next(Drained, peer.id)
    assert scene.recorder.of(Drained) == [Drained(peer.id)]
    assert scene.counters.queued_bytes == 0


async def test_drained_again(scene, tls):
    """Each time that something was sent after it was said."""
    peer = await scene.guest(tls=tls)
    for count in (1, 2, 3):
        scene.plane.send(peer.id, b"piece")
        await scene.recorder.next(Drained, peer.id, count)


async def test_in_pieces(scene, tls):
    """Whoever sends the next piece when the last has left gets through all of them."""
    peer = await scene.guest(tls=tls)
    pieces = [noise(1 << 20, n) for n in range(10)]
    left = iter(pieces[1:])

    def next_piece(event) -> None:
        if type(event) is Drained and (piece := next(left, b"")):
            scene.plane.send(peer.id, piece)

    scene.recorder.reactions.append(next_piece)
    scene.plane.send(peer.id, pieces[0])
    everything = b"".join(pieces)
    assert await peer.exactly(len(everything)) == everything


async def test_too_much_that_is_not_read(scene, tls):
    """Control bytes are not dropped, so there is an end to what one may owe."""
    peer = await scene.guest(tls=tls)
    await scene.blocked(peer)
    for _ in range(32):
        scene.plane.send(peer.id, bytes(1 << 20))
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.OVERFLOW
    assert scene.counters.queued_bytes == 0


# The end.


async def test_end_of_the_peer(scene, tls):
    """It is told after the last bytes, once."""
    peer = await scene.guest(tls=tls)
    peer.push(b"goodbye")
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed == Closed(peer.id, CloseReason.EOF, "", Stats())
    assert scene.recorder.stream(peer.id) == FIRST + b"goodbye"
    assert scene.recorder.events[-1] is closed
    assert scene.counters.connections == 0


async def test_reset_by_the_peer(scene, tls):
    """It is told apart from a good end."""
    peer = await scene.guest(tls=tls)
    peer.reset()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.RESET


async def test_close_sends_what_is_queued(scene, tls):
    """Whoever is closed reads everything first, and then the end."""
    peer = await scene.guest(tls=tls)
    scene.plane.send(peer.id, b"last words")
    scene.plane.close(peer.id, "done")
    assert await peer.rest() == b"last words"
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed == Closed(peer.id, CloseReason.ASKED, "done", Stats())


async def test_close_while_blocked(scene, tls):
    """The same for what waits for a receiver that is slow."""
    peer = await scene.guest(tls=tls)
    filler = scene.block(peer)
    await scene.until(lambda: scene.counters.queued_bytes > 0)
    scene.plane.send(peer.id, b"last words")
    scene.plane.close(peer.id, "done")
    assert await peer.rest() == filler + b"last words"
    peer.close()
    await scene.recorder.next(Closed, peer.id)


async def test_close_does_not_wait_for_ever(scene, tls):
    """A peer that neither reads nor leaves is cut."""
    peer = await scene.guest(tls=tls)
    scene.plane.close(peer.id, "go away")
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.ASKED


async def test_nothing_after_close(scene, tls):
    """Who is being closed can be told nothing more, and says nothing more."""
    peer = await scene.guest(tls=tls)
    before = len(scene.recorder.events)
    scene.plane.close(peer.id, "done")
    scene.plane.send(peer.id, b"too late")
    peer.push(b"too late as well")
    assert await peer.rest() == b""
    peer.close()
    await scene.recorder.next(Closed, peer.id)
    assert len(scene.recorder.events) == before + 1


async def test_close_twice(scene, tls):
    """The second changes nothing, not even what is said of it."""
    peer = await scene.guest(tls=tls)
    scene.plane.send(peer.id, b"last words")
    scene.plane.close(peer.id, "first")
    scene.plane.close(peer.id, "second")
    assert await peer.rest() == b"last words"
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.detail == "first"


async def test_abort(scene, tls):
    """What is queued is lost, and it is over at once."""
    peer = await scene.guest(tls=tls)
    filler = scene.block(peer)
    await scene.until(lambda: scene.counters.queued_bytes > 0)
    scene.plane.close(peer.id, "stop it", abort=True)
    assert scene.counters.queued_bytes == 0
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed == Closed(peer.id, CloseReason.ASKED, "stop it", Stats())
    assert len(await peer.rest()) < len(filler)


async def test_abort_from_within_the_sink(scene, tls):
    """Events of the turn may still come, but none after the last."""
    scene.recorder.reactions.append(
        lambda event: (
            type(event) is Bytes and scene.plane.close(event.id, "no", abort=True)
        )
    )
    peer = await scene.silent(tls=tls)
    await peer.send(b"hello")
    closed = await scene.recorder.next(Closed)
    assert closed.detail == "no"


async def test_tls_version_is_told(scene, tls):
    """`Opened` says how a connection is secured; counters say how many are."""
    peer = await scene.guest(tls=tls)
    opened = await scene.opened(peer)
    assert opened.tls_version == ("1.3" if tls else None)
    assert scene.counters.tls_versions == ({"1.3": 1} if tls else {})


async def test_stats_in_the_end(scene, tls):
    """`Closed` says what passed: payload of packets, not frames."""
    peer = await scene.client(A, tls=tls)
    other = await scene.client(B, tls=tls)
    await peer.send(frames.send(B, bytes(100)) + frames.send(B, bytes(50)))
    await other.send(frames.send(A, bytes(7)))
    await other.before_pong()
    await peer.before_pong()
    expected = Stats(rx_packets=2, rx_bytes=150, tx_packets=1, tx_bytes=7)
    assert scene.plane.stats(peer.id) == expected
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.stats == expected


async def test_reset_while_paused(scene, tls):
    """It is noticed though nothing is read, and is no way around the capacity."""
    peer = await scene.guest(tls=tls)
    sending = await flood(scene, peer, 40 << 20)
    await (await scene.client(A)).before_pong()
    assert not sending.done()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    peer.reset()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.RESET
    assert len(scene.recorder.stream(peer.id)) <= STREAM_CAPACITY + SLACK


async def test_shutdown_from_within_the_sink(scene, tls):
    """Whoever hears the last straw may stop everything at once."""
    scene.recorder.reactions.append(
        lambda event: type(event) is Bytes and scene.plane.shutdown()
    )
    peer = await scene.silent(tls=tls)
    await peer.send(b"the last straw")
    assert await peer.rest() == b""
