"""Listening and accepting: from a bound address to a connection that is open."""

import asyncio
import contextlib
import logging
import os
import resource
import socket

import pytest

from derpnode.plane.contract import (
    Bytes,
    Closed,
    ConnectionId,
    Endpoint,
    Flags,
    ListenerId,
    Opened,
    ReceiveLimit,
    Refusal,
    RouteKind,
    Stats,
)
from tests.node.plane import frames
from tests.node.plane.certificates import TRUSTING, server_tls
from tests.node.plane.peer import Peer
from tests.node.plane.scene import FIRST, NO_LIMIT, A, B, open_files


def own_address() -> str:
    """Find an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # sends nothing
        host: str = probe.getsockname()[0]
    if host.startswith(("127.", "0.")):
        pytest.skip("this machine has only loopback addresses")
    return host


# Addresses.


async def test_port_0_is_chosen(scene):
    """`listen` says which it is."""
    _, address = scene.listen()
    assert address.host == "127.0.0.1"
    assert address.port != 0
    await scene.guest(address=address)


async def test_listeners_are_told_apart(scene):
    """Each has its own id, and `Opened` names it."""
    first, _ = scene.listen()
    second, address = scene.listen()
    opened = await scene.opened(await scene.guest(address=address))
    assert first != second
    assert opened.listener == second


async def test_address_in_use(scene):
    """The caller is told, and nothing is left of the attempt."""
    _, address = scene.listen()
    before = open_files()
    with pytest.raises(OSError, match="in use"):
        scene.listen(at=address)
    assert open_files() == before


async def test_address_of_another_machine(scene):
    """The caller is told."""
    with pytest.raises(OSError, match="assign"):
        scene.listen(at=Endpoint("198.51.100.1", 0))


async def test_port_is_free_again(scene):
    """A port whose listener was stopped can be listened on at once."""
    listener, address = scene.listen()
    peer = await scene.guest(address=address)
    scene.plane.stop(listener)
    scene.plane.close(peer.id, "so that the port has a past", abort=True)
    await scene.recorder.next(Closed, peer.id)
    assert scene.listen(at=address)[1] == address


async def test_ipv6_address(scene):
    """It is bound for IPv6 alone, so that IPv4 can have the same port.

    Of the ports that IPv6 is given, others may have some over IPv4: a client's
    connection that ended keeps its own for a minute.
    """
    for _ in range(100):
        _, address = scene.listen(at=Endpoint("::1", 0))
        with contextlib.suppress(OSError):
            scene.listen(at=Endpoint("127.0.0.1", address.port))
            break
    else:
        pytest.fail("IPv4 never got the port of IPv6")
    peer = await scene.guest(address=address)
    opened = await scene.opened(peer)
    assert (opened.local, opened.peer) == (address, peer.local)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_every_address(scene, host):
    """An empty host listens to both families, and IPv4 is told as IPv4."""
    _, address = scene.listen(at=Endpoint("", 0))
    peer = await scene.guest(address=Endpoint(host, address.port))
    opened = await scene.opened(peer)
    assert opened.peer == peer.local
    assert opened.local == Endpoint(host, address.port)


# The first bytes.


async def test_opened_with_the_first_bytes(scene):
    """Not before: who is silent is nobody yet."""
    scene.dial()
    talker = await scene.guest(b"hello")
    opened, got = scene.recorder.events
    assert isinstance(opened, Opened)
    assert opened.id == talker.id
    assert opened.tls_version is None
    assert got == Bytes(talker.id, b"hello")
    assert scene.counters.accepted == 2


async def test_late_first_bytes(scene):
    """Silence before them does no harm within the limit."""
    silent = scene.dial()
    await scene.guest()
    await silent.send(b"at last")
    await scene.opened(silent)
    await scene.recorder.until(lambda: scene.recorder.stream(silent.id) == b"at last")


async def test_silence_has_a_limit(scene):
    """It is closed, and nobody above ever hears of it."""
    _, address = scene.listen(first_byte=0.2)
    assert await scene.dial(address).rest() == b""
    assert scene.counters.refused == {Refusal.NO_FIRST_BYTE: 1}
    assert scene.recorder.events == []
    assert (scene.counters.connections, scene.counters.handshakes) == (0, 0)


async def test_each_listener_has_its_limit(scene):
    """Somebody who may be silent for longer keeps nobody else."""
    _, patient = scene.listen(first_byte=60)
    _, strict = scene.listen(first_byte=0.1)
    waiting = scene.dial(patient)
    await scene.until(lambda: scene.counters.accepted == 1)
    assert await scene.dial(strict).rest() == b""
    await waiting.send(FIRST)
    await scene.opened(waiting)


async def test_gone_without_a_word(scene):
    """A port scan is counted, and no event."""
    scene.dial().close()
    await scene.until(lambda: scene.counters.refused == {Refusal.GONE: 1})
    assert scene.recorder.events == []
    assert (scene.counters.connections, scene.counters.handshakes) == (0, 0)


async def test_reset_without_a_word(scene):
    """The same."""
    scene.dial().reset()
    await scene.until(lambda: scene.counters.refused == {Refusal.GONE: 1})


# Caps.


async def test_cap_on_connections(scene):
    """One too many is closed at once; when another leaves, there is room."""
    _, address = scene.listen(connections=2)
    first, _ = [await scene.guest(address=address) for _ in range(2)]
    assert await scene.dial(address).rest() == b""
    assert scene.counters.refused == {Refusal.CONNECTIONS: 1}
    assert scene.counters.connections == 2
    scene.plane.close(first.id, "room for another", abort=True)
    await scene.guest(address=address)


async def test_cap_on_handshakes(scene):
    """Whoever is neither logged in nor settled counts, and nobody else."""
    _, address = scene.listen(handshakes=2)
    first, second = [await scene.guest(address=address) for _ in range(2)]
    assert await scene.dial(address).rest() == b""
    assert scene.counters.refused == {Refusal.HANDSHAKES: 1}
    scene.plane.attach(first.id, A, len(FIRST), Flags.NONE, NO_LIMIT)
    await scene.guest(address=address)
    scene.plane.mark(second.id, Flags.SETTLED)
    await scene.guest(address=address)
    assert scene.counters.handshakes == 2


async def test_silence_counts_as_a_handshake(scene):
    """Or the cap would not hold against those who connect and wait."""
    _, address = scene.listen(handshakes=1)
    scene.dial(address)
    assert await scene.dial(address).rest() == b""
    assert scene.counters.refused == {Refusal.HANDSHAKES: 1}


async def test_settled_once(scene):
    """A connection that settles twice, and then logs in and ends, counts once."""
    peer = await scene.guest()
    scene.plane.mark(peer.id, Flags.SETTLED)
    scene.plane.mark(peer.id, Flags.SETTLED)
    scene.plane.attach(peer.id, A, len(FIRST), Flags.NONE, NO_LIMIT)
    assert scene.counters.handshakes == 0
    scene.plane.close(peer.id, "enough", abort=True)
    assert (scene.counters.connections, scene.counters.handshakes) == (0, 0)


async def test_cap_on_the_rate(scene):
    """A burst is taken, then so many a second; the others are closed at once."""
    _, address = scene.listen(at=Endpoint(own_address(), 0), rate=2, burst=3)
    crowd = [scene.dial(address) for _ in range(5)]
    for peer in crowd:
        with contextlib.suppress(ConnectionError):
            await peer.send(FIRST)
    await scene.until(lambda: scene.counters.refused[Refusal.RATE] == 2)
    assert scene.counters.accepted == 3
    await asyncio.sleep(0.6)  # a token is due
    await scene.guest(address=address)


async def test_loopback_has_no_rate(scene):
    """Health checks and sidecars are not strangers."""
    _, address = scene.listen(rate=1, burst=1)
    for _ in range(5):
        await scene.guest(address=address)
    assert not scene.counters.refused


async def test_spared_hosts_have_no_caps(scene):
    """Neither rate nor caps by source; whoever is not named any more has them again."""
    host = own_address()
    _, address = scene.listen(
        at=Endpoint(host, 0), rate=0.001, burst=1, source_connections=1
    )
    scene.plane.spare(frozenset({host}))
    for _ in range(3):
        await scene.guest(address=address)
    assert not scene.counters.refused
    scene.plane.spare(frozenset())
    await scene.guest(address=address)
    assert await scene.dial(address).rest() == b""
    assert scene.counters.refused == {Refusal.SOURCE: 1}


async def test_caps_are_a_listeners_own(scene):
    """A full listener does not close the door of the next."""
    _, full = scene.listen(handshakes=1)
    await scene.guest(address=full)
    assert await scene.dial(full).rest() == b""
    await scene.guest()


# Out of descriptors.


@pytest.fixture
def exhaust():
    """Take every descriptor that is left, and give them back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def give_back() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while taken:
            os.close(taken.pop())

    def take() -> None:
        spare = os.dup(0)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 16, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))

    take.back = give_back
    yield take
    give_back()


