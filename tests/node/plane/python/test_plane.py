"""What the plane in Python does in its own way: turns, and what is rare."""

import socket

import pytest

from derpnode.plane.contract import (
    Closed,
    CloseReason,
    FirstFrom,
    PlaneLimits,
    Refusal,
)
from derpnode.plane.python import packets
from derpnode.plane.python.plane import PythonPlane
from derpnode.plane.python.transport import Plain
from tests.node.plane import frames
from tests.node.plane.certificates import TRUSTING
from tests.node.plane.scene import A, B, C, M, Scene


@pytest.fixture
async def scene():
    """One Python plane."""
    async with Scene(PythonPlane, PlaneLimits()) as scene:
        yield scene


async def test_contacts_are_bounded(scene, monkeypatch):
    """The oldest source is forgotten, and told anew when it comes again."""
    monkeypatch.setattr(packets, "CONTACTS", 2)
    mesh, receiver = await scene.mesh(), await scene.client(B)
    for source in (A, C, M, C, A):
        await mesh.send(frames.forward(source, B, b"x"))
    await mesh.before_pong()
    assert scene.recorder.of(FirstFrom) == [
        FirstFrom(receiver.id, source) for source in (A, C, M, A)
    ]


async def test_one_write_for_a_turn(scene):
    """What a receiver got in one turn leaves in one piece."""
    sender, receiver = await scene.client(A), await scene.client(B)
    before = scene.counters.flush_frames.copy()
    sender.push(frames.send(B, b"x") * 12)
    await receiver.frames(12)
    assert scene.counters.flush_frames - before == {15: 1}  # the bucket of 12


@pytest.mark.parametrize(
    ("count", "bucket"), [(1, 1), (30, 50), (101, 101), (500, 101)]
)
async def test_flush_buckets(scene, count, bucket):
    """Upper bounds of derper's histogram; what is above the last is 101."""
    sender, receiver = await scene.client(A), await scene.client(B)
    before = scene.counters.flush_frames.copy()
    sender.push(frames.send(B, b"x") * count)
    await receiver.frames(count)
    assert scene.counters.flush_frames - before == {bucket: 1}


async def test_rtt_is_sampled():
    """With each keepalive; on loopback it is short."""
    async with Scene(PythonPlane, PlaneLimits(), lambda *_: 0.01) as scene:
        peer = await scene.client(A)
        await peer.frames(2)
        assert scene.counters.rtt["10ms"] >= 1


async def test_socket_options(scene):
    """Accepted sockets take over what protocol.md 2.1 asks for."""
    peer = await scene.guest()
    sock = scene.plane._by_id[peer.id].sock
    tcp = socket.IPPROTO_TCP
    assert sock.getsockopt(tcp, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 15_000
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(tcp, socket.TCP_KEEPIDLE) == 600


async def test_socket_options_left_alone():
    """0 leaves them to the kernel."""
    limits = PlaneLimits(tcp_user_timeout=0, tcp_keepalive=0)
    async with Scene(PythonPlane, limits) as scene:
        peer = await scene.guest()
        sock = scene.plane._by_id[peer.id].sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


async def test_reset_before_the_answer(scene):
    """A peer that is gone before it is told that this port speaks TLS."""
    peer = scene.dial(tls=True)
    peer.push_raw(b"GET / HTTP/1.0\r\n\r\n")
    peer.reset()
    await scene.until(lambda: scene.counters.refused.total() == 1)
    assert set(scene.counters.refused) <= {Refusal.NOT_TLS, Refusal.GONE}


async def test_reset_in_the_hello(scene):
    """And one that is gone before the handshake is answered."""
    peer = scene.dial(tls=True)
    peer.push_raw(peer.flight(TRUSTING))
    peer.reset()
    await scene.until(lambda: scene.counters.refused.total() == 1)
    assert set(scene.counters.refused) <= {Refusal.TLS, Refusal.GONE}


async def test_reset_while_blocked(scene):
    """What it is owed is let go by whichever notices first: reader or writer."""
    peer = await scene.client(A)
    await scene.blocked(peer)
    peer.reset()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.RESET


async def test_reset_while_closing(scene):
    """Nobody waits for the last words of one that broke."""
    peer = await scene.guest()
    scene.plane.close(peer.id, "done")
    await peer.rest()
    peer.reset()
    closed = await scene.recorder.next(Closed, peer.id)
    assert closed.reason is CloseReason.ASKED


async def test_stop_a_listener_that_is_paused(scene, monkeypatch):
    """Out of descriptors, it can still be stopped."""
    listener, _ = scene.listen()
    found = scene.plane._listener(listener)
    scene.plane._acceptor._pause(found, OSError(24, "too many"), 0.0)
    scene.plane.stop(listener)
    assert scene.plane._listener(listener) is None


async def test_errors_of_accept_are_logged_now_and_then(scene, caplog):
    """Another one at once, the same again after ten seconds."""
    scene.listen()
    (listener,) = scene.plane._acceptor.listeners.values()
    errors = [(1, 100.0), (1, 109.0), (2, 109.1), (2, 109.2), (2, 119.2), (1, 119.3)]
    for number, now in errors:
        error = OSError(number, f"reason {number}")
        scene.plane._acceptor._pause(listener, error, now)
    reasons = [record.args[0] for record in caplog.records]
    assert reasons == ["reason 1", "reason 2", "reason 2", "reason 1"]


def test_plain_transport_of_a_full_socket():
    """What the kernel does not take is kept, and goes when it takes it again."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        plain = Plain(ours)
        plain.write(bytes(8 << 20))
        kept = len(plain.unsent)
        assert kept > 0
        assert plain.push() == 0
        theirs.recv(1 << 20)
        assert len(plain.unsent) == kept
        assert plain.read(memoryview(bytearray(10)), 10) == 0
        plain.finish()
