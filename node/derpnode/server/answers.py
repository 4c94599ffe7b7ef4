"""Answers of the public ports: what each path says, and how it looks on the wire.

Source of every status, header and body: protocol.md 2.5 and 2.9 to 2.14, observed
at derper itself.
"""

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus

from derpnode.document import Document
from derpnode.server.head import Request


Headers = tuple[tuple[str, str], ...]

MAP_PATHS = ("/derpmap/default", "/derpmap.json")
"""Where the region's map is. The first is where Tailscale's own is."""

_BROWSER: Headers = (
    ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
    (
        "Content-Security-Policy",
        "default-src 'self'; frame-ancestors 'none'; form-action 'self'; "
        "base-uri 'self'; block-all-mixed-content; object-src 'none'",
    ),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
)
_HTML = ("Content-Type", "text/html; charset=utf-8")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_JSON = ("Content-Type", "application/json")
_REVALIDATE = ("Cache-Control", "no-cache")
_MOST_IDEAL = 128  # characters of a node's name that are kept

_NO_STORE = (
    "Cache-Control",
    "no-cache, no-store, must-revalidate, no-transform, max-age=0",
)
_CHALLENGE = re.compile(r"[A-Za-z0-9.\-_:]{1,64}")

_HOME = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>DERP</title></head>
<body><h1>DERP</h1>
<p>This is a relay for <a href="https://tailscale.com/">Tailscale</a> clients.</p>
{status}</body></html>
"""
_DISABLED = "<p>Status: relaying is turned off here.</p>\n"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    close: bool = False
    """Whether the connection ends with it."""


@dataclass(frozen=True)
class Upgrade:
    """The connection speaks DERP from here on."""

    fast_start: bool
    ideal: str
    """Name of the node that the client would rather be on; empty: it is here."""


@dataclass(frozen=True)
class WebSocket:
    """The connection speaks DERP inside WebSocket messages from here on."""

    accept_key: str
    """The client's `Sec-WebSocket-Key`."""

    subprotocol: str | None
    """What is echoed; None where no token matched, and the connection ends."""


@dataclass(frozen=True)
class Site:
    """What a node's public ports say."""

    derp_enabled: bool = True
    home: str = "blank"
    """`blank`, `default`, or a URL."""

    bootstrap: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Addresses by published name; replaced as they are looked up."""

    derp_map: Callable[[], Document | None] | None = None
    """Gives the region's map, or nothing while none is known; None: not served."""


def text(status: int, line: str, *headers: tuple[str, str]) -> Answer:
    """Build a plain-text answer of one line."""
    nosniff = ("X-Content-Type-Options", "nosniff")
    return Answer(status, (_TEXT, nosniff, *headers), f"{line}\n".encode())


def relay_answer(site: Site, request: Request) -> Answer | Upgrade | WebSocket:
    """Answer a request on the relay's own port."""
    if request.method == "CONNECT":
        return replace(text(403, "CONNECT not enabled"), close=True)
    path = request.path
    page = _PAGES.get(path)
    if page is not None:
        return page(site, request)
    if _wants_map(site, request):
        return _derp_map(site, request)
    if path == "/debug" or path.startswith("/debug/"):
        return text(403, "debug access denied")
    return _redirect_to_clean(request) or _home(site)


def port80_answer(site: Site, request: Request) -> Answer:
    """Answer a request on the plain HTTP port beside a TLS one."""
    if request.path == "/generate_204":
        return _no_content(site, request)
    if _wants_map(site, request):
        return _derp_map(site, request)
    if request.target.startswith("/debug"):
        answer = relay_answer(site, request)
        return answer if isinstance(answer, Answer) else text(404, "not here")
    if request.method not in ("GET", "HEAD"):
        return text(400, "Use HTTPS")
    location = f"https://{request.header('host')}{request.target}"
    return Answer(302, (("Location", location),))


def _derp(site: Site, request: Request) -> Answer | Upgrade | WebSocket:
    if not site.derp_enabled:
        return text(404, "derp server disabled")
    upgrade = request.header("upgrade").lower()
    if upgrade == "websocket" and "derp" in request.header("sec-websocket-protocol"):
        return _websocket(request)
    if upgrade not in ("websocket", "derp"):
        # Early clients said WebSocket and spoke raw DERP, so that is served too.
        return text(426, "DERP requires connection upgrade")
    return Upgrade(
        fast_start=request.header("derp-fast-start") == "1",
        ideal=request.header("ideal-node")[:_MOST_IDEAL],
    )


