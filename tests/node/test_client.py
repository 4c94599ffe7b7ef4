"""The DERP client: its layers, its errors, and which certificates it takes."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from derpnode import client
from derpnode.client import (
    PIN_PREFIX,
    ClientTls,
    DialFailed,
    LoginFailed,
    Relay,
    RelayFailed,
    ResolveFailed,
    ServerKeyFailed,
    TlsFailed,
    UpgradeFailed,
    check_certificates,
    connect,
)
from derpnode.client.errors import Ended, reason_of
from derpnode.client.messages import parse_message
from derpnode.client.stream import Stream
from derpnode.client.tls import presented
from derpnode.wire import payloads
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey
from tests.ctl.certs import DAY, NOW, Issued, issue, meta, server_context
from tests.ctl.standins import OTHER, SERVER, DerpStandIn, Handler, serving


ALICE = PrivateKey(bytes([0x33]) * 32)
BOB = PrivateKey(bytes([0x44]) * 32)
MESH = MeshKey(bytes([0x55]) * 32)
PEER = NodeKey(bytes(range(32)))

Start = Callable[..., object]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start stand-ins that last as long as the test."""
    async with AsyncExitStack() as stack:

        async def serve(server: Handler, context: ssl.SSLContext | None = None):
            return await stack.enter_async_context(serving(server, context))

        yield serve


def dial(port: int, tls: ClientTls | None = None, **options: object):
    """Connect as Alice, to a server on loopback."""
    return connect("127.0.0.1", port, **{"private": ALICE, "tls": tls, **options})


async def failing(port: int, tls: ClientTls | None = None, **options: object):
    """Give the error of a connection that must not come about."""
    with pytest.raises(client.ClientError) as found:
        async with dial(port, tls, **{"timeout": 0.3, **options}):
            pass
    return found.value


# Certificates: the rules of net/tlsdial, with no socket.

LEAF = issue("derp.example.com", "127.0.0.1")
META = meta(SERVER.public)


def check(chain: list[bytes], cert_name: str = "", host: str = "derp.example.com"):
    """Check a chain as of now."""
    tls = ClientTls(cert_name)
    return check_certificates(chain, tls, host, version="TLSv1.3", now=NOW)


def refused(chain: list[bytes], cert_name: str = "", host: str = "derp.example.com"):
    """Give the text of a refusal."""
    with pytest.raises(TlsFailed) as found:
        check(chain, cert_name, host)
    return str(found.value)


def test_pin_accepts_the_leaf_and_the_meta_certificate():
    """The meta certificate does not count, wherever it stands."""
    found = check([LEAF.der, META], LEAF.pin)
    assert found == check([META, LEAF.der], LEAF.pin)
    assert (found.count, found.pin, found.meta_key) == (1, LEAF.pin, SERVER.public)
    assert found.not_after == LEAF.certificate.not_valid_after_utc
    assert found.fast_start_key == SERVER.public


def test_no_meta_certificate_no_fast_start():
    """An ordinary server has no key to tell."""
    found = check([LEAF.der], LEAF.pin)
    assert (found.meta_key, found.fast_start_key) == (None, None)


def test_fast_start_is_for_tls_13():
    """Clients look at the meta certificate under TLS 1.3 only."""
    tls = ClientTls(LEAF.pin)
    chain, host = [LEAF.der, META], "derp.example.com"
    found = check_certificates(chain, tls, host, version="TLSv1.2", now=NOW)
    assert (found.meta_key, found.fast_start_key) == (SERVER.public, None)


def test_pin_of_another_certificate():
    """The error has the pin that would fit."""
    pin = PIN_PREFIX + "0" * 64
    assert refused([LEAF.der, META], pin) == (
        f"{pin}: the server has another certificate; "
        f"if it is the node you mean, its pin is {LEAF.pin}"
    )


def test_pin_is_compared_as_text():
    """Upper case never matches, as in Go."""
    upper = PIN_PREFIX + LEAF.pin.removeprefix(PIN_PREFIX).upper()
    assert "another certificate" in refused([LEAF.der], upper)


