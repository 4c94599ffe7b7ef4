"""Packets: from a Send or Forward frame to whoever has the key."""

import asyncio
import dataclasses

import pytest

from derpnode.plane.contract import (
    Activity,
    Closed,
    CloseReason,
    DropReason,
    FirstFrom,
    Flags,
    Frame,
    NoRoute,
    Packet,
    RouteKind,
    Stats,
)
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.keys import NodeKey
from tests.node.plane import frames
from tests.node.plane.scene import FIRST, NO_LIMIT, ZERO, A, B, C, M


TELL = encode_frame(FrameType.HEALTH, b"what the sink says")


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request):
    """Over both kinds of stream."""
    return request.param


def dropped(scene) -> dict[tuple[DropReason, bool], int]:
    """Give what was dropped so far."""
    return dict(scene.counters.dropped_packets)


# From client to client.


async def test_send_becomes_recv(scene, tls):
    """The receiver reads who sent it in place of whom it is for."""
    sender, receiver = await scene.client(A, tls=tls), await scene.client(B, tls=tls)
    await sender.send(frames.send(B, b"hello"))
    assert await receiver.frame() == (FrameType.RECV_PACKET, A + b"hello")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1280, 65_535, 65_536])
async def test_content(scene, tls, size):
    """It comes as it was, whatever its size."""
    data = bytes(n * 31 & 0xFF for n in range(size))
    sender, receiver = await scene.client(A, tls=tls), await scene.client(B, tls=tls)
    await sender.send(frames.send(B, data))
    assert await receiver.frame() == frames.received(A, data)


async def test_order(scene, tls):
    """Packets of one pair come in the order in which they were sent."""
    sender, receiver = await scene.client(A, tls=tls), await scene.client(B, tls=tls)
    packets = [n.to_bytes(2) * (n % 7) for n in range(500)]
    sender.push(b"".join(frames.send(B, data) for data in packets))
    assert await receiver.frames(500) == [frames.received(A, p) for p in packets]


async def test_to_oneself(scene, tls):
    """A client is a receiver like any other."""
    peer = await scene.client(A, tls=tls)
    await peer.send(frames.send(A, b"to me") * 3)
    assert await peer.frames(3) == [frames.received(A, b"to me")] * 3


async def test_to_several(scene):
    """Packets for others in between take nothing from each other."""
    sender = await scene.client(A)
    receivers = {key: await scene.client(key) for key in (B, C)}
    sender.push(
        frames.send(B, b"1")
        + frames.send(C, b"2")
        + frames.send(C, b"3")
        + frames.send(A, b"4")
        + frames.send(B, b"5")
    )
    assert await receivers[B].frames(2) == [
        frames.received(A, data) for data in (b"1", b"5")
    ]
    assert await receivers[C].frames(2) == [
        frames.received(A, data) for data in (b"2", b"3")
    ]
    assert await sender.frame() == frames.received(A, b"4")


async def test_counted(scene):
    """By kind where they come in, and by payload."""
    sender, receiver = await scene.client(A), await scene.client(B)
    await sender.send(frames.send(B, bytes(100)) + frames.send(B, frames.disco()))
    await receiver.frames(2)
    counters = scene.counters
    assert counters.packets_received_other == 1
    assert counters.packets_received_disco == 1
    assert counters.bytes_received == 162
    assert counters.packets_sent == 2
    assert counters.bytes_sent == 162
    assert (counters.forwarded_in, counters.forwarded_out) == (0, 0)


async def test_receiver_that_left(scene):
    """As long as the route is not cleared, its packets are lost to the departure."""
    sender, receiver = await scene.client(A), await scene.client(B)
    receiver.close()
    await scene.recorder.next(Closed, receiver.id)
    await sender.send(frames.send(B, bytes(9)) + frames.send(B, frames.disco()))
    assert await sender.before_pong() == []
    assert dropped(scene) == {(DropReason.GONE, False): 1, (DropReason.GONE, True): 1}
    assert scene.counters.dropped_bytes == {
        (DropReason.GONE, False): 9,
        (DropReason.GONE, True): 62,
    }


