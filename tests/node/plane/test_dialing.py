"""Connections that the plane dials: links to other nodes."""

import asyncio
import socket
import ssl

import pytest

from derpnode.plane.contract import (
    Bytes,
    ClientTls,
    Closed,
    CloseReason,
    Connected,
    Endpoint,
    Flags,
    Frame,
    RouteKind,
)
from derpnode.wire.frames import FrameType, encode_frame
from tests.node.plane import frames
from tests.node.plane.certificates import HOST, LEAF, MIDDLE, OTHER_LEAF
from tests.node.plane.certificates import server_context as server
from tests.node.plane.scene import LOOPBACK, NO_LIMIT, A, B, M, open_files


UNCHECKED = ClientTls(HOST, verify=False)
TRUSTED = ClientTls(HOST, ca_pem=MIDDLE.pem)


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.create_server(LOOPBACK) as sock:
        return Endpoint(*sock.getsockname())


@pytest.fixture
def deaf():
    """An address where nobody answers: its backlog is full."""
    with socket.create_server(LOOPBACK, backlog=0) as sock:
        address = sock.getsockname()
        waiting = [socket.create_connection(address)]
        yield Endpoint(*address)
        for one in waiting:
            one.close()


# In the clear.


async def test_connected(scene):
    """It is told when the connection is up, before either side spoke."""
    peer = await scene.dialled()
    event = await scene.recorder.next(Connected)
    assert event.id == peer.id
    assert event.peer == peer.local
    assert event.certificate == b""


async def test_stream_both_ways(scene):
    """From there on it is a stream like any other; we may speak first."""
    peer = await scene.dialled()
    await scene.recorder.next(Connected)
    scene.plane.send(peer.id, b"GET /derp")
    assert await peer.exactly(9) == b"GET /derp"
    await peer.send(b"101")
    await scene.recorder.until(lambda: scene.recorder.stream(peer.id) == b"101")


async def test_ipv6(scene):
    """An IPv6 literal is dialled as one."""
    peer = await scene.dialled(at=Endpoint("::1", 0))
    event = await scene.recorder.next(Connected)
    assert event.peer == peer.local


async def test_it_is_no_guest(scene):
    """Caps on strangers do not count it."""
    await scene.dialled()
    await scene.recorder.next(Connected)
    assert scene.counters.accepted == 0
    assert (scene.counters.connections, scene.counters.handshakes) == (0, 0)


async def test_end_of_the_peer(scene):
    """It is told, once."""
    peer = await scene.dialled()
    await scene.recorder.next(Connected)
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.EOF


# In vain.


async def test_refused(scene, nobody):
    """It is over before it began, and the reason is told."""
    connection = scene.plane.connect(nobody, None, 5)
    closed = await scene.recorder.next(Closed, connection)
    assert closed.reason is CloseReason.RESET
    assert "refused" in closed.detail
    assert scene.recorder.of(Connected) == []


@pytest.mark.parametrize(
    "address",
    [Endpoint("255.255.255.255", 9), Endpoint("127.0.0.1", 0)],
    ids=["broadcast", "port 0"],
)
async def test_impossible(scene, address):
    """What the kernel does not even try is told at once, or as a failure."""
    try:
        connection = scene.plane.connect(address, None, 5)
    except OSError as exc:
        assert exc.strerror  # noqa: PT017 - one way of two
    else:
        closed = await scene.recorder.next(Closed, connection)
        assert closed.detail
    assert scene.recorder.of(Connected) == []


async def test_unreadable_authority(scene, nobody):
    """It is told at once, and no socket is left."""
    before = open_files()
    with pytest.raises(OSError, match="certificate"):
        scene.plane.connect(nobody, ClientTls(HOST, ca_pem=b"not PEM"), 5)
    assert open_files() == before


@pytest.mark.parametrize("tls", [None, UNCHECKED], ids=["plain", "tls"])
async def test_no_answer(scene, deaf, tls):
    """It is given up in time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    connection = scene.plane.connect(deaf, tls, 0.3)
    closed = await scene.recorder.next(Closed, connection)
    assert closed.reason is CloseReason.TIMEOUT
    assert 0.3 <= loop.time() - began < 2


async def test_no_answer_in_tls(scene):
    """The time is for both: to connect, and to shake hands."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    peer = await scene.dialled(UNCHECKED, patience=0.3)
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.TIMEOUT
    assert 0.3 <= loop.time() - began < 2
    assert scene.recorder.of(Connected) == []


