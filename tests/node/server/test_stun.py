"""The STUN server over real sockets, and over scripted ones for the rare cases."""

import asyncio
import errno
import os
import random
import socket
import struct

import pytest

from derpnode.config import Address
from derpnode.errors import ConfigError
from derpnode.server import stun
from derpnode.server.stun import BATCH, StunCounters, StunServer
from derpnode.wire.stun import (
    binding_request,
    parse_binding_request,
    parse_binding_response,
)


TRANSACTION = bytes(range(12))
REQUEST = binding_request(TRANSACTION)

ANYWHERE = Address("", 0)
LOOPBACK = Address("127.0.0.1", 0)
LOOPBACK6 = Address("::1", 0)

SPEC_REQUEST = bytes.fromhex(
    "0001 0014 2112a442"  # binding request, 20 bytes follow, cookie
    "000102030405060708090a0b"  # transaction
    "8022 0008 7461696c6e6f6465"  # SOFTWARE: tailnode
    "8028 0004 8aabad90"  # FINGERPRINT
)


class Client:
    """Asks from one UDP socket."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    async def send(self, host: str, port: int, data: bytes = REQUEST) -> None:
        await asyncio.get_running_loop().sock_sendto(self.socket, data, (host, port))

    async def receive(self) -> tuple[bytes, str]:
        """Give the answer, and the address that it came from."""
        loop = asyncio.get_running_loop()
        answer = loop.sock_recvfrom(self.socket, 2048)
        data, peer = await asyncio.wait_for(answer, timeout=5)
        return data, peer[0]

    async def ask(self, host: str, port: int) -> tuple[bytes, str]:
        await self.send(host, port)
        return await self.receive()


async def until(condition) -> None:
    while not condition():  # noqa: ASYNC110 - a counter has no event
        await asyncio.sleep(0.001)


@pytest.fixture
def started():
    """Start servers, and close them afterwards."""
    servers = []

    def start(*addresses, **options) -> StunServer:
        server = StunServer(addresses, **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def client():
    clients = []

    def make(host: str = "127.0.0.1") -> Client:
        clients.append(Client(host))
        return clients[-1]

    yield make
    for one in clients:
        one.socket.close()


# Real sockets.


async def test_tells_the_address(started, client):
    """A client learns the address and port that it asked from."""
    server, one = started(LOOPBACK), client()
    answer, _ = await one.ask("127.0.0.1", *server.ports)
    transaction, ip, port = parse_binding_response(answer)
    assert (transaction, str(ip), port) == (TRANSACTION, "127.0.0.1", one.port)
    assert server.counters == StunCounters(success=1, ipv4=1)


async def test_the_request_of_the_specification(started, client):
    """The bytes of a Go client are a question that we answer."""
    server, one = started(LOOPBACK), client()
    await one.send("127.0.0.1", *server.ports, SPEC_REQUEST)
    answer, _ = await one.receive()
    assert answer[:24] == bytes.fromhex(
        "0101 000c 2112a442 000102030405060708090a0b 0020 0008"
    )


@pytest.mark.parametrize("listen", [ANYWHERE, Address("0.0.0.0", 0)])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.9.8.7"])
async def test_answers_from_the_asked_address(started, client, listen, asked):
    """With several addresses, the answer leaves from the one that was asked."""
    server = started(listen)
    _, source = await client().ask(asked, *server.ports)
    assert source == asked
    assert server.counters.no_local_addr == 0


@pytest.mark.parametrize("listen", [ANYWHERE, Address("::", 0), LOOPBACK6])
async def test_ipv6(started, client, listen):
    """44 bytes, family 2, from the address that was asked."""
    server, one = started(listen), client("::1")
    answer, source = await one.ask("::1", *server.ports)
    assert len(answer) == 44
    assert parse_binding_response(answer)[1:] == (
        stun.ipaddress.IPv6Address(1),
        one.port,
    )
    assert source == "::1"
    assert server.counters == StunCounters(success=1, ipv6=1)


async def test_dual_stack(started, client):
    """On one port for both families, an IPv4 client gets family 1: 32 bytes."""
    server = started(ANYWHERE)
    answer, _ = await client().ask("127.0.0.1", *server.ports)
    assert len(answer) == 32
    assert answer[25] == 1
    await client("::1").ask("::1", *server.ports)
    assert (server.counters.ipv4, server.counters.ipv6) == (1, 1)


async def test_both_families_apart(started, client):
    """0.0.0.0 and [::] may be listed together, on the same port."""
    server = started(Address("0.0.0.0", 0))
    second = started(Address("::", *server.ports))
    await client().ask("127.0.0.1", *server.ports)
    await client("::1").ask("::1", *second.ports)
    assert (server.counters.success, second.counters.success) == (1, 1)


def mutate(**parts: bytes) -> bytes:
    fields = {
        "kind": b"\0\1",
        "length": b"\0\x14",
        "cookie": bytes.fromhex("2112a442"),
        "transaction": TRANSACTION,
        "attributes": REQUEST[20:],
    }
    return b"".join({**fields, **parts}.values())


INVALID = {
    "empty": b"",
    "short": REQUEST[:19],
    "not stun": b"GET / HTTP/1.1\r\n\r\n" * 3,
    "indication": mutate(kind=b"\0\x11"),
    "response": mutate(kind=b"\1\1"),
    "no cookie": mutate(cookie=b"\0\0\0\0"),
    "plain RFC 5389": mutate(attributes=b"", length=b"\0\0"),
    "other software": REQUEST.replace(b"tailnode", b"tailnodf"),
    "wrong fingerprint": REQUEST[:-1] + bytes([REQUEST[-1] ^ 1]),
    "trailing byte": REQUEST + b"\0",
    "longer than the buffer": REQUEST + bytes(2000),
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
async def test_silent_on_anything_else(started, client, data):
    """Strangers get nothing: the next answer is to the next good question."""
    server, one = started(LOOPBACK), client()
    await one.send("127.0.0.1", *server.ports, data)
    answer, _ = await one.ask("127.0.0.1", *server.ports)
    assert parse_binding_response(answer)[0] == TRANSACTION
    assert server.counters == StunCounters(success=1, not_stun=1, ipv4=1)


async def test_silent_while_it_cannot_relay(started, client):
    """The socket stays open, so that nobody hears "port unreachable"."""
    serving = False
    server, one = started(LOOPBACK, serving=lambda: serving), client()
    await one.send("127.0.0.1", *server.ports)
    await until(lambda: server.counters.silent)
    serving = True
    await one.ask("127.0.0.1", *server.ports)
    assert server.counters == StunCounters(success=1, ipv4=1, silent=1)


async def test_a_burst_is_answered_in_batches(started, client):
    """All of it, with turns of the loop for others in between."""
    asked = []

    def serving() -> bool:
        asked.append(server.counters.success)
        return True

    server, one = started(LOOPBACK, serving=serving), client()
    for _ in range(2 * BATCH + 1):
        one.socket.sendto(REQUEST, ("127.0.0.1", *server.ports))
    for _ in range(2 * BATCH + 1):
        await one.receive()
    assert asked[:3] == [0, BATCH, 2 * BATCH]


# Starting and stopping.


async def test_ports_in_order(started):
    """One for each address; 0 in the settings means any."""
    server = started(LOOPBACK, Address("127.0.0.2", 0))
    assert len(server.ports) == 2
    assert all(server.ports)


async def test_port_in_use(started):
    """Unlike derper's, a server that cannot listen is an error."""
    (port,) = started(LOOPBACK).ports
    with pytest.raises(ConfigError) as caught:
        started(Address("127.0.0.1", port))
    assert str(caught.value) == (
        f"stun.listen = '127.0.0.1:{port}': address already in use; "
        "stop the other server, or choose another port"
    )