def _websocket(request: Request) -> Answer | WebSocket:
    """Check a WebSocket handshake. Source: RFC 6455, 4.2.1."""
    if not request.http11 or not request.has_token("connection", "upgrade"):
        return text(
            426,
            "WebSocket needs HTTP/1.1 and Connection: Upgrade",
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
        )
    if request.method != "GET":
        return text(405, "WebSocket needs GET")
    if request.header("sec-websocket-version") != "13":
        return text(400, "WebSocket needs version 13", ("Sec-WebSocket-Version", "13"))
    keys = request.all("sec-websocket-key")
    if len(keys) != 1 or not re.fullmatch(r"[A-Za-z0-9+/]{22}==", keys[0].strip()):
        return text(400, "WebSocket needs one Sec-WebSocket-Key of 16 bytes")
    offered = ",".join(request.all("sec-websocket-protocol")).split(",")
    matching = (token.strip() for token in offered if token.strip().lower() == "derp")
    return WebSocket(keys[0].strip(), next(matching, None))


def _probe(_site: Site, request: Request) -> Answer:
    if request.method not in ("GET", "HEAD"):
        return text(405, "bogus probe method")
    return Answer(200, (("Access-Control-Allow-Origin", "*"),))


def _no_content(_site: Site, request: Request) -> Answer:
    """Answer a captive-portal check, echoing its challenge where it has one."""
    challenge = request.header("x-tailscale-challenge")
    if not _CHALLENGE.fullmatch(challenge):
        return Answer(204, (_NO_STORE,))
    return Answer(204, (_NO_STORE, ("X-Tailscale-Response", f"response {challenge}")))


def _bootstrap(site: Site, _request: Request) -> Answer:
    names = dict(site.bootstrap)
    body = json.dumps(names, indent="\t").encode() if names else b""
    return Answer(200, (*_BROWSER, _JSON), body, close=True)


def _wants_map(site: Site, request: Request) -> bool:
    return site.derp_map is not None and request.path in MAP_PATHS


def _derp_map(site: Site, request: Request) -> Answer:
    """Give the region's map, whole, or say in words that there is none.

    Never any other JSON object: headscale does not look at the status, and takes one
    for a map without regions.
    """
    if request.method not in ("GET", "HEAD"):
        return text(
            405, "the map can be read, and nothing else", ("Allow", "GET, HEAD")
        )
    found = site.derp_map() if site.derp_map is not None else None
    if found is None:
        return text(503, "no map is known yet", _REVALIDATE)
    headers = (("ETag", found.etag), _REVALIDATE)
    if found.is_known(request.header("if-none-match")):
        return Answer(304, headers)
    nosniff = ("X-Content-Type-Options", "nosniff")
    return Answer(200, (_JSON, nosniff, *headers), found.body)


def _robots(_site: Site, _request: Request) -> Answer:
    return Answer(200, (*_BROWSER, _TEXT), b"User-agent: *\nDisallow: /\n")


_PAGES: Mapping[str, Callable[[Site, Request], Answer | Upgrade | WebSocket]] = {
    "/derp": _derp,
    "/derp/probe": _probe,
    "/derp/latency-check": _probe,
    "/generate_204": _no_content,
    "/bootstrap-dns": _bootstrap,
    "/robots.txt": _robots,
}


def _redirect_to_clean(request: Request) -> Answer | None:
    """Send a client that asked for `//a/../b` to `/b`, as Go's router does."""
    path = request.path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/") and clean != "/":
        clean += "/"
    if clean == path:
        return None
    query = f"?{request.query}" if "?" in request.target else ""
    return Answer(307, (("Location", clean + query),))


def _home(site: Site) -> Answer:
    if site.home == "blank":
        return Answer(200, (*_BROWSER, _HTML))
    if site.home == "default":
        page = _HOME.format(status="" if site.derp_enabled else _DISABLED)
        return Answer(200, (*_BROWSER, _HTML), page.encode())
    return Answer(302, (*_BROWSER, ("Location", site.home)))


def render(request: Request | None, answer: Answer, now: float) -> bytes:
    """Write an answer as bytes.

    Args:
        request: What it answers; None for a request that could not be read.
        answer: What is said.
        now: Seconds since the epoch, for the Date header.
    """
    phrase = HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.1 {answer.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    lines.append(f"Date: {formatdate(now, usegmt=True)}")
    if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        lines.append(f"Content-Length: {len(answer.body)}")
    if not keeps_alive(request, answer):
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return (
        head if request is not None and request.method == "HEAD" else head + answer.body
    )


def keeps_alive(request: Request | None, answer: Answer) -> bool:
    """Whether another request may follow this answer."""
    if request is None or answer.close or not request.http11:
        return False
    return not request.has_token("connection", "close")