async def test_receiver_that_is_being_closed(scene):
    """What comes after the last words is lost."""
    sender, receiver = await scene.client(A), await scene.client(B)
    scene.plane.close(receiver.id, "drained")
    await sender.send(frames.send(B, b"too late"))
    await sender.before_pong()
    assert await receiver.rest() == b""
    assert dropped(scene) == {(DropReason.GONE, False): 1}


# Routes.


async def test_no_route(scene):
    """A packet for nobody is dropped, and its sender goes on."""
    sender = await scene.client(A)
    await sender.send(frames.send(B, bytes(10)))
    assert await sender.before_pong() == []
    assert dropped(scene) == {(DropReason.UNKNOWN_DEST, False): 1}
    assert scene.counters.dropped_bytes == {(DropReason.UNKNOWN_DEST, False): 10}


async def test_cleared_route(scene):
    """From then on, not before."""
    sender, receiver = await scene.client(A), await scene.client(B)
    await sender.send(frames.send(B, b"before"))
    await sender.before_pong()
    scene.plane.clear_route(B)
    await sender.send(frames.send(B, b"after"))
    await sender.before_pong()
    assert await receiver.before_pong() == [frames.received(A, b"before")]


async def test_cleared_twice(scene):
    """A route that is not there can be cleared."""
    scene.plane.clear_route(B)


@pytest.mark.parametrize("one", RouteKind)
@pytest.mark.parametrize("other", RouteKind)
async def test_last_route_counts(scene, one, other):
    """A key has one route, of whatever kind; the newest replaces the others."""
    sender = await scene.client(A)
    first = await receiver_of(scene, one)
    second = await receiver_of(scene, other)
    scene.plane.set_route(B, first.id, one)
    await sender.send(frames.send(B, b"first"))
    assert await got(scene, first, one) == b"first"
    scene.plane.set_route(B, second.id, other)
    await sender.send(frames.send(B, b"second"))
    assert await got(scene, second, other) == b"second"
    scene.plane.clear_route(B)
    await sender.send(frames.send(B, b"third"))
    await sender.before_pong()
    assert dropped(scene) == {(DropReason.UNKNOWN_DEST, False): 1}


async def receiver_of(scene, kind: RouteKind):
    """Join as one who can receive by a route of this kind."""
    if kind is RouteKind.ABOVE:
        return await scene.above(C)
    return await (scene.link() if kind is RouteKind.LINK else scene.client(C))


async def got(scene, peer, kind: RouteKind) -> bytes:
    """Receive one packet from A, however it comes."""
    if kind is RouteKind.ABOVE:
        return (await scene.recorder.next(Packet, peer.id)).data
    frame = await peer.frame()
    if kind is RouteKind.LINK:
        assert frame[:1] == (FrameType.FORWARD_PACKET,)
        return frame[1].removeprefix(A + B)
    return frame[1].removeprefix(A)


async def test_switched_in_the_middle_of_a_stream(scene):
    """Every packet goes by the route of its time; none is lost, none comes twice."""
    sender = await scene.client(A)
    first, second = await scene.client(B), await scene.client(C)
    packets = [n.to_bytes(2) for n in range(200)]
    for n, data in enumerate(packets):
        if n == 100:
            await sender.before_pong()
            scene.plane.set_route(B, second.id, RouteKind.CLIENT)
        await sender.send(frames.send(B, data))
    assert await first.frames(100) == [frames.received(A, p) for p in packets[:100]]
    assert await second.frames(100) == [frames.received(A, p) for p in packets[100:]]


async def test_two_keys_of_one_connection(scene):
    """A route is a key's, not a connection's."""
    sender, receiver = await scene.client(A), await scene.client(B)
    scene.plane.set_route(C, receiver.id, RouteKind.CLIENT)
    await sender.send(frames.send(B, b"b") + frames.send(C, b"c"))
    assert await receiver.frames(2) == [
        frames.received(A, b"b"),
        frames.received(A, b"c"),
    ]