async def test_no_descriptor_left(scene, exhaust, caplog):
    """Nobody is accepted and the log stays quiet, until there are some again."""
    client = await scene.client(A)
    sockets = [socket.socket() for _ in range(3)]
    exhaust()
    for sock in sockets:
        sock.connect(scene.address())
        sock.send(FIRST)
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(1.2)  # time for several attempts
    assert 1 <= len(caplog.records) <= 2
    assert await client.before_pong() == []
    assert len(scene.recorder.of(Opened)) == 1
    exhaust.back()
    await scene.recorder.next(Opened, count=4)
    for sock in sockets:
        sock.close()


async def test_descriptor_used_twice_in_a_turn(scene):
    """Whoever gets the descriptor of one that broke is not taken for it."""
    receiver = await scene.client(A)
    senders = [await scene.client(key) for key in (B, B)]
    flood = frames.send(A, bytes(1000)) * 100
    for sender in senders:
        sender.push(flood)
    newcomer = scene.dial()
    taken = [os.dup(0)]
    receiver.reset()
    taken.append(os.dup(0))  # so that only the plane's descriptor becomes free
    await scene.recorder.next(Closed, receiver.id)
    await newcomer.send(FIRST)
    await scene.opened(newcomer)
    for descriptor in taken:
        os.close(descriptor)