def test_pin_takes_exactly_one_certificate():
    """An intermediate beside the leaf is refused, though the leaf is right."""
    other = issue("ca.example.com", common_name="CA")
    assert refused([LEAF.der, other.der, META], LEAF.pin) == (
        f"{LEAF.pin}: 2 certificates were presented; with a pin, clients take 1; "
        "serve the leaf alone, without its issuers"
    )
    assert "no certificate was presented" in refused([META], LEAF.pin)
    assert "no certificate was presented" in refused([], LEAF.pin)


def test_meta_certificate_is_known_by_its_name():
    """What only looks like one is left out too, and gives no key."""
    lookalike = issue(common_name="derpkey, or so")
    found = check([LEAF.der, lookalike.der], LEAF.pin)
    assert (found.count, found.meta_key) == (1, None)


def test_pin_needs_the_name_of_a_dns_host():
    """Of an address, no name is checked: clients send none."""
    assert refused([LEAF.der], LEAF.pin, "other.example.com") == (
        "other.example.com: the certificate is for derp.example.com; "
        "its subjectAltName must have the name (the CN does not count)"
    )
    assert check([LEAF.der], LEAF.pin, "192.0.2.1").count == 1
    assert check([LEAF.der], LEAF.pin, "2001:db8::1").count == 1


def test_pin_needs_a_valid_time():
    """A pinned certificate expires like any other."""
    old = issue("a.example.com", end=NOW - timedelta(hours=1))
    young = issue("a.example.com", begin=NOW + timedelta(hours=1))
    expired = refused([old.der], old.pin, "192.0.2.1")
    early = refused([young.der], young.pin, "192.0.2.1")
    assert "192.0.2.1: the certificate expired 2" in expired
    assert expired.endswith("make a new one and put its pin into the map")
    assert "the certificate is not valid before 2" in early
    assert early.endswith("check both clocks")


@pytest.mark.parametrize(
    ("pattern", "host", "good"),
    [
        ("derp.example.com", "DERP.example.com.", True),
        ("*.example.com", "derp.example.com", True),
        ("*.example.com", "a.derp.example.com", False),
        ("*.example.com", "example.com", False),
        ("d*.example.com", "derp.example.com", False),
        ("example.com", "derp.example.com", False),
    ],
)
def test_names(pattern: str, host: str, good: bool):
    """A star stands for exactly the first label."""
    leaf = issue(pattern, common_name=f"{pattern} {host}")
    if good:
        assert check([leaf.der], host=host).count == 1
    else:
        assert f"the certificate is for {pattern}" in refused([leaf.der], host=host)


def test_no_dns_name():
    """The CN does not count."""
    leaf = issue(common_name="derp.example.com")
    assert "the certificate is for no DNS name" in refused([leaf.der])


def test_cert_name_is_another_name():
    """Fronting: the host is dialled, the other name is checked."""
    assert check([LEAF.der], "derp.example.com", "front.example.net").count == 1
    assert "front.example.net" in refused([LEAF.der], host="front.example.net")


def test_malformed_certificate():
    """Junk is refused, not raised."""
    assert refused([b"junk"]) == (
        "derp.example.com: the certificate is malformed; make a new one"
    )


class Certificate:
    """As `_ssl.Certificate` before Python 3.13."""

    def public_bytes(self, kind: int) -> bytes:
        assert kind == 2
        return b"old"


class Connection:
    """As an SSLObject with either method."""

    def __init__(self, chain: list[object] | None) -> None:
        self.get_unverified_chain = lambda: chain


class Wrapped:
    """As an SSLObject before Python 3.13."""

    def __init__(self, chain: list[object] | None) -> None:
        self._sslobj = Connection(chain)


def test_chain_of_any_python():
    """Bytes in 3.13, objects of the private attribute before, None for none."""
    assert presented(Connection([b"new", b"er"])) == [b"new", b"er"]
    assert presented(Wrapped([Certificate()])) == [b"old"]
    assert presented(Wrapped(None)) == []
    assert presented(object()) == []


# A connection, from end to end.


def tls_of(folder: Path, leaf: Issued = LEAF, *extra: bytes) -> ssl.SSLContext:
    """Serve a leaf and the stand-in's meta certificate."""
    return server_context(folder, leaf, *extra, META)


