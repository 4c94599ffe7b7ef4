"""The admin listener: what it answers, to whom, and where it listens."""

import asyncio
import json
import logging
import os
import socket
import ssl
import stat
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from derpnode.errors import ConfigError
from derpnode.server import selfsigned
from derpnode.server.admin import AdminServer
from derpnode.wire.keys import PrivateKey, node_key_text
from tests.node.server.adminnode import (
    admin_client,
    built,
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
}
HEALTH = ["/livez", "/readyz"]
DETAILS = [path for path in PAGES if path not in {*HEALTH, "/metrics"}]

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
    """derper's path for metrics has our text."""
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
    async with logged_in(node, ALICE), logged_in(node, ALICE):
        async with http.get("/debug/check") as answer:
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


# Off loopback.


@pytest.fixture
def pair(tmp_path):
    """A certificate and its key."""
    certificate, key = tmp_path / "admin.crt", tmp_path / "admin.key"
    selfsigned.create(certificate, key, "127.0.0.1", datetime.now(UTC))
    return certificate, key


@pytest.fixture
def token_file(tmp_path):
    """A file with a token, as `openssl rand -hex 32` would make it."""
    path = tmp_path / "token"
    path.write_text("correct-horse\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def network(tmp_path, pair, token_file):
    """Settings of a node with an admin address for everybody."""

    def config(**more: object):
        certificate, key = pair
        admin = {
            "listen": [":0"],
            "certificate": certificate,
            "key": key,
            "token_file": token_file,
        }
        return node_config(tmp_path / "state", admin=admin | more)

    return config


@asynccontextmanager
async def serving(config):
    """Start an admin listener for a node that was only built."""
    async with built(config) as node:
        server = AdminServer(node)
        await server.start()
        try:
            yield server
        finally:
            await server.close()


async def status_of(url: str, path: str, authorization: str = "") -> int:
    headers = {"Authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession() as http:
        async with http.get(url + path, headers=headers, ssl=False) as answer:
            assert "Server" not in answer.headers
            await answer.read()
            return answer.status


async def test_token(network):
    """Off loopback there is TLS, and only health is for everybody."""
    async with running(network()) as node:
        url = node.listeners()["admin"][1]
        port = int(url.rpartition(":")[2])
        assert url == f"https://127.0.0.1:{port}"
        for path in PAGES:
            expected = 200 if path in HEALTH else 401
            assert await status_of(url, path) == expected
            assert await status_of(url, path, "Bearer correct-horse") == 200
        for wrong in (
            "Bearer correct-hors",
            "Bearer correct-horsey",
            "Bearer ",
            "Bearer é",
            "Basic correct-horse",
            "correct-horse",
        ):
            assert await status_of(url, "/v1/node", wrong) == 401
        assert await status_of(url, "/nowhere") == 401
        assert await status_of(url, "/nowhere", "bearer correct-horse") == 404
        # Both families, where the machine has them.
        if socket.has_ipv6:
            assert await status_of(f"https://[::1]:{port}", "/livez") == 200


async def test_refusal_names_the_scheme(network):
    """Clients learn what to send. Source: RFC 6750, 3."""
    async with serving(network()) as server:
        async with aiohttp.ClientSession() as http:
            async with http.get(server.addresses[1] + "/v1/node", ssl=False) as answer:
                assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_no_plain_http_off_loopback(network):
    """There is no answer in the clear."""
    async with serving(network()) as server:
        url = server.addresses[1].replace("https", "http")
        with pytest.raises(aiohttp.ClientError):
            await status_of(url, "/livez")


async def test_public_metrics(network):
    """`admin.public_metrics` opens `/metrics`, and nothing else."""
    async with running(network(public_metrics=True)) as node:
        url = node.listeners()["admin"][1]
        assert await status_of(url, "/metrics") == 200
        assert await status_of(url, "/debug/varz") == 401
        assert await status_of(url, "/v1/status") == 401


async def test_tls_12_at_least(network):
    """Older versions are not spoken."""
    async with serving(network()) as server:
        host, _, port = server.addresses[1].removeprefix("https://").rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(host, int(port), ssl=context)


async def test_the_token_is_never_shown(network, caplog):
    """Neither in an answer nor in a log, right or wrong."""
    caplog.set_level(logging.DEBUG)
    async with running(network()) as node:
        url = node.listeners()["admin"][1]
        await status_of(url, "/v1/status", "Bearer correct-horse")
        await status_of(url, "/v1/status", "Bearer wrong-horse")
    assert "horse" not in caplog.text


async def refused(config) -> ConfigError:
    """Start a listener that cannot; nothing is left of it."""
    async with built(config) as node:
        server = AdminServer(node)
        with pytest.raises(ConfigError) as caught:
            await server.start()
        assert server.addresses == []
        await server.close()
    return caught.value


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"correct-horse", 0o640, "mode 0640 lets others read this secret"),
        (b"correct-horse", 0o604, "mode 0604 lets others read this secret"),
        (b" \n", 0o600, "not one word of printable ASCII"),
        (b"correct horse", 0o600, "not one word of printable ASCII"),
        (b"correct\xff", 0o600, "not one word of printable ASCII"),
    ],
)
async def test_bad_token_file(network, token_file, content, mode, reason):
    """Refused at the start, and not shown."""
    token_file.write_bytes(content)
    token_file.chmod(mode)
    error = await refused(network())
    assert (error.setting, error.value) == ("admin.token_file", str(token_file))
    assert error.reason == reason
    assert "correct" not in str(error)


async def test_missing_token_file(network, token_file):
    """The reason is the system's."""
    token_file.unlink()
    error = await refused(network())
    assert error.reason == "cannot be read: No such file or directory"


