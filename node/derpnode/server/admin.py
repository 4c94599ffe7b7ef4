"""The admin listener: health, metrics and what a node knows, on ports of its own.

It answers on a Unix socket and on loopback. Off loopback it takes TLS, and whatever
says more than health takes a token.
"""

import asyncio
import errno
import json
import logging
import socket
import ssl
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from derpnode.config import Address, parse_address
from derpnode.errors import ConfigError
from derpnode.server.adminaccess import Access, Door, Guard, answer, load_tls
from derpnode.server.adminbody import BadBody, read_body
from derpnode.server.admincommands import (
    BadCommand,
    RefusedCommand,
    confirm,
    drain,
    undrain,
)
from derpnode.server.clientquery import BadQuery, parse_query
from derpnode.server.debugclients import ClientList
from derpnode.server.eventspage import (
    BadQuestion,
    Ending,
    events_document,
    parse_question,
)
from derpnode.server.exposition import CONTENT_TYPE, exposition
from derpnode.server.facts import NodeFacts
from derpnode.server.meshkeycommand import mesh_key
from derpnode.server.metrics import EventLoopLag, make_registry
from derpnode.server.presencepage import presences
from derpnode.server.status import (
    Document,
    go_json,
    inconsistencies,
    node_document,
    status_document,
)


logger = logging.getLogger(__name__)
_http_logger = logging.getLogger(f"{__name__}.http")

KEEPALIVE: Final = 75.0
"""Seconds that a connection may wait between two requests."""

CLOSING: Final = 1.0
"""Seconds that requests under way have when the node stops."""

_SOCKET_MODE = 0o660
_LEAVING = ("draining", "drained")
_NANOSECONDS = 10**9
_HINTS = {
    errno.EADDRINUSE: "stop the other server, or choose another port",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
}

View = Callable[[web.BaseRequest], web.Response | Awaitable[web.Response]]
Command = Callable[[NodeFacts, Mapping[str, str]], Document]


class Page(NamedTuple):
    """What is at a path."""

    access: Access
    view: View
    """Answers at once; or, where it must wait for something, gives what to await."""

    method: str = "GET"