@pytest.mark.parametrize("fast_start", [True, False])
async def test_login(start: Start, tmp_path: Path, fast_start: bool):
    """Both ways lead in; a fast start says so, and gets no 101."""
    server = DerpStandIn()
    port = await start(server, tls_of(tmp_path))
    async with dial(port, ClientTls(LEAF.pin), fast_start=fast_start) as alice:
        assert alice.key == ALICE.public
        assert alice.server_key == SERVER.public
        assert alice.server_info == {"version": 2}
        assert await alice.ping() > 0
    assert ("derp-fast-start" in server.requests[0]) is fast_start
    assert server.requests[0]["host"] == f"127.0.0.1:{port}"


async def test_login_says_who(start: Start):
    """ClientInfo carries what was asked for."""
    server = DerpStandIn()
    port = await start(server)
    options = {"can_ack_pings": False, "is_prober": True, "app_name": "me"}
    async with dial(port, mesh_key=MESH, **options):
        pass
    info = server.infos[0]
    assert (info.mesh_key, info.can_ack_pings) == (MESH.secret, False)
    assert (info.is_prober, info.app_name) == (True, "me")


async def test_authority(start: Start, tmp_path: Path):
    """A chain to a CA file is good for the name, and TLS 1.2 has no fast start."""
    ca = issue(common_name="test CA", ca=True)
    leaf = issue("localhost", by=ca, common_name="localhost")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    context = tls_of(tmp_path, leaf)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = DerpStandIn()
    port = await start(server, context)
    tls = ClientTls(ca_file=tmp_path / "ca.pem")
    async with connect(
        "localhost", port, private=ALICE, tls=tls, addresses=["127.0.0.1"]
    ) as alice:
        found = alice.stream.certificates
        assert found is not None
        assert (found.tls_version, found.count) == ("TLSv1.2", 1)
    assert "derp-fast-start" not in server.requests[0]


async def test_unknown_authority(start: Start, tmp_path: Path):
    """Nobody vouches for a self-signed certificate."""
    port = await start(DerpStandIn(), tls_of(tmp_path))
    error = await failing(port, ClientTls(), timeout=5)
    assert isinstance(error, TlsFailed)
    assert "self-signed certificate" in str(error)


async def test_authorities_that_cannot_be_read(start: Start, tmp_path: Path):
    """The file is named."""
    port = await start(DerpStandIn(), tls_of(tmp_path))
    missing = await failing(port, ClientTls(ca_file=tmp_path / "none"))
    assert str(missing) == (
        f"{tmp_path}/none: no such file or directory; "
        "give a PEM file of certificates that can be read"
    )
    (tmp_path / "junk").write_text("junk")
    junk = await failing(port, ClientTls(ca_file=tmp_path / "junk"))
    assert str(junk).startswith(f"{tmp_path}/junk: no certificate or crl found")


async def test_wrong_pin_closes(start: Start, tmp_path: Path):
    """The stream is dropped before a byte of HTTP is sent."""
    server = DerpStandIn()
    port = await start(server, tls_of(tmp_path))
    error = await failing(port, ClientTls(PIN_PREFIX + "0" * 64), timeout=5)
    assert (error.layer, server.requests) == ("tls", [])


async def test_meta_certificate_of_another(start: Start, tmp_path: Path):
    """A balancer between two nodes shows in the two keys."""
    context = server_context(tmp_path, LEAF, meta(OTHER.public))
    port = await start(DerpStandIn(), context)
    for fast_start in (True, False):
        error = await failing(
            port, ClientTls(LEAF.pin), fast_start=fast_start, timeout=5
        )
        assert isinstance(error, ServerKeyFailed)
        assert "its key is not the one in its meta certificate" in str(error)