async def test_route_to_nobody(scene):
    """A route to a connection that is gone is no route."""
    sender, receiver = await scene.client(A), await scene.client(B)
    receiver.close()
    await scene.recorder.next(Closed, receiver.id)
    scene.plane.set_route(B, receiver.id, RouteKind.CLIENT)
    await sender.send(frames.send(B, b"x"))
    await sender.before_pong()
    assert dropped(scene) == {(DropReason.UNKNOWN_DEST, False): 1}


async def test_alone_as_in_company(scene):
    """A packet that comes alone takes a shorter way, and ends and counts the same."""
    sender, mesh = await scene.client(A), await scene.mesh()
    receiver, link = await scene.client(B), await scene.link(C)
    lots = {
        sender: [
            *(frames.send(B, b"hello"), frames.send(B, b""), frames.send(C, b"there")),
            *(frames.send(B, frames.disco()), frames.send(B, bytes(65_536))),
            *(frames.send(C, b""), frames.send(NodeKey(bytes(31) + b"1"), b"nobody")),
        ],
        mesh: [
            *(frames.forward(C, B, b"hello"), frames.forward(C, B, frames.disco())),
            *(frames.forward(ZERO, B, b"from nobody"), frames.forward(C, B, b"")),
        ],
    }

    async def counted(*data: bytes) -> tuple[object, ...]:
        """Send, and give what was read and counted of it."""
        before = dataclasses.replace(scene.counters)
        for one in data:
            await source.send(one)
            await source.before_pong()
        read = await receiver.before_pong(), await link.before_pong()
        fields = ("packets_received_disco", "packets_received_other", "bytes_received")
        more = ("packets_sent", "bytes_sent", "forwarded_in", "forwarded_out")
        changes = (
            getattr(scene.counters, name) - getattr(before, name)
            for name in (*fields, *more)
        )
        return (*read, *changes)

    for source, lot in lots.items():
        await counted(b"".join(lot))  # who sends to whom is known from now on
        assert await counted(*lot) == await counted(b"".join(lot))
        stats = scene.plane.stats(source.id)
        await counted(*lot)
        alone = scene.plane.stats(source.id).rx_bytes - stats.rx_bytes
        await counted(b"".join(lot))
        assert scene.plane.stats(source.id).rx_bytes - stats.rx_bytes == 2 * alone


# Links.


async def test_forward_to_a_link(scene):
    """Another node is told who sent it and whom it is for."""
    link, sender = await scene.link(B), await scene.client(A)
    await sender.send(frames.send(B, b"hello") + frames.send(B, b""))
    assert await link.frames(2) == [
        frames.forwarded(A, B, b"hello"),
        frames.forwarded(A, B, b""),
    ]
    assert scene.counters.forwarded_out == 2
    assert scene.counters.packets_received_other == 2


async def test_forwards_are_no_receipts(scene):
    """What goes to a link is counted as forwarded, not as sent to a receiver."""
    link, sender = await scene.link(B), await scene.client(A)
    await sender.send(frames.send(B, b"hello"))
    await link.frame()
    assert (scene.counters.packets_sent, scene.counters.bytes_sent) == (0, 0)


async def test_largest_forward(scene):
    """The two keys are no part of the packet's limit."""
    link, sender = await scene.link(B), await scene.client(A)
    await sender.send(frames.send(B, bytes(65_536)))
    assert await link.frame() == frames.forwarded(A, B, bytes(65_536))


async def test_link_that_left(scene):
    """As long as the route is not cleared, its packets are lost to the departure."""
    link, sender = await scene.link(B), await scene.client(A)
    link.close()
    await scene.recorder.next(Closed, link.id)
    await sender.send(frames.send(B, b"x"))
    await sender.before_pong()
    assert dropped(scene) == {(DropReason.GONE, False): 1}
    assert scene.counters.forwarded_out == 0


