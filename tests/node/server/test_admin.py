"""The admin listener: what it answers, to whom, and where it listens."""

import asyncio
import json
import logging
from datetime import UTC, datetime

import aiohttp
import pytest

from derpnode.wire.keys import PrivateKey, node_key_text
from tests.node.server.adminnode import (
    admin_client,
    logged_in,
    node_config,
    running,
)


PAGES = {
    "/livez": "text/plain; charset=utf-8",
    "/readyz": "text/plain; charset=utf-8",
    "/metrics": "text/plain; version=0.0.4; charset=utf-8",
    "/debug/varz": "text/plain; version=0.0.4; charset=utf-8",
    "/debug/check": "text/plain; charset=utf-8",
    "/debug/clients/": "application/json",
    "/v1/node": "application/json",
    "/v1/status": "application/json",
    "/v1/clients": "application/json",
    "/v1/events": "application/json",
    "/v1/presence": "application/json",
}
HEALTH = ["/livez", "/readyz"]

ALICE = PrivateKey(bytes(31) + b"\x01")
BOB = PrivateKey(bytes(31) + b"\x02")


@pytest.fixture
async def node(tmp_path):
    """A node that serves."""
    async with running(node_config(tmp_path)) as found:
        yield found


@pytest.fixture
async def http(node):
    """A client of its admin address on loopback."""
    async with admin_client(node) as found:
        yield found


async def exchange(node, request: bytes) -> bytes:
    """Send bytes to a node's admin address, and give what comes until it closes."""
    address = node.listeners()["admin"][1].removeprefix("http://")
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


# Pages.


@pytest.mark.parametrize(("path", "content_type"), PAGES.items())
async def test_pages(http, path, content_type):
    """Every page is there, says what it is, and asks not to be kept."""
    async with http.get(path) as answer:
        body = await answer.text()
    assert answer.status == 200
    assert body
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers


async def test_unix_socket(node):
    """The same pages are on the Unix socket, whatever the Host header says."""
    path = node.listeners()["admin"][0].removeprefix("unix:")
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession("http://node", connector=connector) as http:
        for page in PAGES:
            async with http.get(page) as answer:
                assert answer.status == 200
                assert "Server" not in answer.headers


async def test_health(node, http):
    """`/livez` is always well; `/readyz` gives a reason a line while it is not."""

    async def get(path: str) -> tuple[int, str]:
        async with http.get(path) as answer:
            return answer.status, await answer.text()

    assert await get("/livez") == (200, "ok\n")
    assert await get("/readyz") == (200, "ready\n")
    node.readiness.ready, node.readiness.failure = False, "cannot reach itself"
    assert await get("/livez") == (200, "ok\n")
    assert await get("/readyz") == (503, "cannot reach itself\n")
    node.stop()
    assert await get("/readyz") == (503, "stopping\n")


async def test_metrics_are_the_same_at_varz(http):
    """Where derper has its metrics we have ours."""
    texts = []
    for path in ("/metrics", "/debug/varz"):
        async with http.get(path) as answer:
            lines = (await answer.text()).splitlines()
        texts.append([line for line in lines if line.startswith("#")])
    assert texts[0] == texts[1]
    assert "# TYPE derp_accepts counter" in texts[0]


async def test_clients_show(node, http):
    """Two real clients are in every count and list."""
    async with logged_in(node, ALICE, app_name="one"), logged_in(node, BOB):
        async with http.get("/v1/status") as answer:
            status = await answer.json()
        async with http.get("/debug/clients/?format=json") as answer:
            summary = await answer.text()
        async with http.get("/debug/clients/?all&sort=conn&format=json") as answer:
            listed = await answer.json()
        async with http.get("/metrics") as answer:
            metrics = await answer.text()
    assert status["clients"]["connections"] == status["clients"]["keys"] == 2
    assert summary == '{"conns":2,"keys":2}\n'
    assert "\nderp_accepts 2\n" in metrics
    assert "\nderp_current_connections 2\n" in metrics
    first, second = listed["clients"]
    assert first["key"] == node_key_text(ALICE.public)
    assert first["appName"] == "one"
    assert second["key"] == node_key_text(BOB.public)
    assert first["remote"].startswith("127.0.0.1:")
    connected = datetime.fromisoformat(first["connectedAt"][:19] + "+00:00")
    assert abs((datetime.now(UTC) - connected).total_seconds()) < 5


async def test_clients_walk(node, http):
    """The link to the next page works as it is, also among times of connection."""
    async with logged_in(node, ALICE), logged_in(node, BOB), logged_in(node, BOB):
        found = []
        query = "?limit=1&sort=connected"
        while query:
            async with http.get("/v1/clients" + query) as answer:
                page = json.loads(await answer.text())
            found += page["clients"]
            query = page.get("next", "")
    keys = [ALICE.public, BOB.public, BOB.public]
    assert [one["key"] for one in found] == [node_key_text(key) for key in keys]
    assert [one["active"] for one in found] == [True, False, True]