async def test_nothing_but_tcp():
    """Each layer below TLS has its own error."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
    error = await failing(port)
    assert str(error) == (
        f"127.0.0.1:{port}: connection refused; "
        "check that the node runs, and what is in between"
    )
    assert isinstance(error, DialFailed)


async def test_second_address_is_tried(start: Start):
    """An address that refuses costs a moment, not the connection."""
    port = await start(DerpStandIn())
    async with dial(port, addresses=["127.0.0.2", "127.0.0.1"]) as alice:
        assert alice.server_key == SERVER.public


async def test_no_address(monkeypatch: pytest.MonkeyPatch):
    """Names without addresses, and resolvers that fail."""
    with pytest.raises(ResolveFailed, match=r"^a\.invalid: "):
        await Relay("a.invalid", 1, None).resolve()

    async def nothing(*_args: object, **_options: object) -> list[object]:
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nothing)
    with pytest.raises(ResolveFailed, match="it has no address"):
        await Relay("a.invalid", 1, None).open()


async def test_names_are_looked_up(start: Start):
    """A host that is a name is resolved."""
    assert "127.0.0.1" in await Relay("localhost", 1, None).resolve()
    assert await Relay("::1", 1, None).resolve() == ["::1"]


async def test_ipv6():
    """Literals have brackets in errors and in the Host header."""
    relay = Relay("::1", 1, None)
    assert (str(relay), relay.authority) == ("[::1]:1", "[::1]:1")
    with pytest.raises(DialFailed, match=r"^\[::1\]:1: "):
        await relay.dial("::1", within=1)


def test_authority_omits_default_ports():
    """As Go's client writes it."""
    assert Relay("a.example", 443, ClientTls()).authority == "a.example"
    assert Relay("a.example", 80, None).authority == "a.example"
    assert Relay("a.example", 443, None).authority == "a.example:443"
    assert Relay("a.example", 4433, ClientTls()).authority == "a.example:4433"


async def test_silent_tls(start: Start):
    """A server that never says hello costs the time that was given, no more."""
    port = await start(hold)
    error = await failing(port, ClientTls(LEAF.pin), timeout=0.05)
    assert isinstance(error, TlsFailed)
    assert "no answer in 0.0" in str(error)


async def hold(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client leaves."""
    await reader.read()


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (
            b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\nno\r\nmore",
            "answered 426 Upgrade Required, not 101; it says 'no'",
        ),
        (
            b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
            "answered 404, not 101; is it a DERP node?",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 3000, "answered 200 OK, not 101; it say"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the answer is not HTTP/1.1; check that a DERP"),
        (b"x" * 20_000, "an HTTP head of more than 16384 bytes; check"),
        (b"", "no answer in "),
    ],
)
async def test_upgrade_refused(start: Start, greeting: bytes, message: str):
    """Whatever answers in place of a DERP server is quoted."""
    port = await start(DerpStandIn(greeting=greeting))
    error = await failing(port, timeout=0.5 if greeting else 0.1)
    assert isinstance(error, UpgradeFailed)
    assert message in str(error)


async def test_flood_before_the_upgrade(start: Start):
    """A server that talks before it was asked is not kept for ever."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(2 << 20))

    stream = await Relay("127.0.0.1", await start(talk), None).open()
    await asyncio.sleep(0.2)
    with pytest.raises(UpgradeFailed, match="more than 1048576 bytes where nothing"):
        await stream.upgrade()
    await stream.close()


async def test_body_without_end(start: Start):
    """A refusal of unknown length is quoted as far as it came, after a second."""
    port = await start(DerpStandIn(greeting=b"HTTP/1.1 502 Bad\r\n\r\nwhy"))
    error = await failing(port, timeout=5)
    assert str(error).endswith("answered 502 Bad, not 101; it says 'why'")


async def test_http_after_fast_start(start: Start, tmp_path: Path):
    """A proxy that answers HTTP in place of frames is told from noise."""
    context = tls_of(tmp_path)
    port = await start(DerpStandIn(greeting=b"HTTP/1.1 400 Bad\r\n\r\n"), context)
    error = await failing(port, ClientTls(LEAF.pin), timeout=5)
    assert "answered in HTTP, not in frames" in str(error)
    assert isinstance(error, ServerKeyFailed)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (encode_frame(6, b""), "the first frame is 0x06, not 0x01"),
        (encode_frame(1, b"x" * 40), "ServerKey does not start with the magic"),
        (b"\x01\xff\xff\xff\xff", "frame 0x01: 4294967295 bytes, limit is 1048576"),
        (b"\x01", "no answer in "),
    ],
)
async def test_server_key_missing(start: Start, first: bytes, message: str):
    """A server that does not say who it is is none."""
    port = await start(DerpStandIn(first=first))
    error = await failing(port)
    assert isinstance(error, ServerKeyFailed)
    assert message in str(error)


