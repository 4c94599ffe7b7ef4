"""Receivers that do not read: what waits for them, what is dropped, and how long."""

import asyncio
import itertools
from collections.abc import Iterable

import pytest

from derpnode.plane.contract import (
    Closed,
    CloseReason,
    Drained,
    DropReason,
    Flags,
)
from derpnode.wire.frames import FrameType, encode_frame
from tests.node.plane import frames
from tests.node.plane.scene import A, B, C, M


KIB = 1024

HEAD = DropReason.QUEUE_HEAD

TELL = encode_frame(FrameType.HEALTH, b"listen")
TOLD = (FrameType.HEALTH, b"listen")


def numbered(count: int, size: int) -> list[bytes]:
    """Packets of a size, that differ."""
    return [n.to_bytes(4).ljust(size, b".") for n in range(count)]


def numbered_disco(count: int, size: int = 62) -> list[bytes]:
    """The same, and they look like path discovery."""
    return [frames.disco(n.to_bytes(4)).ljust(size, b".") for n in range(count)]


async def stuff(scene, packets: list[bytes], sender=None) -> None:
    """Send packets to B, which is blocked, until they wait or are dropped."""
    sender = sender or await scene.client(A)
    for data in packets:
        await sender.send(frames.send(B, data))
    assert await sender.before_pong() == []


async def drained(scene, receiver) -> list[bytes]:
    """Let a receiver read; give the packets that had waited for it, in their order."""
    await scene.unblocked(receiver)
    read = await receiver.before_pong()
    assert {kind for kind, _ in read} <= {FrameType.RECV_PACKET}
    await scene.until(lambda: scene.counters.queued_bytes == 0)
    return [payload.removeprefix(A) for _, payload in read]


@pytest.fixture
async def receiver(scene):
    """A client with key B that is blocked."""
    peer = await scene.client(B)
    await scene.blocked(peer)
    return peer


# The lanes.


async def test_32_packets_wait(scene, receiver):
    """However large they are: a peer may have that much in flight."""
    packets = numbered(32, 65_536)
    await stuff(scene, packets)
    assert await drained(scene, receiver) == packets
    assert not scene.counters.dropped_packets


async def test_256_kib_wait(scene, receiver):
    """However many packets they are."""
    packets = numbered(200, KIB)
    await stuff(scene, packets)
    assert await drained(scene, receiver) == packets
    assert not scene.counters.dropped_packets


async def test_large_packets_beyond_both(scene, receiver):
    """The oldest are dropped, down to 32, and counted."""
    packets = numbered(40, 65_536)
    await stuff(scene, packets)
    assert await drained(scene, receiver) == packets[8:]
    assert scene.counters.dropped_packets == {(HEAD, False): 8}
    assert scene.counters.dropped_bytes == {(HEAD, False): 8 * 65_536}


async def test_small_packets_beyond_both(scene, receiver):
    """The oldest are dropped, down to 256 KiB, frames included or not."""
    packets = numbered(400, KIB)
    await stuff(scene, packets)
    read = await drained(scene, receiver)
    assert 256 * KIB // (KIB + 37) <= len(read) <= 256
    assert read == packets[-len(read) :]
    assert scene.counters.dropped_packets == {(HEAD, False): 400 - len(read)}


async def test_disco_has_its_own_lane(scene, receiver):
    """A flood of data pushes none of it out, and is not what it waits for."""
    disco = numbered_disco(5)
    sender = await scene.client(A)
    for packet in disco:
        await stuff(scene, [*numbered(20, 65_536), packet], sender)
    read = await drained(scene, receiver)
    assert [packet for packet in read if packet in disco] == disco
    assert scene.counters.dropped_packets == {(HEAD, False): 100 - 32}


async def test_disco_beyond_32(scene, receiver):
    """Its oldest are dropped, and no data."""
    disco, data = numbered_disco(40), numbered(3, 100)
    await stuff(scene, [*data, *disco])
    read = await drained(scene, receiver)
    assert [packet for packet in read if packet in disco] == disco[8:]
    assert [packet for packet in read if packet in data] == data
    assert scene.counters.dropped_packets == {(HEAD, True): 8}
    assert scene.counters.dropped_bytes == {(HEAD, True): 8 * 62}


