"""A node as a whole: what it opens, when it closes, and how it ends."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from derpnode.config import load_config
from derpnode.errors import ConfigError, LastServingNode
from derpnode.node import Node
from derpnode.plane.python.plane import PythonPlane
from derpnode.server import certificates, readiness, selfcheck
from derpnode.wire.frames import FrameType
from derpnode.wire.handshake import ClientInfo
from derpnode.wire.keys import node_key_text
from derpnode.wire.payloads import parse_health, parse_restarting
from derpnode.wire.stun import binding_request
from tests.conformance.scene import (
    LOOPBACK,
    PATIENCE,
    Client,
    Place,
    Running,
    new_key,
    place_of,
    running,
    settings,
    until,
)


@pytest.fixture
async def pair(tmp_path):
    """A node that serves, and how to reach it."""
    async with running(tmp_path) as found:
        yield found


async def refuses(place: Place) -> bool:
    """Whether TCP connections are refused, so that clients go to another node."""
    try:
        peer = await place.dial_plain(place.derp_port)
    except ConnectionRefusedError:
        return True
    peer.leave()
    return False


async def refused(place: Place, *, wanted: bool, patience: float) -> float:
    """Wait until connections are refused, or no longer; say how long it took."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    async with asyncio.timeout(patience):
        while await refuses(place) != wanted:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    return loop.time() - since


# Starting.


async def test_every_listener_has_a_port_of_its_own(pair):
    """Regression: the HTTP port was tried on the relay's, as both were asked for 0."""
    node, place = pair
    ports = {place.derp_port, place.http_port}
    assert len(ports) == 2
    assert 0 not in ports
    assert set(node.listeners()) == {"derp", "http", "stun", "admin"}


async def test_what_it_says_of_itself(pair):
    """It serves, for a while, and is in the map as it listens."""
    node, place = pair
    assert (node.state, node.reasons) == ("serving", [])
    assert node.uptime > 0
    entry = node.map_entry()
    assert entry["DERPPort"] == place.derp_port
    assert entry["STUNPort"] == place.stun_port
    assert str(entry["CertName"]).startswith("sha256-raw:")


@pytest.mark.parametrize("kind", ["derp", "http", "stun"])
async def test_an_address_in_use(tmp_path, kind):
    """The error names the setting, and nothing is left open."""
    family = socket.SOCK_DGRAM if kind == "stun" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, family) as taken:
        taken.bind((LOOPBACK, 0))
        if kind != "stun":
            taken.listen()
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        more = settings(tmp_path, f"{kind}.listen=['{address}']")
        node = Node(load_config(None, {}, more))
        with pytest.raises(ConfigError, match="in use") as raised:
            await node.run()
    assert (raised.value.setting, raised.value.value) == (f"{kind}.listen", address)
    assert not node.plane.counters.connections


async def test_without_tls(tmp_path):
    """Behind a proxy that ends TLS there is no port 80 of ours."""
    meant = "admission.i_know_this_is_public=true"
    async with running(tmp_path, "tls.mode=off", meant) as (node, place):
        client = await place.login()
        assert await client.sync() == []
        assert node.listeners()["http"] == []
        assert "CertName" not in node.map_entry()


async def test_without_stun(tmp_path):
    """The map says so."""
    async with running(tmp_path, "stun.enabled=false") as (node, _):
        assert node.listeners()["stun"] == []
        assert node.map_entry()["STUNPort"] == -1


async def test_without_derp(tmp_path):
    """It is ready all the same: it asks itself for a probe."""
    async with running(tmp_path, "derp.enabled=false") as (node, _):
        assert node.state == "serving"
        assert node.map_entry()["STUNOnly"] is True


async def test_a_client_at_the_internal_port_is_not_a_request(pair):
    """Readiness is not counted."""
    node, place = pair
    before = sum(node.front.requests.values())
    await node.readiness.round()
    assert sum(node.front.requests.values()) == before
    await place.ask(b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n")
    assert sum(node.front.requests.values()) == before + 1


async def test_published_names(tmp_path):
    """They are looked up in the background."""
    async with running(tmp_path, "bootstrap_dns.names=[localhost]") as (node, _):
        await until(lambda: "localhost" in node.front.site.bootstrap)
        assert "127.0.0.1" in node.front.site.bootstrap["localhost"]


# Readiness.


@pytest.fixture
def fast_rounds(monkeypatch):
    """Make rounds of readiness quick."""
    monkeypatch.setattr(readiness, "INTERVAL", 0.05)
    monkeypatch.setattr(selfcheck, "TIMEOUT", 0.2)


def break_tls(node: Node) -> list[tuple[object, object]]:
    """Take the certificates out of every listener; return what mends them."""
    plane = node.plane
    assert isinstance(plane, PythonPlane)
    listeners = list(plane._acceptor.listeners.values())
    before = [(found, found.context) for found in listeners]
    for found in listeners:
        found.context = found.context and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return before


@contextlib.asynccontextmanager
async def asking_stun(place: Place) -> AsyncIterator[list[float]]:
    """Ask every 20 ms until the block ends; note when answers came."""
    loop = asyncio.get_running_loop()
    answered: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)

        async def ask() -> None:
            while True:
                request = binding_request(b"transaction!")
                await loop.sock_sendto(sock, request, (LOOPBACK, place.stun_port))
                await asyncio.sleep(0.02)

        loop.add_reader(sock, lambda: (sock.recv(2048), answered.append(loop.time())))
        asking = loop.create_task(ask())
        try:
            yield answered
        finally:
            asking.cancel()
            loop.remove_reader(sock)
            await asyncio.gather(asking, return_exceptions=True)