async def test_bad_certificates(network, pair):
    """Missing, no PEM, or a key that is encrypted: said at the start."""
    certificate, key = pair
    passphrase = BestAvailableEncryption(b"secret")
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, passphrase
    )
    key.write_bytes(encrypted)
    assert "OpenSSL refuses it" in (await refused(network())).reason
    certificate.write_text("nonsense")
    error = await refused(network())
    assert (error.setting, error.value) == ("admin.certificate", str(certificate))
    assert "OpenSSL refuses it" in error.reason
    certificate.unlink()
    assert "cannot be read" in (await refused(network())).reason


async def test_certificate_is_needed(network):
    """The configuration asks for one; should it ever not, this does."""
    config = network()
    admin = config.admin.model_copy(update={"certificate": None})
    error = await refused(config.model_copy(update={"admin": admin}))
    assert error.reason == "missing"


async def test_reload(network, token_file, pair, caplog):
    """A new token and a new certificate are in use after a reload."""
    async with serving(network()) as server:
        url = server.addresses[1]
        before = await leaf(url)
        token_file.write_text("battery-staple")
        for path in pair:
            path.unlink()
        selfsigned.create(*pair, "127.0.0.1", datetime.now(UTC))
        server.reload()
        assert await leaf(url) != before
        assert await status_of(url, "/nowhere", "Bearer correct-horse") == 401
        assert await status_of(url, "/nowhere", "Bearer battery-staple") == 404
        token_file.write_text("")
        server.reload()
        assert await status_of(url, "/nowhere", "Bearer battery-staple") == 404
    assert "what was in use stays" in caplog.text


async def leaf(url: str) -> bytes:
    """Give the certificate that an address shows."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_reload_without_anything_to_reload(tmp_path):
    """On loopback there is neither."""
    async with serving(node_config(tmp_path)) as server:
        server.reload()
        assert await status_of(server.addresses[1], "/livez") == 200


# Where it listens.


async def test_addresses(tmp_path):
    """The Unix socket first, then TCP as configured, with the ports in use."""
    admin = {"listen": ["127.0.0.1:0", "[::1]:0"]}
    async with serving(node_config(tmp_path, admin=admin)) as server:
        unix, tcp4, tcp6 = server.addresses
        assert unix == f"unix:{tmp_path / 'admin.sock'}"
        assert tcp4.startswith("http://127.0.0.1:")
        assert tcp6.startswith("http://[::1]:")
        assert not tcp4.endswith(":0")
        assert await status_of(tcp6, "/livez") == 200


async def test_no_tcp_at_all(tmp_path):
    """An empty list leaves the Unix socket alone."""
    async with serving(node_config(tmp_path, admin={"listen": []})) as server:
        assert server.addresses == [f"unix:{tmp_path / 'admin.sock'}"]


async def test_socket_file(tmp_path):
    """Its mode is 0660 whatever the umask; it goes away with the listener."""
    path = tmp_path / "elsewhere.sock"
    before = os.umask(0)
    try:
        async with serving(node_config(tmp_path, admin={"socket": path})):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)
    assert not path.exists()


async def test_stale_socket(tmp_path):
    """What a dead process left is replaced."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(node_config(tmp_path)) as server:
        assert await status_of(server.addresses[1], "/livez") == 200


async def test_live_socket(tmp_path):
    """Another node with the same state directory is not pushed aside."""
    config = node_config(tmp_path)
    async with serving(config) as server:
        error = await refused(config)
        assert await status_of(server.addresses[1], "/livez") == 200
        assert (tmp_path / "admin.sock").exists()
    assert (error.setting, error.reason) == (
        "admin.socket",
        "another process answers there",
    )


async def test_crowded_socket(tmp_path):
    """One whose backlog is full is alive, too."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as other:
        live.bind(str(path))
        live.listen(0)
        other.connect(str(path))
        error = await refused(node_config(tmp_path))
    assert error.reason.startswith("is in use: ")


async def test_not_a_socket(tmp_path):
    """A file of somebody's is not removed."""
    (tmp_path / "admin.sock").write_text("precious")
    error = await refused(node_config(tmp_path))
    assert error.reason == "is there, and is no socket"
    assert (tmp_path / "admin.sock").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/admin.sock", "cannot listen: No such file or directory"),
        ("x" * 120, "cannot listen: AF_UNIX path too long"),
    ],
)
async def test_socket_that_cannot_be(tmp_path, name, reason):
    """Where the system says no, its reason is given."""
    error = await refused(node_config(tmp_path, admin={"socket": tmp_path / name}))
    assert (error.setting, error.reason) == ("admin.socket", reason)


async def test_port_in_use(tmp_path):
    """Nothing stays open, the Unix socket included."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        error = await refused(node_config(tmp_path, admin={"listen": [taken]}))
    assert (error.setting, error.value) == ("admin.listen", taken)
    assert error.reason == "cannot listen: Address already in use"
    assert error.hint == "stop the other server, or choose another port"
    assert not (tmp_path / "admin.sock").exists()


async def test_close_is_safe(tmp_path):
    """Before the start, and twice; a socket that took our place is left alone."""
    path = tmp_path / "admin.sock"
    async with built(node_config(tmp_path)) as node:
        server = AdminServer(node)
        await server.close()
        await server.start()
        path.unlink()
        path.write_text("somebody else's")
        await server.close()
        await server.close()
    assert path.exists()


async def test_node_refuses_to_start(tmp_path):
    """The node as a whole says what is wrong, and leaves nothing behind."""
    (tmp_path / "admin.sock").mkdir(parents=True)
    with pytest.raises(ExceptionGroup) as caught:
        async with running(node_config(tmp_path)):
            pass
    assert caught.group_contains(ConfigError, match=r"admin\.socket")
    assert Path(tmp_path / "admin.sock").is_dir()