async def test_forwarded_packet(scene):
    """From another node, for a client here; counted apart."""
    link, receiver = await scene.mesh(), await scene.client(B)
    await link.send(frames.forward(A, B, b"hello"))
    assert await receiver.frame() == frames.received(A, b"hello")
    assert scene.counters.forwarded_in == 1
    assert scene.counters.packets_received_other == 0
    assert scene.plane.stats(link.id) == Stats(rx_packets=1, rx_bytes=5)


async def test_forwarded_without_a_source(scene):
    """A relic: a zero key makes the frame of version 1, which has none."""
    link, receiver = await scene.mesh(), await scene.client(B)
    await link.send(frames.forward(ZERO, B, b"from nobody"))
    assert await receiver.frame() == (FrameType.RECV_PACKET, b"from nobody")


async def test_forwarded_in_one_read(scene):
    """Each reaches whom it is for, in order, whatever lies beside it."""
    link = await scene.mesh()
    one, two = await scene.client(A), await scene.client(B)
    stranger = NodeKey(bytes(31) + b"1")
    lot = [
        *(frames.forward(C, A, b"1"), frames.forward(C, A, b"")),
        *(frames.ping(b"8 bytes!"), frames.forward(B, A, b"3")),
        *(frames.forward(ZERO, A, b"4"), frames.forward(C, A, b"5")),
        *(frames.forward(C, B, b"6"), frames.forward(ZERO, B, b"7")),
        *(frames.forward(A, stranger, b"?"), frames.forward(A, B, b"8")),
        *(frames.UNKNOWN, frames.forward(A, B, b"9" * 2000)),
    ]
    await link.send(b"".join(lot))
    assert await one.frames(5) == [
        *(frames.received(C, b"1"), frames.received(C, b"")),
        *(frames.received(B, b"3"), (FrameType.RECV_PACKET, b"4")),
        frames.received(C, b"5"),
    ]
    assert await two.frames(4) == [
        *(frames.received(C, b"6"), (FrameType.RECV_PACKET, b"7")),
        *(frames.received(A, b"8"), frames.received(A, b"9" * 2000)),
    ]
    assert await link.frame() == frames.pong(b"8 bytes!")
    assert scene.counters.forwarded_in == 10
    assert scene.counters.packets_sent == 9
    assert scene.counters.unknown_frames == 1
    assert dropped(scene) == {(DropReason.UNKNOWN_DEST_ON_FWD, False): 1}
    met = [(event.id, event.source) for event in scene.recorder.of(FirstFrom)]
    assert sorted(set(met)) == sorted(met)


async def test_forwarded_in_one_read_to_who_left(scene):
    """Others get theirs."""
    link, receiver = await scene.mesh(), await scene.client(B)
    other = await scene.client(A)
    receiver.close()
    await scene.recorder.next(Closed, receiver.id)
    await link.send(frames.forward(C, B, b"x") * 3 + frames.forward(C, A, b"y"))
    assert await other.frame() == frames.received(C, b"y")
    assert dropped(scene) == {(DropReason.GONE, False): 3}


async def test_forwarded_before_a_violation(scene):
    """What came before it counts."""
    link, receiver = await scene.mesh(), await scene.client(B)
    short = frames.header(FrameType.FORWARD_PACKET, 63) + A + B[:31]
    await link.send(frames.forward(A, B, b"1") + short)
    assert await receiver.frame() == frames.received(A, b"1")
    closed = await scene.recorder.next(Closed, link.id)
    assert closed.reason is CloseReason.PROTOCOL


async def test_forwarded_for_nobody(scene):
    """It is dropped for a reason of its own."""
    link = await scene.mesh()
    await link.send(frames.forward(A, B, bytes(8)))
    assert await link.before_pong() == []
    assert dropped(scene) == {(DropReason.UNKNOWN_DEST_ON_FWD, False): 1}
    assert scene.recorder.of(NoRoute) == []