async def test_large_disco_takes_no_room_from_data(scene, receiver):
    """What only looks like disco and is large does not shorten the other lane."""
    disco, data = numbered_disco(32, 60_000), numbered(200, KIB)
    await stuff(scene, [*disco, *data])
    assert sorted(await drained(scene, receiver)) == sorted([*disco, *data])
    assert not scene.counters.dropped_packets


async def test_packets_from_above_wait_too(scene, receiver):
    """`deliver` is no way around the lanes."""
    sender = await scene.above(A)
    packets = numbered(40, 65_536)
    for data in packets:
        scene.plane.deliver(sender.id, B, data)
    assert await drained(scene, receiver) == packets[8:]


async def test_forwarded_packets_wait_too(scene, receiver):
    """The same for what comes from other nodes."""
    mesh = await scene.mesh()
    packets = numbered(40, 65_536)
    for data in packets:
        await mesh.send(frames.forward(A, B, data))
    await mesh.before_pong()
    assert await drained(scene, receiver) == packets[8:]


async def test_lane_of_a_link(scene):
    """It holds as much as a client's, or more, and its disco is known as such."""
    link, sender = await scene.link(B), await scene.client(A)
    await scene.blocked(link)
    packets, disco = numbered(30, 65_536), numbered_disco(40)
    for data in [*packets, *disco]:
        await sender.send(frames.send(B, data))
    await sender.before_pong()
    await scene.unblocked(link)
    read = [payload.removeprefix(A + B) for _, payload in await link.before_pong()]
    assert [data for data in read if data in packets] == packets
    assert [data for data in read if data in disco] == disco[8:]
    assert scene.counters.dropped_packets == {(HEAD, True): 8}
    assert scene.counters.dropped_bytes == {(HEAD, True): 8 * 62}


async def test_stall_shorter_than_the_deadline(scene, receiver):
    """30 packets of 64 KiB in flight all arrive: Go keeps as much in places."""
    packets = numbered(30, 65_536)
    await stuff(scene, packets)
    await asyncio.sleep(0.8)
    assert await drained(scene, receiver) == packets


async def test_age(opens):
    """Data that waited too long is dropped; disco and what is newer is not."""
    scene = opens(write_timeout=10)
    receiver = await scene.client(B)
    await scene.blocked(receiver)
    sender = await scene.client(A)
    await stuff(scene, [*numbered(5, 100), frames.disco()], sender)
    await asyncio.sleep(1.7)
    await stuff(scene, [b"fresh"], sender)
    assert sorted(await drained(scene, receiver)) == [frames.disco(), b"fresh"]
    assert scene.counters.dropped_packets == {(HEAD, False): 5}
    assert scene.counters.dropped_bytes == {(HEAD, False): 500}
    assert scene.counters.queue_seconds > 0


async def test_accounts_of_who_waited(scene, receiver):
    """Packets count as sent when they leave, and those that were dropped never."""
    await stuff(scene, numbered(40, 65_536))
    assert scene.counters.packets_sent == 0
    await drained(scene, receiver)
    assert scene.counters.packets_sent == 32
    assert scene.counters.bytes_sent == 32 * 65_536
    stats = scene.plane.stats(receiver.id)
    assert (stats.tx_packets, stats.tx_bytes) == (32, 32 * 65_536)


async def test_order_across_the_end_of_a_block(scene):
    """Packets before, during and after a stall come in one order."""
    sender, receiver = await scene.client(A), await scene.client(B)
    packets = numbered(3000, 4000)
    feeding = scene.spawn(feed(sender, packets))
    read: list[bytes] = []
    for frame_number in itertools.count():
        if frame_number % 100 == 0:
            await asyncio.sleep(0.002)  # now and then it does something else
        kind, payload = await receiver.frame()
        assert kind == FrameType.RECV_PACKET
        read.append(payload.removeprefix(A))
        if read[-1] == packets[-1]:
            break
    await feeding
    assert read == sorted(read)
    assert len(read) == scene.counters.packets_sent
    dropped = scene.counters.dropped_packets.total()
    assert len(read) + dropped == len(packets)