async def test_broken_tls_closes_the_node(pair):
    """M9, at full length: STUN is silent within 3 s, TCP refused within 10 s."""
    node, place = pair
    async with asking_stun(place) as answered:
        await until(lambda: len(answered) > 0)
        mend = break_tls(node)
        since = asyncio.get_running_loop().time()
        assert await refused(place, wanted=True, patience=10) < 10
    assert answered[-1] - since < 3
    assert node.state == "unready"
    assert node.reasons[0].startswith("cannot reach itself: ")
    for listener, context in mend:
        listener.context = context
    assert await refused(place, wanted=False, patience=10) > readiness.INTERVAL
    assert (node.state, node.reasons) == ("serving", [])
    await place.login()


async def test_tls_that_hangs_closes_the_node(pair, monkeypatch):
    """The same, where nothing is answered at all: STUN is silent within 3 s."""
    node, place = pair
    async with asking_stun(place) as answered:
        monkeypatch.setattr(PythonPlane, "_shake", lambda *_: None)
        since = asyncio.get_running_loop().time()
        assert await refused(place, wanted=True, patience=10) < 10
    assert 0 < answered[-1] - since < 3 + 0.5  # the machine may be busy
    assert node.reasons == ["no answer from itself in 1.5 s"]


async def test_clients_stay_while_the_node_is_not_ready(pair, fast_rounds):
    """Those that are here are served; only new ones are refused."""
    node, place = pair
    clients = [await place.login() for _ in range(2)]
    break_tls(node)
    await refused(place, wanted=True, patience=PATIENCE)
    await clients[0].send(clients[1], b"still here")
    assert await clients[1].packet() == (clients[0].key, b"still here")


async def test_a_port_that_was_taken_meanwhile(tmp_path, fast_rounds, caplog):
    """It is tried again; regression: it was the end of the node."""
    async with running(tmp_path) as (node, place):
        mend = break_tls(node)
        await refused(place, wanted=True, patience=PATIENCE)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((LOOPBACK, place.derp_port))
            taken.listen()
            for listener, context in mend:
                listener.context = context
            await until(lambda: "in use; " in caplog.text or "in use" in caplog.text)
            assert node.state == "unready"
            await until(lambda: caplog.text.count("; trying again") > 2)
        await until(lambda: node.state == "serving")
        await place.login()
    told = [event.text for event in node.journal.after(0) if event.kind == "unready"]
    assert len(told) == 2
    assert "in use" in told[1]


# The end.