async def test_forwarded_once(scene):
    """One hop is all: what came from a node goes to no other."""
    link, other = await scene.mesh(), await scene.link(B)
    await link.send(frames.forward(A, B, frames.disco()))
    await link.before_pong()
    assert await other.before_pong() == []
    assert dropped(scene) == {(DropReason.UNKNOWN_DEST_ON_FWD, True): 1}


async def test_forwarded_to_who_left(scene):
    """The route is there, the client is not."""
    link, receiver = await scene.mesh(), await scene.client(B)
    receiver.close()
    await scene.recorder.next(Closed, receiver.id)
    await link.send(frames.forward(A, B, b"x"))
    await link.before_pong()
    assert dropped(scene) == {(DropReason.GONE, False): 1}


@pytest.mark.parametrize(
    "frame",
    [
        frames.forward(A, B, b"stolen words"),
        frames.WATCH_CONNS,
        encode_frame(FrameType.CLOSE_PEER, B),
    ],
    ids=["forward", "watch", "close"],
)
async def test_without_the_mesh_right(scene, frame):
    """Frames that need it end the connection, and have no effect."""
    receiver, peer = await scene.client(B), await scene.client(A)
    await peer.send(frames.send(B, b"allowed") + frame)
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.PROTOCOL
    assert "mesh" in closed.detail
    assert await receiver.before_pong() == [frames.received(A, b"allowed")]
    assert scene.recorder.of(Frame) == []
    assert scene.counters.forwarded_in == 0


async def test_mesh_right_given_later(scene):
    """`mark` sets what a connection may do."""
    receiver, peer = await scene.client(B), await scene.client(A)
    scene.plane.mark(peer.id, Flags.MESH)
    await peer.send(frames.forward(C, B, b"hello"))
    assert await receiver.frame() == frames.received(C, b"hello")


# Framed above.


async def test_packet_for_above(scene):
    """The sink gets it, with who sent it."""
    sender, receiver = await scene.client(A), await scene.above(B)
    await sender.send(frames.send(B, b"one") + frames.send(B, b"two"))
    await scene.recorder.next(Packet, count=2)
    assert scene.recorder.of(Packet) == [
        Packet(receiver.id, A, b"one"),
        Packet(receiver.id, A, b"two"),
    ]
    assert scene.plane.stats(receiver.id) == Stats(tx_packets=2, tx_bytes=6)


async def test_forwarded_for_above(scene):
    """The same from another node."""
    link, receiver = await scene.mesh(), await scene.above(B)
    await link.send(frames.forward(A, B, b"hello"))
    packet = await scene.recorder.next(Packet)
    assert packet == Packet(receiver.id, A, b"hello")


async def test_above_that_left(scene):
    """As long as the route is not cleared, its packets are lost to the departure."""
    sender, receiver = await scene.client(A), await scene.above(B)
    receiver.close()
    await scene.recorder.next(Closed, receiver.id)
    await sender.send(frames.send(B, b"x"))
    await sender.before_pong()
    assert dropped(scene) == {(DropReason.GONE, False): 1}


async def test_deliver_to_a_client(scene):
    """A packet from above is a packet of its connection's key."""
    sender, receiver = await scene.above(A), await scene.client(B)
    scene.plane.deliver(sender.id, B, b"hello")
    assert await receiver.frame() == frames.received(A, b"hello")
    assert scene.counters.packets_received_other == 1
    assert scene.plane.stats(sender.id) == Stats(rx_packets=1, rx_bytes=5)


async def test_deliver_to_a_link(scene):
    """The same for a key on another node."""
    sender, link = await scene.above(A), await scene.link(B)
    scene.plane.deliver(sender.id, B, b"hello")
    assert await link.frame() == frames.forwarded(A, B, b"hello")
    assert scene.counters.forwarded_out == 1


