"""What each path says. Against derper itself: tests/conformance/test_http.py."""

import pytest

from derpnode.document import Document
from derpnode.server.answers import (
    Answer,
    Site,
    Upgrade,
    WebSocket,
    keeps_alive,
    port80_answer,
    relay_answer,
    render,
    text,
)
from derpnode.server.head import Request


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(path: str = "/", method: str = "GET", *, http11=True, **headers) -> Request:
    """Make a request; `_` in a name stands for `-`."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(method, path, (("host", "x"), *pairs), http11)


def asked(path: str, site: Site | None = None, **options):
    """Ask at the relay's port."""
    return relay_answer(site or Site(), request(path, **options))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Upgrade(fast_start=False, ideal="")),
        ({"derp_fast_start": "1"}, Upgrade(fast_start=True, ideal="")),
        ({"derp_fast_start": "01"}, Upgrade(fast_start=False, ideal="")),
        ({"ideal_node": "900b"}, Upgrade(fast_start=False, ideal="900b")),
        ({"ideal_node": ""}, Upgrade(fast_start=False, ideal="")),
    ],
)
def test_upgrades(headers, expected):
    """What a client says on its way in."""
    assert asked("/derp", upgrade="DERP", **headers) == expected


WEBSOCKET = {
    "upgrade": "WebSocket",
    "connection": "Upgrade",
    "sec_websocket_version": "13",
    "sec_websocket_key": KEY,
    "sec_websocket_protocol": "derp",
}


def test_a_websocket():
    """Its key and its subprotocol."""
    assert asked("/derp", **WEBSOCKET) == WebSocket(KEY, "derp")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"connection": "close"}, 426),
        ({"http11": False}, 426),
        ({"method": "PUT"}, 405),
        ({"sec_websocket_version": "8"}, 400),
        ({"sec_websocket_key": "short"}, 400),
        ({"sec_websocket_key": KEY[:-1]}, 400),
        ({"sec_websocket_key": KEY[:-2] + "A="}, 400),
    ],
)
def test_bad_websockets(change, status):
    """RFC 6455, 4.2.1."""
    assert asked("/derp", **(WEBSOCKET | change)).status == status


def test_a_websocket_with_two_keys():
    """Nobody knows which one counts."""
    twice = request("/derp", **WEBSOCKET)
    twice = Request("GET", "/derp", (*twice.headers, ("sec-websocket-key", KEY)), True)
    assert relay_answer(Site(), twice).status == 400


@pytest.mark.parametrize("offered", ["derpx", "xderp"])
def test_no_subprotocol_that_we_speak(offered):
    """The name is in it, but no token is the name."""
    websocket = asked("/derp", **(WEBSOCKET | {"sec_websocket_protocol": offered}))
    assert websocket == WebSocket(KEY, None)


def test_derp_turned_off():
    """Probes go on; the page says so."""
    site = Site(derp_enabled=False, home="default")
    assert asked("/derp", site, upgrade="DERP").status == 404
    assert asked("/derp/probe", site).status == 200
    assert b"turned off" in asked("/", site).body
    assert b"turned off" not in asked("/", Site(home="default")).body


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//", "/"),
        ("/a//b", "/a/b"),
        ("/a/./b/", "/a/b/"),
        ("/../..", "/"),
        ("/a/../../b?c=//d", "/b?c=//d"),
        ("//evil.example/x", "/evil.example/x"),
        ("/.", "/"),
        ("/a/..?", "/?"),
    ],
)
def test_unclean_paths(path, clean):
    """Never to another host."""
    answer = asked(path)
    assert (answer.status, dict(answer.headers)["Location"]) == (307, clean)


def test_published_names():
    """An object, in Go's indentation; nothing where there is none."""
    site = Site(bootstrap={"a.example": ["192.0.2.1"]})
    assert asked("/bootstrap-dns", site).body == (
        b'{\n\t"a.example": [\n\t\t"192.0.2.1"\n\t]\n}'
    )
    assert asked("/bootstrap-dns").body == b""


def test_port_80_never_upgrades():
    """Not even by the way of a debug path."""
    for path in ("/derp", "/debug/../derp", "/debug"):
        answer = port80_answer(Site(), request(path, upgrade="DERP"))
        assert isinstance(answer, Answer)
        assert answer.status in {302, 403}