async def test_not_admitted(start: Start):
    """A server refuses by closing; the key is named."""
    port = await start(DerpStandIn(admits=False))
    error = await failing(port)
    assert isinstance(error, LoginFailed)
    assert str(error) == (
        f"nodekey:{ALICE.public.hex()}: connection closed by the server; "
        "see whether the node's admission knows this key"
    )


async def test_never_confirmed(start: Start):
    """No ServerInfo, no login."""
    port = await start(DerpStandIn(confirms=False))
    assert "no answer in 0." in str(await failing(port))


async def test_confirmed_by_another(start: Start):
    """ServerInfo must be sealed by the server that we talk to."""
    forged = encode_frame(FrameType.SERVER_INFO, os.urandom(60))
    port = await start(DerpStandIn(extra=forged))
    error = await failing(port)
    assert isinstance(error, LoginFailed)
    assert "the sealed box cannot be opened" in str(error)


async def test_newer_frames_are_skipped(start: Start):
    """Before ServerInfo too."""
    port = await start(DerpStandIn(extra=encode_frame(0x77, b"new")))
    async with dial(port) as alice:
        assert alice.server_info == {"version": 2}


# A client that is logged in.


async def test_packets(start: Start):
    """Packets of all sizes arrive as they were, with their source."""
    port = await start(DerpStandIn())
    async with dial(port) as alice, dial(port, private=BOB) as bob:
        for size in (0, 1, 1_400, 65_536):
            data = os.urandom(size)
            await alice.send(bob.key, data)
            assert await bob.recv() == client.Received(alice.key, data)


async def test_packet_too_large(start: Start):
    """It is not sent: the server would close the connection."""
    port = await start(DerpStandIn())
    async with dial(port) as alice:
        with pytest.raises(RelayFailed, match="65537 bytes, the limit is 65536; send"):
            await alice.send(PEER, bytes(65_537))
        assert await alice.ping() > 0


async def test_requests(start: Start):
    """What a client asks for, as bytes on the wire."""
    server = DerpStandIn()
    port = await start(server)
    async with dial(port) as alice:
        await alice.note_preferred(True)
        await alice.watch()
        await alice.close_peer(PEER)
        await alice.ping()
    assert server.frames[:3] == [(0x07, b"\x01"), (0x10, b""), (0x11, PEER)]


async def test_pings_are_answered(start: Start):
    """At once, whether or not somebody waits for messages; short ones are not."""
    server = DerpStandIn()
    port = await start(server)
    async with dial(port) as alice:
        server.say(alice.key, payloads.ping(b"12345678"), encode_frame(0x12, b"1"))
        await alice.ping()
        await alice.ping()
        pongs = [frame for frame in server.frames if frame[0] == FrameType.PONG]
        assert pongs == [(FrameType.PONG, b"12345678")]


async def test_pings_are_not_answered(start: Start):
    """Who said that it does not answer gets to see them."""
    server = DerpStandIn()
    port = await start(server)
    async with dial(port, can_ack_pings=False) as alice:
        server.say(alice.key, payloads.ping(b"12345678"))
        assert await alice.recv() == client.Ping(b"12345678")
        assert server.frames == []


async def test_no_pong(start: Start):
    """A node that hangs is told by its ping; a late pong is a message."""
    server = DerpStandIn(pongs=False)
    port = await start(server)
    async with dial(port) as alice:
        with pytest.raises(RelayFailed, match=r"no pong in 0\.05 s; connect again"):
            await alice.ping(within=0.05)
        token = server.frames[0][1]
        server.say(alice.key, payloads.pong(token))
        assert await alice.recv() == client.Pong(token)


async def test_end(start: Start):
    """Messages that came before the end are read first; then all calls fail."""
    server = DerpStandIn(pongs=False)
    port = await start(server)
    async with dial(port) as alice:
        server.say(alice.key, payloads.KEEP_ALIVE)
        pinging = asyncio.ensure_future(alice.ping())  # noqa: TID251 - a test's own
        await asyncio.sleep(0.05)
        server.clients[alice.key].close()
        closed = f"^127.0.0.1:{port}: connection closed by the server; connect again$"
        with pytest.raises(RelayFailed, match=closed):
            await pinging
        assert await alice.recv() == client.KeepAlive()
        for call in (alice.recv(), alice.send(PEER, b""), alice.ping()):
            with pytest.raises(RelayFailed, match=closed):
                await call