async def test_deliver_to_above(scene):
    """From one WebSocket client to another, or to itself."""
    sender, receiver = await scene.above(A), await scene.above(B)
    scene.plane.deliver(sender.id, B, b"to another")
    scene.plane.deliver(sender.id, A, b"to itself")
    await scene.recorder.next(Packet, count=2)
    assert scene.recorder.of(Packet) == [
        Packet(receiver.id, A, b"to another"),
        Packet(sender.id, A, b"to itself"),
    ]


async def test_deliver_to_nobody(scene):
    """Disco is reported, as it is for clients framed below."""
    sender = await scene.above(A)
    scene.plane.deliver(sender.id, B, frames.disco())
    scene.plane.deliver(sender.id, B, b"data")
    assert await scene.recorder.next(NoRoute) == NoRoute(sender.id, B)
    assert dropped(scene) == {
        (DropReason.UNKNOWN_DEST, True): 1,
        (DropReason.UNKNOWN_DEST, False): 1,
    }
    assert scene.counters.packets_received_disco == 1


async def test_deliver_to_who_left(scene):
    """The route is there, the client is not."""
    sender, receiver = await scene.above(A), await scene.client(B)
    receiver.close()
    await scene.recorder.next(Closed, receiver.id)
    scene.plane.deliver(sender.id, B, b"x")
    assert dropped(scene) == {(DropReason.GONE, False): 1}


async def test_deliver_to_a_link_that_left(scene):
    """The same for a node."""
    sender, link = await scene.above(A), await scene.link(B)
    link.close()
    await scene.recorder.next(Closed, link.id)
    scene.plane.deliver(sender.id, B, b"x")
    assert dropped(scene) == {(DropReason.GONE, False): 1}


async def test_deliver_from_within_the_sink(scene):
    """A WebSocket client that answers each packet."""
    await scene.above(B)
    scene.recorder.reactions.append(
        lambda event: (
            type(event) is Packet
            and scene.plane.deliver(event.id, event.source, b"re: " + event.data)
        )
    )
    sender = await scene.client(A)
    await sender.send(frames.send(B, b"hello"))
    assert await sender.frame() == frames.received(B, b"re: hello")


async def test_above_without_a_key(scene):
    """A stream that nothing is known of delivers nothing."""
    sender, receiver = await scene.guest(), await scene.client(B)
    scene.plane.deliver(sender.id, B, b"from whom?")
    assert await receiver.before_pong() == []


# What is told of packets.


async def test_disco_without_a_route(scene):
    """Its sender learns that the peer is not here; of data nothing is said."""
    sender = await scene.client(A)
    await sender.send(frames.send(B, b"data") + frames.send(B, frames.disco()))
    assert await scene.recorder.next(NoRoute) == NoRoute(sender.id, B)
    await sender.before_pong()
    assert len(scene.recorder.of(NoRoute)) == 1


async def test_what_looks_like_disco(scene):
    """By its first bytes and its least size."""
    sender = await scene.client(A)
    await sender.send(
        frames.send(B, frames.disco()[:61])  # too short
        + frames.send(B, b"x" + frames.disco())
        + frames.send(C, frames.disco() + bytes(1000))
    )
    await sender.before_pong()
    assert scene.recorder.of(NoRoute) == [NoRoute(sender.id, C)]
    assert dropped(scene) == {
        (DropReason.UNKNOWN_DEST, False): 2,
        (DropReason.UNKNOWN_DEST, True): 1,
    }


async def test_no_route_is_rate_limited(scene):
    """Three at once, then one a second, for each who asks."""
    sender, other = await scene.client(A), await scene.client(C)
    for peer in (sender, other):
        await peer.send(frames.send(B, frames.disco()) * 20)
        await peer.before_pong()
        assert len(scene.recorder.of(NoRoute, peer.id)) == 3
    await asyncio.sleep(1.05)
    await sender.send(frames.send(B, frames.disco()) * 20)
    await sender.before_pong()
    assert len(scene.recorder.of(NoRoute, sender.id)) == 4


async def test_no_route_for_a_link(scene):
    """A node that forwards to nobody is told as well."""
    link = await scene.mesh()
    await link.send(frames.forward(A, B, frames.disco()))
    assert await scene.recorder.next(NoRoute) == NoRoute(link.id, B)