def test_port_80_without_a_host():
    """HTTP/1.0 has none; the redirect is as odd as the request."""
    answer = port80_answer(Site(), Request("GET", "/x", (), http11=False))
    assert dict(answer.headers)["Location"] == "https:///x"


@pytest.mark.parametrize(
    ("asked_by", "answer", "expected"),
    [
        (request(), Answer(200), True),
        (request(), Answer(200, close=True), False),
        (request(http11=False), Answer(200), False),
        (request(connection="close"), Answer(200), False),
        (request(connection="keep-alive, Close"), Answer(200), False),
        (None, Answer(400), False),
    ],
)
def test_keep_alive(asked_by, answer, expected):
    """Until somebody wants an end."""
    assert keeps_alive(asked_by, answer) == expected


def test_an_answer_as_bytes():
    """With a date and a length, and no word of who we are."""
    assert render(request(), text(404, "no"), 0.0) == (
        b"HTTP/1.1 404 Not Found\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Length: 3\r\n\r\n"
        b"no\n"
    )


def test_answers_without_a_body():
    """HEAD has the length of what it does not send; 204 has none."""
    head = render(request(method="HEAD"), Answer(200, body=b"page"), 0.0)
    assert head.endswith(b"Content-Length: 4\r\n\r\n")
    assert b"Content-Length" not in render(request(), Answer(204), 0.0)


def test_an_answer_to_nobody():
    """What could not be read is answered, and ends."""
    assert b"Connection: close\r\n" in render(None, text(400, "no"), 0.0)


def test_pages_of_the_home():
    """Blank, ours, or somebody else's."""
    assert asked("/").body == b""
    assert b"<h1>DERP</h1>" in asked("/", Site(home="default")).body
    redirect = asked("/x", Site(home="https://example.com/"))
    assert ("Location", "https://example.com/") in redirect.headers


def test_a_challenge_cannot_add_a_line():
    """Only harmless characters are echoed."""
    for challenge in ("a\r\nX: y", "a\n", "\u0660"):
        answer = asked("/generate_204", x_tailscale_challenge=challenge)
        assert len(answer.headers) == 1


MAP = Document.of(b'{"Regions": {}}\n')
EVERYWHERE = [relay_answer, port80_answer]


def serving(found):
    """A site that serves what it has of a map."""
    return Site(derp_map=lambda: found)


@pytest.mark.parametrize("answer", EVERYWHERE)
@pytest.mark.parametrize("path", ["/derpmap/default", "/derpmap.json"])
def test_the_map(answer, path):
    """Both paths, on TLS and beside it, give it whole, with the name of its content."""
    said = answer(serving(MAP), request(path))
    assert (said.status, said.body) == (200, MAP.body)
    headers = dict(said.headers)
    assert headers["Content-Type"] == "application/json"
    assert headers["ETag"] == MAP.etag
    assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("answer", EVERYWHERE)
def test_a_map_that_is_known(answer):
    """It is not sent again, and the answer has no body and no length."""
    asks = request("/derpmap/default", if_none_match=MAP.etag)
    said = answer(serving(MAP), asks)
    assert (said.status, said.body) == (304, b"")
    head = render(asks, said, 0.0).decode()
    assert head.startswith("HTTP/1.1 304 Not Modified\r\n")
    assert f"\r\nETag: {MAP.etag}\r\n" in head
    assert "Content-Length" not in head


@pytest.mark.parametrize("answer", EVERYWHERE)
def test_no_map(answer):
    """In words, not in JSON: headscale would take that for an empty map."""
    said = answer(serving(None), request("/derpmap/default"))
    assert (said.status, said.body) == (503, b"no map is known yet\n")
    assert dict(said.headers)["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("answer", EVERYWHERE)
def test_the_map_can_only_be_read(answer):
    """Whatever else is asked of it."""
    said = answer(serving(MAP), request("/derpmap/default", "PUT"))
    assert said.status == 405
    assert dict(said.headers)["Allow"] == "GET, HEAD"


def test_a_map_that_is_not_served():
    """Unless an operator says so, the paths are like any that is not there."""
    assert asked("/derpmap/default") == asked("/")
    said = port80_answer(Site(), request("/derpmap/default"))
    assert said.status == 302