# The end of a listener.


async def test_stop_serves_the_backlog(scene):
    """Who connected before is served; who comes later is refused by the kernel."""
    listener, address = scene.listen()
    early = [scene.dial(address) for _ in range(100)]
    scene.plane.stop(listener)
    with pytest.raises(ConnectionRefusedError):
        Peer.dial(address)
    for peer in early:
        await peer.send(FIRST)
        await scene.opened(peer)


async def test_stop_leaves_connections_alone(scene):
    """They outlive their listener."""
    listener, address = scene.listen()
    peer = await scene.guest(address=address)
    scene.plane.stop(listener)
    await peer.send(b"still here")
    stream = FIRST + b"still here"
    await scene.recorder.until(lambda: scene.recorder.stream(peer.id) == stream)


async def test_commands_for_no_listener(scene):
    """They do nothing."""
    listener, _ = scene.listen(server_tls())
    for identity in (listener, listener, ListenerId(999)):
        scene.plane.stop(identity)
        scene.plane.set_tls(identity, server_tls())


# The end of a plane.


async def test_shutdown_leaves_nothing(opens):
    """Whatever state its connections are in, every descriptor is given back."""
    before = open_files()
    scene = opens()
    scene.dial()  # silent
    scene.dial(tls=True)  # silent, on a TLS port
    half = scene.dial(tls=True)
    half.push_raw(half.flight(TRUSTING)[:40])
    await scene.guest()
    await scene.guest(tls=True)
    await scene.client(A, tls=True)
    blocked = await scene.client(B)
    await scene.blocked(blocked)
    closing = await scene.guest()
    scene.plane.close(closing.id, "on its way out")
    scene.plane.shutdown()
    scene.plane.shutdown()
    await scene.end()
    assert open_files() == before


async def test_shutdown_ends_connections(scene):
    """Their peers read the end."""
    peer = await scene.guest()
    scene.plane.shutdown()
    assert await peer.rest() == b""


async def test_commands_after_shutdown(scene):
    """They do nothing."""
    listener, _ = scene.listen(server_tls())
    peer = await scene.client(A)
    scene.plane.shutdown()
    scene.plane.stop(listener)
    scene.plane.set_tls(listener, server_tls())
    do_nothing(scene.plane, peer.id)


async def test_commands_for_a_closed_connection(scene):
    """They come late, and do nothing."""
    peer = await scene.client(A)
    peer.close()
    await scene.recorder.next(Closed, peer.id)
    do_nothing(scene.plane, peer.id)
    do_nothing(scene.plane, ConnectionId(999))
    other = await scene.client(B)
    await other.send(frames.send(A, b"to nobody"))
    assert await other.before_pong() == []
    scene.recorder.events.remove(scene.recorder.of(Closed)[0])
    assert scene.recorder.of(Closed) == []


def do_nothing(plane, gone: ConnectionId) -> None:
    """Give every command for a connection that is no more."""
    plane.consume(gone, 1)
    plane.send(gone, b"late")
    plane.attach(gone, A, 0, Flags.NONE, NO_LIMIT)
    plane.mark(gone, Flags.MESH | Flags.SETTLED)
    plane.limit(gone, ReceiveLimit(1, 1))
    plane.set_route(A, gone, RouteKind.CLIENT)
    plane.clear_route(A)
    plane.deliver(gone, B, b"late")
    plane.forget(gone, B)
    plane.close(gone, "late")
    plane.close(gone, "late", abort=True)
    assert plane.stats(gone) == Stats()
