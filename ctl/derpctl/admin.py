"""Asks the admin listener of a node: who it is, and how it fares."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.resolver import Resolver
from derpnode.client.errors import reason_of


_MAX_BODY = 4 * 1024 * 1024
_OK = 200
_DENIED = (401, 403)
_REFUSED = 409
_BROKEN = 500
_STOPPING = 503


@dataclass(eq=False)
class AdminFailed(Exception):
    """A node's admin listener gave no usable answer."""

    url: str
    """Which listener."""
    reason: str
    """Why."""
    hint: str
    """What to do about it."""
    dead: bool = False
    """Whether nobody listens there, as far as this machine can tell."""

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}; {self.hint}"


@dataclass(eq=False)
class CommandRefused(Exception):
    """A node does not do what it was told to, because it would do harm."""

    reason: str
    """What harm, in the node's own words."""

    def __str__(self) -> str:
        return self.reason


class _View(BaseModel):
    """Newer nodes say more, older ones less."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, use_attribute_docstrings=True
    )


class RegionView(_View):
    """The region that a node is in, with all that is recorded of it."""

    model_config = ConfigDict(extra="allow")

    id: int
    code: str = ""
    name: str = ""


class CertificateView(_View):
    """The certificate of the public port."""

    mode: str = ""
    not_after: str | None = None
    """RFC 3339."""
    pin: str | None = None
    """`sha256-raw:…`, where clients pin it."""


class MeshKeysView(_View):
    """The mesh keys of a node, by their fingerprints."""

    current: str
    """What its links prove."""
    next: str | None = None
    """What they will prove; it is taken already."""
    previous: str | None = None
    """What they proved before; it is still taken."""


class NodeView(_View):
    """What a node says of itself: `/v1/node`."""

    name: str
    region: RegionView
    version: str = ""
    server_key: str = ""
    """`nodekey:…`."""
    started_at: str | None = None
    uptime: float = 0.0
    """Seconds."""
    state: str = ""
    """`starting`, `serving`, `unready`, `draining` or `drained`."""
    ready: bool = False
    reasons: Sequence[str] = ()
    """Why it is not serving."""
    notes: Sequence[str] = ()
    """What an operator should look at, though it serves."""
    map_entry: Mapping[str, object] = {}
    """Its DERPNode."""
    certificate: CertificateView | None = None
    listeners: Mapping[str, Sequence[str]] = {}
    """Addresses by kind: `derp`, `http`, `stun`, `admin`."""
    plane: str = ""
    mesh_keys: MeshKeysView | None = None
    """None for a node without a mesh key, and for older ones."""


class ClientsView(_View):
    """How many clients a node has."""

    connections: int = 0
    keys: int = 0
    home: int = 0
    not_ideal: int = 0
    duplicate_keys: int = 0
    mesh: int = 0
    watchers: int = 0

    @property
    def reconnecting(self) -> int:
        """Connections that a new map ends: those of clients, not of other nodes."""
        return max(self.connections - self.mesh, 0)


class TrafficView(_View):
    """What a node has relayed since its start."""

    packets_received: int = 0
    packets_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    forwarded_in: int = 0
    forwarded_out: int = 0
    dropped: Mapping[str, int] = {}
    """Packets by reason."""


class AcceptsView(_View):
    """How many connections a node has let in."""

    accepted: int = 0
    refused: Mapping[str, int] = {}


class StatusView(_View):
    """How a node fares: `/v1/status`."""

    node: NodeView
    clients: ClientsView = ClientsView()
    traffic: TrafficView = TrafficView()
    stun: Mapping[str, int] | None = None
    accepts: AcceptsView = AcceptsView()


class LinkView(_View):
    """One link of a node to another: `/v1/links`."""

    peer: str
    """Name of the member, or URL of a static peer."""
    state: str
    """`waiting`, `connecting`, `up` or `self`."""
    since: float = 0.0
    """Seconds that it has been so."""
    keys: int = 0
    """Clients that the peer announces."""
    round_trip: float | None = None
    """Seconds of the last ping."""
    forwarded_packets: int = 0
    forwarded_bytes: int = 0
    error: str = ""
    """Why it was lost or could not be had, the last time."""
    peer_state: str = ""
    peer_version: str = ""
    is_member: bool = True
    mesh_key: str = ""
    """Fingerprint of the key that it was dialled with, the last time."""
    renewing: bool = False
    """Whether it is to be, or is being, dialled again with another mesh key."""


class LinksView(_View):
    """The links of a node."""

    items: Sequence[LinkView] = ()


class MemberView(_View):
    """A member of the region, with all that is recorded of it."""

    model_config = ConfigDict(extra="allow")

    name: str
    admin: str | None = None


class LiveView(_View):
    """What a member says of itself in the registry."""

    state: str = ""
    version: str = ""
    admin: str | None = None


class LiveStatusView(_View):
    """How a member fares, as it says in the registry now and then."""

    clients: int = 0
    links: Mapping[str, str] = {}
    """State of its link to each other node."""


class MembershipView(_View):
    """The region as a node knows it: `/v1/membership`."""

    source: str = ""
    """`none`, `file`, `etcd` or `snapshot`."""
    revision: int | None = None
    region: RegionView | None = None
    members: Sequence[MemberView] = ()
    """In the order of the map."""
    live: Mapping[str, LiveView] = {}
    """By name; only where nodes record themselves."""
    status: Mapping[str, LiveStatusView] = {}
    """Likewise."""
    held: Sequence[str] = ()
    drains: Sequence[str] = ()
    struck: Sequence[str] = ()
    """Names that an operator took out."""


class ConfirmView(_View):
    """What a node let go."""

    name: str
    let_go: Sequence[str] = ()


class MeshKeyView(_View):
    """What a node says to a step of replacing the mesh key."""

    name: str
    mesh_keys: MeshKeysView


class CommandView(_View):
    """What a node says to a command."""

    name: str
    state: str


_Document = TypeVar("_Document", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Admin:
    """One admin listener."""

    url: str
    """`http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`."""
    timeout: float
    """Seconds that an answer may take."""
    token: str | None = None
    ca_file: Path | None = None
    most: int = _MAX_BODY
    """Bytes of an answer that are read."""

    async def node(self) -> NodeView:
        """Ask who the node is.

        Raises:
            AdminFailed: No usable answer.
        """
        return await self._document("/v1/node", NodeView)

    async def status(self) -> StatusView:
        """Ask how it fares.

        Raises:
            AdminFailed: No usable answer.
        """
        return await self._document("/v1/status", StatusView)

    async def links(self) -> Sequence[LinkView]:
        """Ask for the links to other nodes.

        Raises:
            AdminFailed: No usable answer.
        """
        return (await self._document("/v1/links", LinksView)).items

    async def membership(self) -> MembershipView:
        """Ask how it knows the region.

        Raises:
            AdminFailed: No usable answer.
        """
        return await self._document("/v1/membership", MembershipView)

    async def is_ready(self) -> tuple[bool, str]:
        """Ask whether it serves clients; if not, the text says why.

        Raises:
            AdminFailed: No answer.
        """
        status, body = await self._ask("/readyz")
        return status == _OK, " ".join(body.decode("utf-8", "replace").split())

    async def drain(self, *, grace: float | None, force: bool) -> CommandView:
        """Have it send its clients elsewhere; returns at once.

        Args:
            grace: Seconds that it may take; None leaves that to the node.
            force: Also if no other node takes clients.

        Raises:
            AdminFailed: No usable answer.
            CommandRefused: No other node takes clients.
        """
        query = {} if grace is None else {"grace": f"{grace:g}"}
        query |= {"force": "1"} if force else {}
        path = f"/v1/drain?{urlencode(query)}".removesuffix("?")
        return await self._document(path, CommandView, method="POST")

    async def confirm(self) -> ConfirmView:
        """Have it let go the members that its registry has lost.

        Raises:
            AdminFailed: No usable answer.
        """
        return await self._document("/v1/region/confirm", ConfirmView, method="POST")

    async def mesh_key(self, phase: str, key: str | None = None) -> MeshKeyView:
        """Have it take a step of replacing the mesh key.

        Args:
            phase: `stage`, `switch`, `retire`, `back` or `abort`.
            key: The key to stage: 64 hex digits.

        Raises:
            AdminFailed: No usable answer.
            CommandRefused: The step would do harm, or its files cannot be written.
        """
        said = {"phase": phase} | ({} if key is None else {"key": key})
        path = "/v1/mesh-key"
        return await self._document(path, MeshKeyView, method="POST", said=said)

    async def undrain(self) -> CommandView:
        """Have it take clients again.

        Raises:
            AdminFailed: No usable answer.
        """
        return await self._document("/v1/undrain", CommandView, method="POST")

    async def contradictions(self) -> str:
        """Ask what the maps of its relay contradict each other in; empty: in nothing.

        Raises:
            AdminFailed: No usable answer.
        """
        status, body = await self._ask("/debug/check")
        if status not in (_OK, _BROKEN):
            hint = "set token_file in derpctl's configuration"
            raise AdminFailed(self.url, f"answered {status} to /debug/check", hint)
        text = " ".join(body.decode("utf-8", "replace").split())
        return "" if status == _OK else text

    async def document(
        self,
        path: str,
        kind: type[_Document],
        query: Mapping[str, str] | None = None,
    ) -> _Document:
        """Ask for what another module reads.

        Raises:
            AdminFailed: No usable answer.
        """
        return await self._document(path, kind, query=query)

    async def _document(
        self,
        path: str,
        kind: type[_Document],
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        said: Mapping[str, str] | None = None,
    ) -> _Document:
        asked = f"{path}?{urlencode(query)}" if query else path
        status, body = await self._ask(asked, method, said)
        if status == _STOPPING:
            reason = " ".join(body.decode("utf-8", "replace").split())
            raise AdminFailed(self.url, reason, "ask again once it runs")
        if status == _REFUSED:
            raise CommandRefused(" ".join(body.decode("utf-8", "replace").split()))
        if status in _DENIED:
            hint = "set token_file in derpctl's configuration"
            raise AdminFailed(self.url, f"answered {status} to {path}", hint)
        if status != _OK:
            hint = "is this the admin listener of a derpd?"
            raise AdminFailed(self.url, f"answered {status} to {path}", hint)
        try:
            return kind.model_validate_json(body)
        except ValidationError as exc:
            where = ".".join(str(part) for part in exc.errors()[0]["loc"])
            reason = (
                f"{path} is not what derpctl reads{f' at {where}' if where else ''}"
            )
            hint = "is it a derpd, of about derpctl's version?"
            raise AdminFailed(self.url, reason, hint) from exc

    async def _ask(
        self, path: str, method: str = "GET", said: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        hint = "is the node running?"
        try:
            async with (
                asyncio.timeout(self.timeout),
                aiohttp.ClientSession(connector=self._connector()) as session,
                session.request(
                    method, self._base + path, headers=headers, json=said
                ) as answer,
            ):
                body = bytearray()
                while not answer.content.at_eof() and len(body) < self.most:
                    body += await answer.content.read(self.most - len(body))
                return answer.status, bytes(body)
        except TimeoutError as exc:
            reason = f"no answer in {self.timeout:g} s"
            raise AdminFailed(self.url, reason, hint) from exc
        except aiohttp.ClientConnectorCertificateError as exc:
            reason = reason_of(exc.certificate_error)
            hint = "set ca_file in derpctl's configuration to who signed it"
            raise AdminFailed(self.url, reason, hint) from exc
        except aiohttp.ClientConnectorError as exc:
            dead = isinstance(exc.os_error, ConnectionRefusedError | FileNotFoundError)
            raise AdminFailed(self.url, reason_of(exc.os_error), hint, dead) from exc
        except (aiohttp.ClientError, OSError) as exc:
            reason = str(exc) or "the connection broke"
            raise AdminFailed(self.url, reason, hint) from exc

    @property
    def _base(self) -> str:
        return "http://node" if self.url.startswith("unix:") else self.url

    def _connector(self) -> aiohttp.BaseConnector:
        if self.url.startswith("unix:"):
            return aiohttp.UnixConnector(urlsplit(self.url).path)
        if self.ca_file is None:
            return aiohttp.TCPConnector(resolver=Resolver())
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as exc:
            reason, hint = "not a PEM file that can be read", "check ca_file"
            raise CtlError(str(self.ca_file), reason, hint, Exit.CONFIG) from exc
        return aiohttp.TCPConnector(resolver=Resolver(), ssl=context)