async def test_dual_stack_port_in_use(started):
    """A taken port is not mistaken for a machine without IPv6."""
    (port,) = started(ANYWHERE).ports
    with pytest.raises(ConfigError, match=f"':{port}': address already in use"):
        started(Address("", port))


async def test_all_or_nothing(started):
    """When one address fails, the others are free again."""
    (taken,) = started(LOOPBACK).ports
    spare = Client()
    port = spare.port
    spare.socket.close()
    with pytest.raises(ConfigError):
        started(Address("127.0.0.1", port), Address("127.0.0.1", taken))
    assert started(Address("127.0.0.1", port)).ports == [port]


async def test_not_our_address(started):
    """An address of another machine is named as such."""
    with pytest.raises(ConfigError, match="not one of this machine's"):
        started(Address("192.0.2.1", 0))


async def test_close_frees_the_port(started):
    """Also when done twice; the port can be bound at once."""
    server = started(LOOPBACK)
    (port,) = server.ports
    server.close()
    server.close()
    assert server.ports == []
    assert started(Address("127.0.0.1", port)).ports == [port]


async def test_close_while_reading_rests(started, monkeypatch):
    """A socket that rests after an error does not come back after the close."""
    monkeypatch.setattr(socket, "socket", broken(reads=99))
    server = started(LOOPBACK)
    one = Client()
    await one.send("127.0.0.1", *server.ports)
    await until(lambda: server.counters.read_error)
    server.close()
    one.socket.close()


async def test_machine_without_ipv6(started, client, monkeypatch):
    """There, an empty host is every IPv4 address."""

    class Ipv4Only(socket.socket):
        def __init__(self, family=socket.AF_INET, *args, **kwargs) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", Ipv4Only)
    server = started(ANYWHERE)
    await client().ask("127.0.0.2", *server.ports)
    assert server.counters.success == 1


async def test_without_packet_information(started, client, monkeypatch, caplog):
    """Answers still go out, from wherever routing says; that is counted."""

    class Plain(socket.socket):
        def setsockopt(self, level, option, value) -> None:
            if (level, option) == (socket.IPPROTO_IP, 8):
                raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
            super().setsockopt(level, option, value)

    monkeypatch.setattr(socket, "socket", Plain)
    server = started(LOOPBACK)
    await client().ask("127.0.0.1", *server.ports)
    assert server.counters == StunCounters(success=1, ipv4=1, no_local_addr=1)
    (warning,) = caplog.messages
    assert warning.startswith("stun: no packet information: ")


