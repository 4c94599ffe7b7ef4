"""C13 to C18: what the public ports say in HTTP."""

import asyncio
import json

import pytest

from derpnode.wire.handshake import server_key_frame
from tests.conformance.scene import (
    FAST_START,
    UPGRADE,
    Answer,
    Place,
    http,
    read_answer,
)


OURS = pytest.mark.parametrize("server", ["ours"])

# protocol.md 2.11
BROWSER = {
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'; block-all-mixed-content; object-src 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
}
TEXT = {
    "content-type": "text/plain; charset=utf-8",
    "x-content-type-options": "nosniff",
}
CORS = {"access-control-allow-origin": "*"}
NO_STORE = {
    "cache-control": "no-cache, no-store, must-revalidate, no-transform, max-age=0"
}


def holds(answer: Answer, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Check an answer; of headers, those that are named, and what is always so."""
    assert (answer.status, answer.body) == (status, body)
    assert {name: answer.headers.get(name) for name in headers} == headers
    assert "date" in answer.headers
    assert "server" not in answer.headers


PAGES = [
    ("GET", "/derp", 426, b"DERP requires connection upgrade\n", TEXT),
    ("POST", "/derp?x=1", 426, b"DERP requires connection upgrade\n", TEXT),
    ("GET", "/derp/probe", 200, b"", CORS),
    ("GET", "/derp/latency-check", 200, b"", CORS),
    ("HEAD", "/derp/latency-check", 200, b"", CORS),
    ("GET", "/derp/probe?x", 200, b"", CORS),
    ("POST", "/derp/probe", 405, b"bogus probe method\n", TEXT),
    ("OPTIONS", "/derp/latency-check", 405, b"bogus probe method\n", TEXT),
    ("GET", "/generate_204", 204, b"", NO_STORE),
    ("DELETE", "/generate_204", 204, b"", NO_STORE),
    ("GET", "/bootstrap-dns", 200, b"", BROWSER),
    ("GET", "/", 200, b"", BROWSER),
    ("HEAD", "/", 200, b"", BROWSER),
    ("GET", "/favicon.ico", 200, b"", BROWSER),
    ("GET", "/derp/", 200, b"", BROWSER),
    ("GET", "/derp/xyz", 200, b"", BROWSER),
    ("PUT", "/whatever?a=b", 200, b"", BROWSER),
    ("GET", "/debugfoo", 200, b"", BROWSER),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "headers"),
    PAGES,
    ids=[f"{method} {path}" for method, path, *_ in PAGES],
)
async def test_c13_pages(place: Place, method, path, status, body, headers):
    """Statuses, bodies and headers of protocol.md 2.5."""
    answer = await place.ask(http(method, path))
    holds(answer, status, body, headers)


@pytest.mark.parametrize("path", ["/derp", "/derp/probe", "/generate_204"])
async def test_c13_pages_for_machines_have_no_browser_headers(place: Place, path):
    """Source: protocol.md 2.11."""
    answer = await place.ask(http("GET", path))
    assert not answer.headers.keys() & (BROWSER.keys() - TEXT.keys())


async def test_c13_a_refusal_says_nothing_of_origins(place: Place):
    """The header is on the good answer alone."""
    answer = await place.ask(http("POST", "/derp/probe"))
    assert "access-control-allow-origin" not in answer.headers


async def test_c13_robots(place: Place):
    """Robots are sent away. Source: protocol.md 2.5."""
    answer = await place.ask(http("GET", "/robots.txt"))
    assert answer.status == 200
    assert answer.body.split() == [b"User-agent:", b"*", b"Disallow:", b"/"]


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//derp", "/derp"),
        ("/a/../derp", "/derp"),
        ("/./derp/probe?x=1", "/derp/probe?x=1"),
        ("/derp//", "/derp/"),
    ],
)
async def test_c13_unclean_paths_are_sent_to_clean_ones(place: Place, path, clean):
    """With 307, as Go's router does it."""
    answer = await place.ask(http("GET", path))
    assert (answer.status, answer.headers["location"]) == (307, clean)


async def test_c13_a_probe_with_an_upgrade_is_a_probe(place: Place):
    """Nothing is upgraded there."""
    request = UPGRADE.replace(b"/derp", b"/derp/probe")
    holds(await place.ask(request), 200, b"", CORS)


@pytest.mark.parametrize("upgrade", ["", "h2c", "derpy", "derp, x"])
async def test_c13_unknown_upgrades(place: Place, upgrade):
    """426, and the connection goes on."""
    answer = await place.ask(http("GET", "/derp", f"Upgrade: {upgrade}"))
    assert answer.status == 426


async def test_c13_connect_is_refused(place: Place):
    """Nobody is proxied, and the connection ends. Source: changes-1.104.md 6."""
    peer = await place.dial()
    await peer.say(b"CONNECT a.tailscale.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    holds(await read_answer(peer), 403, b"CONNECT not enabled\n", TEXT)
    assert await peer.rest() == b""


async def test_c13_many_requests_on_one_connection(place: Place):
    """One after the other, then pipelined, then an upgrade."""
    peer = await place.dial()
    for _ in range(500):
        await peer.say(http("GET", "/derp/probe"))
        holds(await read_answer(peer), 200, b"", CORS)
    await peer.say(http("GET", "/generate_204") * 500, UPGRADE)
    for _ in range(500):
        holds(await read_answer(peer), 204, b"", NO_STORE)
    assert await peer.head() == place.switching
    assert await peer.take(45) == server_key_frame(place.server_key)


async def test_c13_the_connection_ends_when_asked_to(place: Place):
    """After the answer, which says so."""
    peer = await place.dial()
    await peer.say(http("GET", "/derp/probe", "Connection: close"))
    answer = await read_answer(peer)
    assert answer.headers["connection"] == "close"
    assert await peer.rest() == b""


async def test_c13_without_derp(start):
    """A STUN-only node still answers probes. Source: protocol.md 2.5."""
    _, place = await start("derp.enabled=false")
    holds(await place.ask(UPGRADE), 404, b"derp server disabled\n", TEXT)
    holds(await place.ask(http("GET", "/derp/probe")), 200, b"", CORS)
    holds(await place.ask(http("GET", "/generate_204")), 204, b"", NO_STORE)


async def test_c13_home_pages(start):
    """A page, or a redirect. Source: protocol.md 2.5."""
    _, place = await start("derp.home=default")
    answer = await place.ask(http("GET", "/"))
    assert b"<h1>DERP</h1>" in answer.body
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    _, place = await start("derp.home=https://example.com/x")
    answer = await place.ask(http("GET", "/"))
    assert (answer.status, answer.headers["location"]) == (302, "https://example.com/x")


async def test_c13_published_names(start):
    """Their addresses by name, tab-indented, and the connection ends."""
    _, place = await start("bootstrap_dns.names=[localhost]")
    answer = await place.ask(http("GET", "/bootstrap-dns?q=localhost"))
    assert "127.0.0.1" in json.loads(answer.body)["localhost"]
    assert answer.body.startswith(b'{\n\t"localhost": [\n\t\t"')
    holds(answer, 200, answer.body, BROWSER | {"connection": "close"})
    assert answer.headers["content-type"] == "application/json"


CHALLENGES = [
    ("ts_127.0.0.1", True),
    ("aZ09.-_:", True),
    ("x" * 64, True),
    ("x" * 65, False),
    ("a b", False),
    ("a/b", False),
    ("[::1]", False),
    ("\u00e9", False),
    ("", False),
]


@pytest.mark.parametrize("port", ["derp", "http"])
@pytest.mark.parametrize(("challenge", "answered"), CHALLENGES)
async def test_c14_challenges(place: Place, port, challenge, answered):
    """Echoed if they are harmless, on both ports. Source: protocol.md 2.14."""
    request = http("GET", "/generate_204", f"X-Tailscale-Challenge: {challenge}")
    answer = await place.ask(request, port=place.http_port if port == "http" else 0)
    holds(answer, 204, b"", NO_STORE)
    expected = f"response {challenge}" if answered else None
    assert answer.headers.get("x-tailscale-response") == expected


@pytest.mark.parametrize("target", ["/derp", "/", "/a/b?c=d", "/derp/probe"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_c15_port_80_sends_to_https(place: Place, method, target):
    """Host and target stay as they came. Source: protocol.md 2.9."""
    request = f"{method} {target} HTTP/1.1\r\nHost: relay.example:8080\r\n\r\n"
    answer = await place.ask(request.encode(), port=place.http_port)
    expected = f"https://relay.example:8080{target}"
    if target == "/" and answer.headers["location"].endswith("/debug/"):
        expected += "debug/"  # derper's, for whoever may see its debug pages
    assert (answer.status, answer.headers["location"]) == (302, expected)


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
async def test_c15_port_80_takes_no_other_methods(place: Place, method):
    """Source: protocol.md 2.9."""
    answer = await place.ask(http(method, "/derp"), port=place.http_port)
    assert (answer.status, answer.body) == (400, b"Use HTTPS\n")


async def test_c15_port_80_relays_nothing(place: Place):
    """An upgrade there is sent to the other port like everything else."""
    answer = await place.ask(UPGRADE, port=place.http_port)
    assert answer.status == 302


async def test_c15_port_80_shows_the_home_page_for_what_looks_like_debug(place: Place):
    """Not a debug page, but it begins like one. Source: protocol.md 2.9."""
    answer = await place.ask(http("GET", "/debugfoo"), port=place.http_port)
    assert answer.status == 200


@pytest.mark.parametrize("port", ["derp", "http"])
@pytest.mark.parametrize("path", ["/debug/", "/debug/varz", "/debug/clients/"])
async def test_c16_debug_is_denied_behind_a_proxy(place: Place, port, path):
    """Whoever comes through a proxy is a stranger. Source: protocol.md 2.10."""
    request = http("GET", path, "X-Forwarded-For: 127.0.0.1")
    answer = await place.ask(request, port=place.http_port if port == "http" else 0)
    assert (answer.status, answer.body) == (403, b"debug access denied\n")


@OURS
@pytest.mark.parametrize("port", ["derp", "http"])
@pytest.mark.parametrize("path", ["/debug", "/debug/", "/debug/varz", "/debug/x"])
async def test_c16_debug_is_denied_to_everybody(place: Place, port, path):
    """Unlike derper, also to loopback: these pages live on the admin listener."""
    answer = await place.ask(
        http("GET", path), port=place.http_port if port == "http" else 0
    )
    assert (answer.status, answer.body) == (403, b"debug access denied\n")


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: derp",),
        ("Upgrade: DERP",),
        ("Upgrade: DeRp", "Connection: keep-alive"),
        ("Upgrade: websocket",),
        ("Upgrade: WebSocket", "Sec-WebSocket-Protocol: DERP"),
        ("Upgrade: websocket", "Sec-WebSocket-Protocol: chat"),
        ("Upgrade: derp", "Upgrade: h2c"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_c17_upgrades_to_raw_derp(place: Place, method, headers):
    """Early clients said WebSocket and spoke raw DERP. Source: protocol.md 2.6."""
    peer = await place.dial()
    await peer.say(http(method, "/derp?any=query", *headers))
    assert await peer.head() == place.switching
    assert await peer.take(45) == server_key_frame(place.server_key)


async def test_c18_http_1_0_and_no_connection_header(place: Place):
    """Neither is needed for an upgrade."""
    peer = await place.dial()
    await peer.say(b"GET /derp HTTP/1.0\r\nUpgrade: DERP\r\n\r\n")
    assert await peer.head() == place.switching


async def test_c18_http_1_1_needs_a_host(place: Place):
    """400, and the connection ends."""
    peer = await place.dial()
    await peer.say(b"GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n")
    assert (await peer.head()).startswith(b"HTTP/1.1 400 ")
    await peer.rest()


async def test_c18_an_answer_over_http_1_0_ends_the_connection(place: Place):
    """Nothing else was asked for."""
    peer = await place.dial()
    await peer.say(b"GET /derp/probe HTTP/1.0\r\n\r\n")
    await peer.head()
    assert await peer.rest() == b""


async def test_c18_fast_start_over_http_1_0(place: Place):
    """The header counts, whatever the version."""
    peer = await place.dial()
    await peer.say(FAST_START.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert await peer.take(45) == server_key_frame(place.server_key)


@OURS
async def test_c18_more_header_lines_than_we_take(place: Place):
    """Go says 431 above 500 values; we do above 64 lines."""
    peer = await place.dial()
    await peer.say(http("GET", "/derp", *(f"X-{n}: 1" for n in range(70))))
    assert (await read_answer(peer)).status == 431
    assert await asyncio.wait_for(peer.rest(), 5) == b""


# S6: what is for operators is on other ports.

ADMIN = [
    *("/livez", "/readyz", "/metrics", "/v1", "/v1/", "/healthz", "/status"),
    *(f"/v1/{name}" for name in ("node", "status", "clients", "links", "drain")),
    *(f"/debug/{name}" for name in ("", "varz", "vars", "check", "clients/", "gc")),
    *(f"/debug/pprof/{name}" for name in ("", "heap", "profile", "cmdline")),
    *("/debug", "/admin", "/.env", "/server-status", "/api/v1/query", "/key"),
]


@OURS
@pytest.mark.parametrize("port", ["derp", "http"])
async def test_s6_no_admin_page_on_a_public_port(place: Place, port):
    """By whatever path, method or disguise."""
    number = place.http_port if port == "http" else place.derp_port
    peer = await place.dial(port=number, plain=port == "http")
    paths = [disguised(path) for path in ADMIN for disguised in DISGUISES]
    for method, path in [(m, p) for p in paths for m in ("GET", "POST")]:
        await peer.say(http(method, path, "X-Forwarded-For: 127.0.0.1"))
        answer = await read_answer(peer)
        assert answer.body in {b"", b"debug access denied\n", b"Use HTTPS\n"}
        assert answer.status in {200, 302, 307, 400, 403}


DISGUISES = (
    str,
    lambda path: f"/{path}",
    lambda path: f"/derp/..{path}",
    lambda path: f"{path}?format=json&debugkey=x",
)