async def feed(sender, packets: Iterable[bytes]) -> None:
    for data in packets:
        await sender.send(frames.send(B, data))


async def test_drained_with_data_behind(opens):
    """What `send` queued has left, though packets that came later wait for ever."""
    scene = opens(write_timeout=0)
    receiver, sender = await scene.client(B), await scene.client(A)
    await scene.blocked(receiver)
    scene.plane.send(receiver.id, TELL)
    scene.spawn(feed(sender, itertools.repeat(bytes(65_536))))
    await scene.until(lambda: scene.counters.dropped_packets)
    await scene.unblocked(receiver)
    assert await receiver.frame() == TOLD
    await scene.recorder.next(Drained, receiver.id)


# The cap of the node.


async def test_cap_on_all_that_waits(opens):
    """It holds, whoever waits; the rest is dropped and counted."""
    cap = 2 << 20
    scene = opens(queued_bytes=cap, write_timeout=10)
    sender = await scene.client(A)
    receivers = [await scene.client(key) for key in (B, C, M)]
    packet = bytes(65_536)
    most = 0
    for n in range(200):
        for key in (B, C, M):
            await sender.send(frames.send(key, packet))
        if n % 10 == 0:
            await sender.before_pong()
            most = max(most, scene.counters.queued_bytes)
    assert cap // 2 < most <= cap
    assert scene.counters.dropped_packets[HEAD, False] > 0
    for peer in receivers:
        await peer.before_pong()
    await scene.until(lambda: scene.counters.queued_bytes == 0)


async def test_control_makes_room(opens):
    """What was sent from above counts; packets have to go when it is too much."""
    cap = 6 << 20
    scene = opens(queued_bytes=cap, write_timeout=10)
    sender, greedy = await scene.client(A), await scene.client(C)
    await scene.client(B)
    for data in numbered(200, 65_536):
        await sender.send(frames.send(B, data))
    await sender.before_pong()
    scene.plane.send(greedy.id, bytes(5 << 20))
    await sender.before_pong()
    waiting = scene.counters.queued_bytes
    before = scene.counters.dropped_bytes[HEAD, False]
    scene.plane.send(greedy.id, bytes(cap - waiting + 256 * KIB))
    await sender.before_pong()
    assert scene.counters.queued_bytes <= cap
    assert scene.counters.dropped_bytes[HEAD, False] >= before + 256 * KIB


async def test_who_waits_most_loses_most(opens):
    """The cap is kept at the cost of the longest lane, not of everybody's."""
    scene = opens(queued_bytes=10 << 20, write_timeout=10)
    modest, greedy = await scene.client(B), await scene.client(C)
    sender = await scene.client(A)
    for peer in (modest, greedy):
        scene.block(peer, megabytes=4)
    await scene.until(lambda: scene.counters.queued_bytes > 0)
    await stuff(scene, numbered(5, KIB), sender)
    for data in numbered(300, 65_536):
        await sender.send(frames.send(C, data))
    await sender.before_pong()
    await scene.unblocked(modest, megabytes=4)
    read = await modest.before_pong()
    assert [payload.removeprefix(A) for _, payload in read] == numbered(5, KIB)


# Deadlines.


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_who_does_not_read_is_cut(opens, tls):
    """After the limit, while others are served; what waited is lost."""
    scene = opens(write_timeout=0.8)
    frozen, sender = await scene.client(B, tls=tls), await scene.client(A)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await scene.blocked(frozen)
    await stuff(scene, numbered(3, 100), sender)
    served = 0
    while not scene.recorder.of(Closed):
        await sender.send(frames.send(A, b"and you?"))
        assert await sender.frame() == frames.received(A, b"and you?")
        served += 1
    (closed,) = scene.recorder.of(Closed)
    assert closed.id == frozen.id
    assert closed.reason is CloseReason.WRITE_TIMEOUT
    assert 0.8 <= loop.time() - began < 2.5
    assert served > 0
    assert scene.counters.write_timeouts == 1
    assert scene.counters.dropped_packets == {(DropReason.GONE, False): 3}
    assert scene.counters.queued_bytes == 0