async def test_flood_pauses(start: Start):
    """Beyond 4 MiB that nobody reads, the server has to wait; nothing is lost."""
    server = DerpStandIn()
    port = await start(server)
    async with dial(port) as alice:
        packet = payloads.recv_packet(PEER, bytes(65_536))
        for _ in range(200):
            server.say(alice.key, packet)
        await asyncio.sleep(0.3)
        backlog = server.clients[alice.key].transport.get_write_buffer_size()
        assert backlog > 0
        for _ in range(200):
            assert len((await alice.recv()).data) == 65_536
        assert await alice.ping() > 0


async def test_slow_server_holds_writers_back(start: Start):
    """`send` waits while the socket takes no more."""

    async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        while await reader.read(1 << 20):
            pass

    stream = await Relay("127.0.0.1", await start(deaf), None).open()
    started = asyncio.get_running_loop().time()
    for _ in range(200):
        await stream.write(bytes(65_536))
    assert asyncio.get_running_loop().time() - started > 0.1
    await stream.close()


async def test_close_does_not_wait_for_the_deaf(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    """A peer that reads nothing cannot hold a client in its block."""
    monkeypatch.setattr("derpnode.client.stream._CLOSE_TIMEOUT", 0.05)

    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await over.wait()

    over = asyncio.Event()
    stream = await Relay("127.0.0.1", await start(deaf), None).open()
    stream._transport.write(bytes(32 << 20))
    async with asyncio.timeout(5):
        await stream.close()
    over.set()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (payloads.recv_packet(PEER, b"hi"), client.Received(PEER, b"hi")),
        (
            payloads.peer_gone(PEER, payloads.GoneReason.NOT_HERE),
            client.PeerGone(PEER, 1),
        ),
        (payloads.peer_present(payloads.Present(PEER)), payloads.Present(PEER)),
        (payloads.ping(b"12345678"), client.Ping(b"12345678")),
        (payloads.pong(b"12345678"), client.Pong(b"12345678")),
        (payloads.health("sick"), client.Health("sick")),
        (payloads.restarting(1, 2), client.Restarting(1, 2)),
        (payloads.KEEP_ALIVE, client.KeepAlive()),
        (encode_frame(0x77, b"new"), client.Unknown(0x77, b"new")),
        (encode_frame(0x05, b"short"), client.Unknown(0x05, b"short")),
    ],
)
def test_messages(frame: bytes, message: client.Message):
    """Every frame towards a client has a message; what cannot be read is kept."""
    assert parse_message(frame[0], frame[5:]) == message


def test_reasons():
    """Errors of the system, in a few words and without the address again."""
    refused = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")
    name = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert reason_of(refused) == "connection refused"
    assert reason_of(name) == "name or service not known"
    assert reason_of(ConnectionResetError()) == "connection reset by peer"
    version = "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"
    assert reason_of(ssl.SSLError(1, version)) == "wrong version number"
    assert reason_of(OSError("odd")) == "odd"


def test_stream_is_an_end_that_is_told_once():
    """A second reason does not hide the first."""
    stream = Stream("a:1", "a:1")
    stream.connection_made(asyncio.BaseTransport())  # of no use: ignored
    stream.connection_lost(ConnectionResetError())
    stream.connection_lost(None)
    with pytest.raises(Ended) as found:
        asyncio.run(stream.write(b""))
    assert found.value.reason == "connection reset by peer"


async def test_cancelled_dial_closes_its_socket(monkeypatch: pytest.MonkeyPatch):
    """Nothing is left behind by an address that does not answer."""

    async def never(*_args: object) -> None:
        await asyncio.sleep(10)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    with pytest.raises(DialFailed, match=r"^192\.0\.2\.1:1: no answer in 0\.05 s; "):
        await Relay("192.0.2.1", 1, None).dial("192.0.2.1", within=0.05)


def test_day_is_a_day():
    """Certificates of these tests are valid now."""
    assert LEAF.certificate.not_valid_after_utc > NOW + DAY