async def ends(node: Node, task: asyncio.Task[None]) -> float:
    """Stop a node; say how long it takes."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    node.stop()
    async with asyncio.timeout(PATIENCE):
        await task
    return loop.time() - since


async def started(folder: Path, *more: str) -> tuple[Node, Place, Running]:
    """Start a node that the test stops itself."""
    node = Node(load_config(None, {}, settings(folder, *more)))
    runs = Running(node)
    await runs.serving()
    return node, place_of(node), runs


async def farewell(client: Client) -> tuple[str, tuple[float, float]]:
    """Wait for both frames of a goodbye, and for the end."""
    text = parse_health(await client.until(FrameType.HEALTH))
    delays = parse_restarting(await client.until(FrameType.RESTARTING))
    assert await client.rest() == b""
    return text, delays


async def test_clients_are_told(tmp_path):
    """By Health and Restarting; then they are closed, and the listener was first."""
    node, place, runs = await started(tmp_path)
    clients = [await place.login() for _ in range(3)]
    node.stop()
    for client in clients:
        text, delays = await farewell(client)
        assert text == "this relay is restarting"
        assert delays == (0.0, 20.0)
    assert await refuses(place)
    await runs.stop()
    await place.close()


async def test_idle_clients_leave_first(tmp_path, monkeypatch):
    """Those with traffic have the longest time to find another way."""
    monkeypatch.setattr("derpnode.server.goodbye.PACE", 8)
    node, place, runs = await started(tmp_path)
    busy, idle = await place.login(), [await place.login() for _ in range(3)]
    await busy.send(busy, b"traffic")
    await busy.packet()
    order: list[str] = []

    async def note(client: Client, name: str) -> None:
        await client.rest()
        order.append(name)

    node.stop()
    await asyncio.gather(note(busy, "busy"), *(note(one, "idle") for one in idle))
    assert order[-1] == "busy"
    await runs.stop()
    await place.close()


async def test_the_backlog_is_taken(tmp_path):
    """Who has connected when the listener closes is served, and told to leave."""
    node, place, runs = await started(tmp_path)
    first = await place.login()
    late = await place.upgraded()
    node.stop()
    private = new_key()
    await late.say(place.client_info(private, ClientInfo()))
    assert (await late.frame())[0] == FrameType.SERVER_INFO
    await farewell(Client(late, private))
    await first.rest()
    await runs.stop()
    await place.close()


async def test_a_second_stop_is_at_once(tmp_path, monkeypatch):
    """Whatever the grace period is."""
    monkeypatch.setattr("derpnode.server.goodbye.PACE", 1)
    node, place, runs = await started(tmp_path, "drain_grace=60")
    clients = [await place.login() for _ in range(8)]
    node.stop()
    await clients[0].until(FrameType.HEALTH)
    assert node.state == "draining"
    assert await ends(node, runs._task) < 2
    for client in clients:
        await client.rest()
    await place.close()


async def test_no_clients_no_time(tmp_path):
    """There is nothing to wait for."""
    node, place, runs = await started(tmp_path)
    assert await ends(node, runs._task) < 2
    assert await refuses(place)


async def test_questions_to_admission_do_not_hold_the_end_up(tmp_path):
    """Regression: a node waited for an admission URL that did not answer."""
    asked = asyncio.Event()

    async def hang(reader, writer):
        asked.set()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(hang, LOOPBACK, 0) as hook:
        port = hook.sockets[0].getsockname()[1]
        node, place, runs = await started(
            tmp_path,
            "admission.mode=any",
            f"admission.urls=['http://{LOOPBACK}:{port}/']",
            "admission.timeout=60",
        )
        await place.offered(ClientInfo())
        await asked.wait()
        assert await ends(node, runs._task) < 3
        await place.close()


# Draining by an operator.


async def test_the_last_node_is_not_drained(pair):
    """Unless somebody means it."""
    node, place = pair
    with pytest.raises(LastServingNode):
        node.drain(grace=1)
    assert node.state == "serving"
    assert not await refuses(place)


async def test_drain_and_back(pair):
    """Clients are told, TCP is refused, mesh peers stay; then clients come again."""
    node, place = pair
    client, peer = await place.login(), await place.login(mesh=True)
    node.drain(grace=1, force=True)
    node.drain(grace=1, force=True)
    assert (await farewell(client))[0] == "this relay is in maintenance"
    await until(lambda: node.state == "drained")
    assert node.reasons == ["an operator asked for a drain"]
    assert await refuses(place)
    async with asking_stun(place) as answered:
        assert await peer.sync() == []
        await asyncio.sleep(0.2)
    assert answered == []
    node.undrain()
    node.undrain()
    assert node.state == "serving"
    await place.login()


# Changes while it runs.


async def shown(place: Place) -> bytes:
    """See which leaf a handshake proves."""
    peer = await place.dial()
    leaf = peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert isinstance(leaf, bytes)
    return leaf


async def test_a_new_certificate(tmp_path):
    """After a reload handshakes prove it; nobody is disconnected."""
    for name in ("old", "new"):
        now = datetime.now(UTC)
        (tmp_path / name).mkdir()
        certificates.self_signed(tmp_path / name, LOOPBACK, now)
    files = certificates.self_signed_files(tmp_path / "old", LOOPBACK)
    new = certificates.self_signed_files(tmp_path / "new", LOOPBACK)
    tls = (f"tls.certificate={files.certificate}", f"tls.key={files.key}")
    async with running(tmp_path, *tls) as (node, place):
        client, before = await place.login(), await shown(place)
        new.certificate.replace(files.certificate)
        new.key.replace(files.key)
        node.reload()
        async with asyncio.timeout(PATIENCE):
            while await shown(place) == before:
                pass
        assert await client.sync() == []


async def test_a_key_that_leaves_the_file(tmp_path):
    """Its clients are disconnected within 5 s; others, and mesh peers, stay."""
    keys = {name: new_key() for name in ("leaves", "stays")}
    file = tmp_path / "keys"

    def write(*names: str) -> None:
        file.write_text("".join(f"{node_key_text(keys[n].public)}\n" for n in names))

    write("leaves", "stays")
    more = ("admission.mode=any", f"admission.key_file={file}")
    async with running(tmp_path, *more) as (_, place):
        leaves = await place.offered(ClientInfo(), keys["leaves"])
        stays = await place.offered(ClientInfo(), keys["stays"])
        mesh = await place.offered(ClientInfo(place.mesh_key), keys["leaves"])
        for peer in (leaves, stays, mesh):
            await peer.until(FrameType.SERVER_INFO)
        write("stays")
        await leaves.rest(5)
        assert await stays.sync() == []
        assert await mesh.sync() == []
        assert not await place.accepts(ClientInfo(), keys["leaves"])


async def test_what_is_asked_of_a_node_that_does_not_run(tmp_path):
    """It is refused, not kept."""
    node = Node(load_config(None, {}, settings(tmp_path)))
    ran = False

    async def job() -> None:
        nonlocal ran
        ran = True

    node.spawn(job())
    await asyncio.sleep(0)
    assert not ran
    node.plane.shutdown()