class AdminServer:
    """Serves what a node knows of itself, and takes what an operator commands.

    Args:
        facts: The node.
        clock: Seconds, monotonic; the one that the relay's clients are timed by.
    """

    def __init__(
        self, facts: NodeFacts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._facts = facts
        self._settings = facts.config.admin
        self._lag = EventLoopLag()
        self._registry = make_registry(facts, self._lag)
        # Fixed here: a cursor among times of connection must not move.
        started = round(facts.started_at.timestamp() * _NANOSECONDS)
        epoch = started - round((clock() - facts.uptime) * _NANOSECONDS)
        self._clients = ClientList(facts.relay, facts.plane, epoch=epoch, clock=clock)
        self._guard = Guard(self._settings)
        self._context: ssl.SSLContext | None = None
        self._runners: dict[Door, web.ServerRunner] = {}
        self._sockets: list[socket.socket] = []
        self._addresses: list[str] = []
        self._inode = 0  # of the Unix socket, while it is ours
        self.pages: dict[str, Page] = {
            "/livez": Page(Access.HEALTH, self._livez),
            "/readyz": Page(Access.HEALTH, self._readyz),
            "/metrics": Page(Access.METRICS, self._metrics),
            "/debug/varz": Page(Access.DETAILS, self._metrics),
            "/debug/check": Page(Access.DETAILS, self._check),
            "/debug/clients": Page(Access.DETAILS, _add_slash),
            "/debug/clients/": Page(Access.DETAILS, self._debug_clients),
            "/v1/node": Page(Access.DETAILS, self._node),
            "/v1/status": Page(Access.DETAILS, self._status),
            "/v1/clients": Page(Access.DETAILS, self._v1_clients),
            "/v1/links": Page(Access.DETAILS, self._links),
            "/v1/membership": Page(Access.DETAILS, self._membership),
            "/v1/presence": Page(Access.DETAILS, self._presence),
            "/v1/events": Page(Access.DETAILS, self._events),
            "/v1/drain": Page(Access.DETAILS, self._command(drain), "POST"),
            "/v1/undrain": Page(Access.DETAILS, self._command(undrain), "POST"),
            "/v1/region/confirm": Page(Access.DETAILS, self._command(confirm), "POST"),
            "/v1/mesh-key": Page(Access.DETAILS, self._mesh_key, "POST"),
        }
        """By path, exactly as it is asked for."""

    @property
    def addresses(self) -> list[str]:
        """URLs that it answers at: first `unix:/PATH`, then those of TCP."""
        return list(self._addresses)

    async def start(self) -> None:
        """Answer from now on.

        Raises:
            ConfigError: An address, the token or the certificate cannot be
                used. Nothing is left behind.
        """
        try:
            await self._open()
        except ConfigError:
            await self.close()
            raise
        self._lag.start()

    async def close(self) -> None:
        """Stop answering. May be called twice, and before `start`."""
        self._lag.stop()
        self._facts.journal.close()
        for runner in self._runners.values():
            await runner.cleanup()
        for sock in self._sockets:
            sock.close()
        path = self._facts.config.admin_socket
        with suppress(OSError):
            if self._inode and path.lstat().st_ino == self._inode:
                path.unlink()
        self._inode = 0
        self._runners.clear()
        self._sockets.clear()
        self._addresses.clear()

    def reload(self) -> None:
        """Read the token and the certificate again; those in use stay if it fails."""
        try:
            self._guard.load()
            if self._context is not None:
                load_tls(self._context, self._settings)
        except ConfigError as exc:
            logger.warning("admin: %s; what was in use stays", exc)

    # Opening.

    async def _open(self) -> None:
        self._guard.load()
        path = self._facts.config.admin_socket
        sock = self._keep(_listen_unix(path))
        self._inode = path.lstat().st_ino
        await self._serve(Door.SOCKET, sock, None)
        self._addresses.append(f"unix:{path.absolute()}")
        for text in self._settings.listen:
            await self._open_tcp(parse_address(text))

    async def _open_tcp(self, address: Address) -> None:
        door = Door.LOOPBACK if address.is_loopback else Door.NETWORK
        context = self._tls() if door is Door.NETWORK else None
        sock = self._keep(_listen_tcp(address))
        await self._serve(door, sock, context)
        # Where every address is listened on, the URL has the node's own name.
        anywhere = address.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared
        host = self._facts.config.node.host if anywhere else address.host
        scheme = "http" if context is None else "https"
        url = f"{scheme}://{Address(host, sock.getsockname()[1])}"
        self._addresses.append(url)
        logger.info("admin: listening on %s", url)

    def _tls(self) -> ssl.SSLContext:
        """Give the context of addresses off loopback; they share it."""
        if self._context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            load_tls(context, self._settings)
            self._context = context
        return self._context

    def _keep(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        return sock

    async def _serve(
        self, door: Door, sock: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        runner = self._runners.get(door)
        if runner is None:
            server = web.Server(
                partial(self._answer, door),
                request_factory=_make_request,
                access_log=None,
                logger=_http_logger,
                keepalive_timeout=KEEPALIVE,
                lingering_time=CLOSING,
            )
            runner = web.ServerRunner(server, shutdown_timeout=CLOSING)
            self._runners[door] = runner
            await runner.setup()
        await web.SockSite(runner, sock, ssl_context=context).start()

    # Answering.

    async def _answer(self, door: Door, request: web.BaseRequest) -> web.Response:
        page = self.pages.get(request.path)
        access = page.access if page is not None else Access.DETAILS
        refused = self._guard.refusal(door, access, request)
        if refused is not None:
            return refused
        if page is None:
            return answer(404, "not found")
        if request.method != page.method:
            refused = answer(405, f"only {page.method} is allowed")
            refused.headers["Allow"] = page.method
            return refused
        if page.method == "POST" and "Origin" in request.headers:
            return answer(403, "a page in a browser gives no commands here")
        found = page.view(request)
        return found if isinstance(found, web.Response) else await found

    def _livez(self, _: web.BaseRequest) -> web.Response:
        return answer(200, "ok")

    def _readyz(self, request: web.BaseRequest) -> web.Response:
        """Say whether it takes clients; asked so, whether it relays for those it has.

        A balancer must send nobody to a node that drains, and whoever restarts what
        is not well must let it drain.
        """
        state = self._facts.state
        if state == "serving":
            return answer(200, "ready")
        may_drain = request.query.get("draining") == "ok"
        if may_drain and state in _LEAVING and self._facts.readiness.well:
            return answer(200, state)
        return answer(503, "\n".join(self._facts.reasons))

    def _metrics(self, _: web.BaseRequest) -> web.Response:
        text = exposition(self._registry.collect())
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _check(self, _: web.BaseRequest) -> web.Response:
        """Answer as derper does, but for duplicates, which are no fault here."""
        problems = ", ".join(inconsistencies(self._facts.relay))
        if problems:
            return answer(500, problems)
        return web.Response(text="derp.Server ConsistencyCheck okay")

    def _node(self, _: web.BaseRequest) -> web.Response:
        return _json(node_document(self._facts))

    def _status(self, _: web.BaseRequest) -> web.Response:
        return _json(status_document(self._facts))

    def _links(self, _: web.BaseRequest) -> web.Response:
        return _json({"items": self._facts.region.links()})

    def _membership(self, _: web.BaseRequest) -> web.Response:
        return _json(self._facts.region.membership())

    async def _presence(self, _: web.BaseRequest) -> web.Response:
        """Answer off the loop: there may be a hundred thousand keys."""
        text = await asyncio.to_thread(presences(self._facts).json)
        return web.Response(text=text, content_type="application/json")

    async def _events(self, request: web.BaseRequest) -> web.Response:
        try:
            question = parse_question(request.rel_url.query)
            return _json(await events_document(self._facts.journal, question))
        except BadQuestion as exc:
            return answer(400, str(exc))
        except Ending as exc:
            return answer(503, str(exc))

    def _command(self, command: Command) -> View:
        """Make a page of what changes the node."""

        def view(request: web.BaseRequest) -> web.Response:
            try:
                done = command(self._facts, request.rel_url.query)
            except BadCommand as exc:
                return answer(400, str(exc))
            except RefusedCommand as exc:
                return answer(409, str(exc))
            return _json(done)

        return view

    async def _mesh_key(self, request: web.BaseRequest) -> web.Response:
        try:
            done = await mesh_key(self._facts, await read_body(request))
        except BadBody as exc:
            return answer(exc.status, str(exc))
        except BadCommand as exc:
            return answer(400, str(exc))
        except RefusedCommand as exc:
            return answer(409, str(exc))
        return _json(done)

    def _debug_clients(self, request: web.BaseRequest) -> web.Response:
        return self._list_clients(request.rel_url.raw_query_string)

    def _v1_clients(self, request: web.BaseRequest) -> web.Response:
        """The same as `/debug/clients/`, but without a filter it lists them all."""
        return self._list_clients(request.rel_url.raw_query_string, default="all=1")

    def _list_clients(self, text: str, default: str = "") -> web.Response:
        try:
            now = self._clients.now
            query = parse_query(text, now) or parse_query(f"{default}&{text}", now)
        except BadQuery as exc:
            return answer(400, str(exc))
        if query is None:
            return _go_json(self._clients.summary(), indent=False)
        return _go_json(self._clients.page(query), indent=True)


def _add_slash(request: web.BaseRequest) -> web.Response:
    """Send a client to the path with a slash, as Go's router does."""
    query = request.rel_url.raw_query_string
    moved = answer(307, "see /debug/clients/")
    moved.headers["Location"] = f"/debug/clients/{'?' if query else ''}{query}"
    return moved


def _json(document: Document) -> web.Response:
    text = json.dumps(document, ensure_ascii=False)
    return web.Response(text=f"{text}\n", content_type="application/json")


def _go_json(document: Document, *, indent: bool) -> web.Response:
    body = go_json(document, indent=indent).encode()
    return web.Response(body=body, content_type="application/json")


# How aiohttp is told to keep quiet.


class _Request(web.BaseRequest):
    """A request whose answer, whoever makes it, bears no banner."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall("Server", None)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return _Request(message, payload, protocol, writer, task, loop)


def _is_ours(record: logging.LogRecord) -> bool:
    """Drop what aiohttp would log, as an error of ours, when a peer's HTTP is bad."""
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, HttpProcessingError)


_http_logger.addFilter(_is_ours)


# Sockets.


def _listen_tcp(address: Address) -> socket.socket:
    """Listen; an empty host is every address of both families.

    Raises:
        ConfigError: The address cannot be bound.
    """
    anywhere = address.host == ""
    v6 = anywhere or ":" in address.host
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not anywhere)
        sock.bind((address.host, address.port))
        sock.listen()
    except OSError as exc:
        sock.close()
        hint = _HINTS.get(exc.errno or 0, "choose another address")
        reason = f"cannot listen: {exc.strerror}"
        raise ConfigError("admin.listen", str(address), reason, hint) from exc
    return sock


def _listen_unix(path: Path) -> socket.socket:
    """Listen at a path, in place of a socket that nobody listens on any more.

    Raises:
        ConfigError: It cannot be bound, or something else is there.
    """
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(_SOCKET_MODE)  # nobody can connect before it listens
        sock.listen()
    except OSError as exc:
        sock.close()
        hint = "set admin.socket to a short path that derpd may write"
        raise _socket_error(
            path, f"cannot listen: {exc.strerror or exc}", hint
        ) from exc
    return sock


def _clear(path: Path) -> None:
    """Remove the socket of a process that has ended."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return  # binding it says what is wrong, if anything is
    if not is_socket:
        hint = "move it away, or set admin.socket"
        raise _socket_error(path, "is there, and is no socket", hint)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CLOSING)
            probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except OSError as exc:
        hint = "stop what listens there, or set admin.socket"
        raise _socket_error(path, f"is in use: {exc.strerror or exc}", hint) from exc
    hint = "stop it, or give this node a state_dir of its own"
    raise _socket_error(path, "another process answers there", hint)


def _socket_error(path: Path, reason: str, hint: str) -> ConfigError:
    return ConfigError("admin.socket", str(path), reason, hint)