async def test_stream_that_does_not_read_is_cut(opens):
    """Also who has not logged in."""
    scene = opens(write_timeout=0.3)
    peer = await scene.guest()
    await scene.blocked(peer)
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.WRITE_TIMEOUT


async def test_who_is_blocked_by_packets_is_cut(opens):
    """The same without a word from above."""
    scene = opens(write_timeout=0.3)
    frozen, sender = await scene.client(B), await scene.client(A)
    flooding = scene.spawn(feed(sender, [bytes(65_536)] * 500))
    closed = await scene.recorder.next(Closed, frozen.id)
    assert closed.reason is CloseReason.WRITE_TIMEOUT
    await flooding


async def test_mesh_has_a_limit_of_its_own(opens):
    """Nodes have longer to read than clients."""
    scene = opens(write_timeout=0.3, mesh_write_timeout=1.5)
    client, mesh = await scene.client(B), await scene.mesh()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await scene.blocked(mesh, client)
    await scene.recorder.next(Closed, client.id)
    assert scene.recorder.of(Closed, mesh.id) == []
    closed = await scene.recorder.next(Closed, mesh.id)
    assert closed.reason is CloseReason.WRITE_TIMEOUT
    assert loop.time() - began >= 1.5


async def test_no_limit_for_clients(opens):
    """0 never cuts them, and says nothing of nodes."""
    scene = opens(write_timeout=0, mesh_write_timeout=0.3)
    client, mesh = await scene.client(B), await scene.mesh()
    await scene.blocked(client, mesh)
    closed = await scene.recorder.next(Closed)
    assert closed.id == mesh.id
    await scene.unblocked(client)


async def test_no_limit_for_nodes(opens):
    """0 never cuts them, and says nothing of clients."""
    scene = opens(write_timeout=0.3, mesh_write_timeout=0)
    mesh, client = await scene.mesh(), await scene.client(B)
    await scene.blocked(mesh, client)
    closed = await scene.recorder.next(Closed)
    assert closed.id == client.id
    await scene.unblocked(mesh)


async def test_slow_but_steady(opens):
    """Whoever reads something within the limit is not cut."""
    scene = opens(write_timeout=0.6)
    peer = await scene.client(B)
    await scene.blocked(peer)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(8):
        await peer.frame()  # 1 MiB
        await asyncio.sleep(0.15)
    assert loop.time() - began > 0.6
    assert await peer.before_pong() == []


async def test_closing_has_the_limit_as_well(opens):
    """Whoever is being closed and does not read does not hold us up."""
    scene = opens(write_timeout=0.3)
    peer = await scene.client(B)
    await scene.blocked(peer)
    scene.plane.close(peer.id, "drained")
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason in {CloseReason.WRITE_TIMEOUT, CloseReason.ASKED}
    assert scene.counters.queued_bytes == 0


# The account.


@pytest.mark.parametrize("how", ["close", "reset", "abort"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_account_of_who_left(scene, how, tls):
    """However a blocked receiver ends, nothing of it is left in the account."""
    peer = await scene.client(B, Flags.NONE, tls=tls)
    await scene.blocked(peer)
    await stuff(scene, [*numbered(40, 65_536), frames.disco()])
    scene.plane.send(peer.id, TELL)
    await peer.send(frames.ping(b"anybody?"))
    await scene.until(lambda: scene.counters.pings == 2)
    if how == "abort":
        scene.plane.close(peer.id, "out", abort=True)
    else:
        getattr(peer, how)()
    await scene.recorder.next(Closed, peer.id)
    assert scene.counters.queued_bytes == 0
    assert scene.counters.dropped_packets == {
        (HEAD, False): 8,
        (DropReason.GONE, False): 32,
        (DropReason.GONE, True): 1,
    }