def broken(*, reads: int) -> type[socket.socket]:
    """Make sockets whose first reads fail."""

    class Broken(socket.socket):
        left = reads

        def recvmsg_into(self, *args):
            if Broken.left:
                Broken.left -= 1
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            return super().recvmsg_into(*args)

    return Broken


async def test_read_error(started, client, monkeypatch, caplog):
    """Reading rests and goes on; the log has it once."""
    monkeypatch.setattr(stun, "READ_PAUSE", 0.001)
    monkeypatch.setattr(socket, "socket", broken(reads=3))
    server = started(LOOPBACK)
    await client().ask("127.0.0.1", *server.ports)
    assert server.counters == StunCounters(success=1, ipv4=1, read_error=3)
    assert len(caplog.messages) == 1


# Scripted sockets: what no kernel gives us on a loopback.


class Scripted:
    """A socket that received some datagrams, and records what is sent."""

    family = socket.AF_INET6

    def __init__(self, *received) -> None:
        self.received = list(received)
        self.sent = []
        self.refuses = False

    def recvmsg_into(self, buffers, _size):
        if not self.received:
            raise BlockingIOError
        data, ancillary, peer = self.received.pop(0)
        buffers[0][: len(data)] = data
        return len(data), ancillary, 0, peer

    def sendmsg(self, buffers, ancillary, flags, peer):
        if self.refuses:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self.sent.append((b"".join(buffers), ancillary, flags, peer))


V4_INFO = (0, 8, struct.pack("=i4s4s", 7, b"\x0a\0\0\1", b"\x0a\0\0\xff"))
V6_INFO = (41, 50, struct.pack("=16si", bytes(15) + b"\1", 7))
PEER = ("192.0.2.9", 1234)


def drain(*received, refuses=False) -> tuple[Scripted, StunServer]:
    server, sock = StunServer([]), Scripted(*received)
    sock.refuses = refuses
    server._drain(sock)
    return sock, server


@pytest.mark.parametrize(
    "peer",
    [
        ("192.0.2.9", 0),
        ("224.0.0.1", 99),
        ("::ffff:239.1.2.3", 99, 0, 0),
        ("255.255.255.255", 99),
        ("0.0.0.0", 99),
        ("ff02::1", 99, 0, 0),
        ("::", 99, 0, 0),
    ],
)
def test_forged_sources(peer):
    """No answer goes to port 0, a multicast or broadcast address, or nowhere."""
    sock, server = drain((REQUEST, [V4_INFO], peer))
    assert sock.sent == []
    assert server.counters == StunCounters(not_stun=1)


@pytest.mark.parametrize(
    ("ancillary", "pinned"),
    [
        ([V4_INFO], (0, 8, struct.pack("=i4s4s", 0, b"\x0a\0\0\1", bytes(4)))),
        ([V6_INFO], (41, 50, struct.pack("=16si", bytes(15) + b"\1", 0))),
        ([V6_INFO, V4_INFO], (0, 8, struct.pack("=i4s4s", 0, b"\x0a\0\0\1", bytes(4)))),
    ],
)
def test_pinned_to_the_address_alone(ancillary, pinned):
    """spec_dst first, even for a broadcast; the interface is left to routing."""
    sock, _ = drain((REQUEST, ancillary, PEER))
    assert sock.sent[0][1] == [pinned]


@pytest.mark.parametrize(
    "info",
    [
        (0, 8, struct.pack("=i4s4s", 7, bytes(4), bytes(4))),
        (41, 50, struct.pack("=16si", bytes(16), 7)),
        (41, 50, struct.pack("=16si", b"\xff\2" + bytes(13) + b"\1", 7)),
        (1, 29, b"a timestamp"),
    ],
)
def test_not_an_address_to_answer_from(info):
    """Nowhere, and multicast: the answer is sent plainly."""
    sock, server = drain((REQUEST, [info], PEER))
    assert sock.sent[0][1] == []
    assert server.counters.success == 1


def test_write_error():
    """A firewall of ours that refuses is counted, not raised."""
    sock, server = drain((REQUEST, [V4_INFO], PEER), refuses=True)
    assert sock.sent == []
    assert server.counters == StunCounters(ipv4=1, write_error=1)


def test_no_answer_is_longer_than_it_may_be():
    """B10: only good questions are answered, with at most 1.2 times their bytes."""
    dice = random.Random(3)  # noqa: S311 - a fixed sequence
    for _ in range(20_000):
        data = bytearray(REQUEST)
        for _ in range(dice.randrange(3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        data = data[: dice.choice([40, 40, 40, dice.randrange(41)])]
        peer = dice.choice([PEER, ("2001:db8::9", 99, 0, 0)])
        sock, _ = drain((bytes(data), [V6_INFO], peer))
        good = parse_binding_request(bytes(data)) is not None
        assert len(sock.sent) == good
        assert sum(len(sent[0]) for sent in sock.sent) <= 1.2 * len(data)