async def test_first_from(scene):
    """Once for a pair, in this direction."""
    sender, receiver = await scene.client(A), await scene.client(B)
    await sender.send(frames.send(B, b"1") + frames.send(B, b"2"))
    await sender.before_pong()
    await sender.send(frames.send(B, b"3"))
    await sender.before_pong()
    assert scene.recorder.of(FirstFrom) == [FirstFrom(receiver.id, A)]
    await receiver.send(frames.send(A, b"4"))
    await receiver.before_pong()
    assert scene.recorder.of(FirstFrom)[1:] == [FirstFrom(sender.id, B)]


async def test_first_from_again(scene):
    """After `forget`, and only for that pair."""
    sender, receiver = await scene.client(A), await scene.client(B)
    other = await scene.client(C)
    for peer in (sender, other):
        await peer.send(frames.send(B, b"x"))
        await peer.before_pong()
    scene.plane.forget(receiver.id, A)
    for peer in (sender, other):
        await peer.send(frames.send(B, b"x"))
        await peer.before_pong()
    assert scene.recorder.of(FirstFrom) == [
        FirstFrom(receiver.id, A),
        FirstFrom(receiver.id, C),
        FirstFrom(receiver.id, A),
    ]


async def test_first_from_of_every_kind(scene):
    """Forwarded packets count, and those to and from above."""
    link, client = await scene.mesh(), await scene.client(A)
    above = await scene.above(B)
    await link.send(frames.forward(C, A, b"x") + frames.forward(C, B, b"x"))
    await link.before_pong()
    scene.plane.deliver(above.id, A, b"x")
    await scene.recorder.next(FirstFrom, count=3)
    assert scene.recorder.of(FirstFrom) == [
        FirstFrom(client.id, C),
        FirstFrom(above.id, C),
        FirstFrom(client.id, B),
    ]


async def test_first_from_is_not_of_a_link(scene):
    """Nothing is told of what leaves for another node: its receiver is there."""
    await scene.link(B)
    sender = await scene.client(A)
    await sender.send(frames.send(B, b"x"))
    await sender.before_pong()
    assert scene.recorder.of(FirstFrom) == []


@pytest.mark.parametrize("flag", [Flags.DUPLICATE, Flags.QUESTIONED])
@pytest.mark.parametrize(
    "frame",
    [frames.send(B, b"x"), frames.ping(b"whoareu?"), frames.UNKNOWN],
    ids=["packet", "ping", "unknown"],
)
async def test_activity(scene, flag, frame):
    """Whoever is marked is reported, whatever it says; others are not."""
    peer, other = await scene.client(A, flag), await scene.client(C)
    await other.send(frame)
    await peer.send(frame)
    assert await scene.recorder.next(Activity) == Activity(peer.id)
    await other.send(frame)
    assert scene.recorder.of(Activity, other.id) == []


async def test_activity_once_a_turn(scene):
    """However much was said at once."""
    peer = await scene.client(A, Flags.DUPLICATE)
    peer.push(frames.send(B, b"x") * 50)
    await scene.recorder.next(Activity)
    peer.push(frames.send(B, b"x") * 50)
    await scene.recorder.next(Activity, count=2)
    await scene.until(lambda: scene.counters.packets_received_other == 100)
    assert len(scene.recorder.of(Activity)) == 2


async def test_activity_until_unmarked(scene):
    """`mark` sets all flags: what is not named is taken away."""
    peer = await scene.client(A, Flags.QUESTIONED)
    await peer.before_pong()
    scene.plane.mark(peer.id, Flags.NONE)
    before = len(scene.recorder.of(Activity))
    await peer.before_pong()
    assert before >= 1
    assert len(scene.recorder.of(Activity)) == before


# Frames for above.