async def test_v1_clients_needs_no_filter(http):
    """It lists everybody, where `/debug/clients/` only counts; orders apply."""
    async with http.get("/v1/clients") as answer:
        assert (await answer.json())["query"] == "all clients"
    async with http.get("/v1/clients?sort=nonsense") as answer:
        assert answer.status == 400
    async with http.get("/v1/clients?app=x") as answer:
        assert (await answer.json())["query"] == "all clients with app x"


async def test_bad_query(http):
    """Derper's text, as text."""
    async with http.get("/debug/clients/?all&limit=0") as answer:
        assert (answer.status, await answer.text()) == (400, 'bad limit "0"\n')
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("query", ["", "?all=1&x=%20"])
async def test_slash_is_added(http, query):
    """As Go's router does, and the query goes along."""
    async with http.get(f"/debug/clients{query}", allow_redirects=False) as answer:
        assert answer.status == 307
    assert answer.headers["Location"] == f"/debug/clients/{query}"


async def test_check(node, http, monkeypatch):
    """Consistent is what derper says in that case; duplicates are no fault."""
    async with (
        logged_in(node, ALICE),
        logged_in(node, ALICE),
        http.get("/debug/check") as answer,
    ):
        body = await answer.text()
    assert (answer.status, body) == (200, "derp.Server ConsistencyCheck okay")
    monkeypatch.setattr(type(node.relay), "local_keys", 7)
    async with http.get("/debug/check") as answer:
        body = await answer.text()
    assert answer.status == 500
    assert body == "0 active connections for 7 keys, 0 keys known, 7 connected\n"


async def test_a_bug_is_heard(http, monkeypatch, caplog):
    """A view that fails is a 500 with no traceback in it, and one in the log."""

    def fail(_: object) -> object:
        message = "a bug"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("derpnode.server.admin.node_document", fail)
    async with http.get("/v1/node") as answer:
        body = await answer.text()
    assert answer.status == 500
    assert "a bug" not in body
    assert "Server" not in answer.headers
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "a bug" in caplog.text


# Who may.


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/debug", "/debug/", "/livez/"])
async def test_not_found(http, path):
    """Paths are exact."""
    async with http.get(path) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_get_alone(http, method):
    """Nothing can be changed here."""
    async with http.request(method, "/v1/node", data=b"x" * 100_000) as answer:
        assert answer.status == 405
    assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9090", 200),
        ("localhost:9090", 200),
        ("LOCALHOST", 200),
        ("[::1]:9090", 200),
        ("192.0.2.7", 200),
        ("evil.example", 403),
        ("evil.example:9090", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/livez", "/v1/node"])
async def test_host_header(http, path, host, status):
    """A name of somebody's own may point to loopback: DNS rebinding."""
    async with http.get(path, headers={"Host": host}) as answer:
        assert answer.status == status


async def test_no_host_header(node):
    """HTTP/1.0 has none, and browsers do not speak it."""
    answer = await exchange(node, b"GET /livez HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_behind_a_proxy(http, header):
    """S6: a proxy on this machine makes nobody local. Health is for everybody."""
    for path in PAGES:
        async with http.get(path, headers={header: "192.0.2.7"}) as answer:
            assert answer.status == (200 if path in HEALTH else 403)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"NONSENSE\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_bad_http(node, caplog, request_bytes):
    """What is no HTTP is answered with no banner, and fills no log."""
    answer = await exchange(node, request_bytes)
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"\r\nserver:" not in answer.lower()
    assert b"aiohttp" not in answer
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_no_access_log(http, caplog):
    """A scrape every few seconds leaves no trace."""
    caplog.set_level(logging.DEBUG)
    async with http.get("/metrics"):
        pass
    assert [one for one in caplog.records if one.name.startswith("aiohttp")] == []


async def test_not_on_public_ports(node):
    """S6: the public ports have none of it, whatever the path."""
    paths = [*PAGES, "/debug/clients", "/debug/", "/debug/pprof/", "/v1/", "/admin"]
    paths += [f"/debug/x{number}" for number in range(100)]
    paths += [f"/v1/x{number}" for number in range(100)]
    listeners = node.listeners()
    urls = [
        *(f"https://{address}" for address in listeners["derp"]),
        *(f"http://{address}" for address in listeners["http"]),
    ]
    async with aiohttp.ClientSession() as http:
        for url in urls:
            for path in paths:
                get = http.get(url + path, ssl=False, allow_redirects=False)
                async with get as answer:
                    body = await answer.text()
                if path.startswith("/debug"):
                    assert (answer.status, body) == (403, "debug access denied\n")
                else:
                    assert body == ""