@pytest.mark.parametrize("abort", [True, False], ids=["abort", "close"])
@pytest.mark.parametrize("tls", [None, UNCHECKED], ids=["plain", "tls"])
async def test_given_up(scene, deaf, tls, abort):
    """Whoever dialled may think better of it."""
    connection = scene.plane.connect(deaf, tls, 5)
    scene.plane.close(connection, "not wanted any more", abort=abort)
    closed = await scene.recorder.next(Closed, connection)
    assert closed.reason is CloseReason.ASKED
    assert closed.detail == "not wanted any more"


@pytest.mark.parametrize("tls", [None, UNCHECKED], ids=["plain", "tls"])
async def test_given_up_at_the_last_moment(scene, tls):
    """Though the connection is up in the same moment, it is not told."""
    peer = await scene.dialled(tls, closed="not wanted any more")
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.ASKED
    assert closed.detail == "not wanted any more"
    assert scene.recorder.of(Connected) == []


async def test_closed_in_the_middle_of_tls(scene):
    """A peer that hangs up on the hello."""
    peer = await scene.dialled(UNCHECKED)
    await peer.receive()
    peer.close()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason in {CloseReason.EOF, CloseReason.RESET, CloseReason.TLS}
    assert scene.recorder.of(Connected) == []


async def test_peer_without_tls(scene):
    """A port that speaks in the clear."""
    peer = await scene.dialled(UNCHECKED)
    await peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.TLS
    assert closed.detail


async def test_shutdown_in_the_middle(scene, deaf):
    """Nothing is left, whatever it was about to do."""
    scene.plane.connect(deaf, None, 5)
    await scene.dialled(UNCHECKED)


# Over TLS.


@pytest.mark.parametrize("tls", [UNCHECKED, TRUSTED], ids=["unchecked", "trusted"])
async def test_connected_over_tls(scene, tls):
    """It is told when both are up, with the leaf: a pin is checked above."""
    peer = await scene.dialled(tls)
    await peer.shake(server(LEAF, MIDDLE))
    event = await scene.recorder.next(Connected)
    assert event.certificate == LEAF.der
    scene.plane.send(peer.id, b"GET /derp")
    assert await peer.exactly(9) == b"GET /derp"
    await peer.send(b"101")
    await scene.recorder.until(lambda: scene.recorder.stream(peer.id) == b"101")


async def test_bytes_right_behind_the_handshake(scene):
    """A server may speak first; nothing of it is lost."""
    peer = await scene.dialled(UNCHECKED)
    await peer.shake(server(LEAF, MIDDLE))
    await peer.send(b"hello")
    await scene.recorder.until(lambda: scene.recorder.stream(peer.id) == b"hello")
    assert type(scene.recorder.events[0]) is Connected


async def test_sends_the_name(scene):
    """As SNI: other nodes may have more than one certificate, or want it."""
    asked = []
    context = server(LEAF, MIDDLE)
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    peer = await scene.dialled(UNCHECKED)
    await peer.shake(context)
    assert asked == [HOST]


async def test_sends_no_address(scene):
    """An IP address is no name: RFC 6066, 3."""
    asked = []
    context = server(LEAF, MIDDLE)
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    peer = await scene.dialled(ClientTls("127.0.0.1", verify=False))
    await peer.shake(context)
    assert asked == [None]


@pytest.mark.parametrize(
    "tls",
    [
        ClientTls(HOST, ca_pem=OTHER_LEAF.pem),
        ClientTls("other.example.com", ca_pem=MIDDLE.pem),
        ClientTls("127.0.0.1", ca_pem=MIDDLE.pem),
        ClientTls(HOST),
    ],
    ids=["authority", "name", "address", "system"],
)
async def test_not_to_be_trusted(scene, tls):
    """A chain or a name that does not hold ends it, and the reason is told."""
    peer = await scene.dialled(tls)
    with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012 - either one
        await peer.shake(server(LEAF, MIDDLE))
        await peer.receive()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.TLS
    assert "certificate" in closed.detail.lower()
    assert scene.recorder.of(Connected) == []