async def test_frames_are_passed_up(scene):
    """Those that ask for something that is decided above, as they are."""
    peer = await scene.client(M, Flags.MESH)
    await peer.send(
        encode_frame(FrameType.NOTE_PREFERRED, b"\x01")
        + encode_frame(FrameType.NOTE_PREFERRED, b"\x00")
        + frames.WATCH_CONNS
        + encode_frame(FrameType.CLOSE_PEER, A)
    )
    await peer.before_pong()
    assert scene.recorder.of(Frame) == [
        Frame(peer.id, FrameType.NOTE_PREFERRED, b"\x01"),
        Frame(peer.id, FrameType.NOTE_PREFERRED, b"\x00"),
        Frame(peer.id, FrameType.WATCH_CONNS, b""),
        Frame(peer.id, FrameType.CLOSE_PEER, A),
    ]


async def test_other_frames_are_not(scene):
    """Neither those that the plane answers nor those that nobody knows."""
    peer = await scene.client(A)
    for kind in (FrameType.PONG, FrameType.KEEP_ALIVE, FrameType.CLIENT_INFO, 0xFE):
        await peer.send(encode_frame(kind, bytes(8)))
    assert await peer.before_pong() == []
    assert scene.recorder.of(Frame) == []
    assert scene.counters.unknown_frames == 2  # the last two


def answer_frames(scene) -> None:
    """Say something whenever a frame is passed up."""
    scene.recorder.reactions.append(
        lambda event: type(event) is Frame and scene.plane.send(event.id, TELL)
    )


async def test_frame_is_a_barrier(scene, tls):
    """What follows it is looked at when the sink has acted on it, not before."""
    answer_frames(scene)
    peer = await scene.client(A, Flags.MESH, tls=tls)
    peer.push((frames.WATCH_CONNS + frames.ping(b"barrier.")) * 3)
    tell = (FrameType.HEALTH, b"what the sink says")
    assert await peer.frames(6) == [tell, frames.pong(b"barrier.")] * 3


async def test_frame_in_the_stream_is_a_barrier(scene):
    """Also if it came before `attach`, and what follows it comes right after."""
    answer_frames(scene)
    peer = await scene.guest(FIRST + frames.WATCH_CONNS)
    peer.push(frames.ping(b"barrier."))
    await asyncio.sleep(0)  # so that the plane has the ping before it, next
    scene.plane.attach(peer.id, A, len(FIRST), Flags.MESH, NO_LIMIT)
    assert await peer.frames(2) == [
        (FrameType.HEALTH, b"what the sink says"),
        frames.pong(b"barrier."),
    ]


async def test_route_set_on_a_frame(scene):
    """A packet right behind a frame takes the route that the sink set for it."""
    receiver = await scene.client(C)
    scene.recorder.reactions.append(
        lambda event: (
            type(event) is Frame
            and scene.plane.set_route(B, receiver.id, RouteKind.CLIENT)
        )
    )
    peer = await scene.client(A)
    peer.push(frames.NOTE_PREFERRED + frames.send(B, b"hello"))
    assert await receiver.frame() == frames.received(A, b"hello")


async def test_closed_on_a_frame(scene):
    """Nothing that follows has any effect."""
    receiver = await scene.client(B)
    scene.recorder.reactions.append(
        lambda event: (
            type(event) is Frame and scene.plane.close(event.id, "no more", abort=True)
        )
    )
    peer = await scene.client(A)
    peer.push(frames.NOTE_PREFERRED + frames.send(B, b"hello"))
    await scene.recorder.next(Closed, peer.id)
    assert await receiver.before_pong() == []


async def test_frames_of_who_broke(scene):
    """What a connection said before it broke is not told after its end."""
    peer = await scene.client(A)
    other = await scene.client(B)
    packet = frames.send(A, bytes(1000))
    other.push(packet * 100)
    peer.push(packet * 100 + frames.NOTE_PREFERRED)
    peer.push(frames.send(C, frames.disco()) + frames.NOTE_PREFERRED)
    peer.reset()
    await scene.recorder.next(Closed, peer.id)
    assert scene.recorder.faults == []