async def test_two_of_our_nodes(scene):
    """One plane dials another's listener: the meta certificate does no harm."""
    connection = scene.plane.connect(scene.address(tls=True), TRUSTED, 5)
    event = await scene.recorder.next(Connected)
    assert (event.id, event.certificate) == (connection, LEAF.der)
    scene.plane.send(connection, b"hello")
    got = await scene.recorder.next(Bytes)
    assert got.data == b"hello"


# A link.


@pytest.mark.parametrize(
    "kind",
    [
        FrameType.SERVER_INFO,
        FrameType.KEEP_ALIVE,
        FrameType.PEER_GONE,
        FrameType.PEER_PRESENT,
        FrameType.PONG,
        FrameType.HEALTH,
        FrameType.RESTARTING,
        0xFE,
    ],
)
async def test_frames_of_a_server(scene, kind):
    """They are passed up, all that it may send."""
    link = await scene.link()
    await link.send(encode_frame(kind, b"12345678"))
    event = await scene.recorder.next(Frame)
    assert event == Frame(link.id, kind, b"12345678")


async def test_frames_in_their_order(scene):
    """However they were cut."""
    link = await scene.link()
    payloads = [bytes([n]) * 20 for n in range(100)]
    sent = [encode_frame(FrameType.PEER_PRESENT, payload) for payload in payloads]
    await link.drip(b"".join(sent), size=7)
    await scene.recorder.next(Frame, count=100)
    assert [event.payload for event in scene.recorder.of(Frame)] == payloads


async def test_no_packets_come_by_a_link(scene):
    """They only leave by it: whoever has one for us dials us."""
    link, receiver = await scene.link(), await scene.client(B)
    await link.send(encode_frame(FrameType.RECV_PACKET, A + b"x"))
    await link.before_pong()
    assert await receiver.before_pong() == []
    assert scene.recorder.of(Frame) == []


async def test_too_large_for_a_link(scene):
    """A server that sends what nobody could want is left, by the header alone."""
    link = await scene.link()
    await link.send(frames.header(FrameType.PEER_PRESENT, 2 << 20))
    closed = await scene.recorder.next(Closed, link.id)
    assert closed.reason is CloseReason.PROTOCOL


async def test_attached_in_the_middle(scene):
    """The answer to the upgrade is skipped, and what came behind it is not."""
    peer = await scene.dialled()
    await scene.recorder.next(Connected)
    answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    await peer.send(answer + encode_frame(FrameType.SERVER_INFO, b"info"))
    await scene.recorder.until(
        lambda: len(scene.recorder.stream(peer.id)) > len(answer)
    )
    flags = Flags.LINK | Flags.MESH
    scene.plane.attach(peer.id, M, len(answer), flags, NO_LIMIT)
    event = await scene.recorder.next(Frame)
    assert event == Frame(peer.id, FrameType.SERVER_INFO, b"info")


async def test_over_tls_and_back(scene):
    """Two nodes: what one forwards over its link, the other delivers."""
    receiver, sender = await scene.client(B), await scene.client(A, tls=True)
    link = scene.plane.connect(scene.address(tls=True), UNCHECKED, 5)
    await scene.recorder.next(Connected)
    scene.plane.send(link, b".")  # the byte that makes the other end open it
    other = await scene.recorder.until(
        lambda: next((e.id for e in scene.recorder.of(Bytes)[2:]), None)
    )
    scene.plane.attach(link, M, 0, Flags.LINK | Flags.MESH, NO_LIMIT)
    scene.plane.attach(other, M, 1, Flags.MESH, NO_LIMIT)
    scene.plane.set_route(M, link, RouteKind.LINK)
    scene.plane.set_route(M, receiver.id, RouteKind.CLIENT)
    scene.plane.set_route(B, link, RouteKind.LINK)
    await sender.send(frames.send(B, b"around"))
    await scene.until(lambda: scene.counters.forwarded_in == 1)
    assert scene.counters.forwarded_out == 1
