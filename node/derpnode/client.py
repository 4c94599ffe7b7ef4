"""A DERP client, made layer by layer so that each failure has a name and a time.

`connect` does all of it at once; a probe walks the layers itself: `Relay.resolve`,
`Relay.dial`, `Relay.secure`, `Stream.upgrade`, `Stream.server_key`, `Stream.login`.
Source: tailscale ``derp/derphttp/derphttp_client.go``, ``derp/derp_client.go`` and
``net/tlsdial/tlsdial.go``.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import os
import re
import socket
import ssl
import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from derpnode import __version__
from derpnode.config import is_ip
from derpnode.errors import NodeError, ProtocolError
from derpnode.wire import payloads
from derpnode.wire.errors import FrameTooLarge
from derpnode.wire.frames import (
    MAX_CLIENT_FRAME,
    MAX_PACKET,
    FrameDecoder,
    FrameType,
)
from derpnode.wire.handshake import (
    ClientInfo,
    client_info_frame,
    open_server_info,
    parse_server_key,
)
from derpnode.wire.keys import (
    NONCE_SIZE,
    MeshKey,
    NodeKey,
    PrivateKey,
    node_key_text,
    short_key,
)
from derpnode.wire.metacert import parse_meta_certificate
from derpnode.wire.payloads import Present as PeerPresent


PIN_PREFIX: Final = "sha256-raw:"
"""Source: ``derphttp_client.go``, ``tlsClient``."""

DIAL_TIMEOUT: Final = 1.5
"""Seconds for one TCP connect. Source: ``derphttp_client.go``, ``dialNodeTimeout``."""

TIMEOUT: Final = 10.0
"""Seconds from name to ServerKey. Source: ``derphttp_client.go``, ``connect``."""

_META_PREFIX = "derpkey"
_MAX_HEAD = 16 * 1024
_MAX_BODY = 1024  # derphttp_client.go quotes that much of a refusal
_QUEUE_HIGH = 4 * 1024 * 1024  # bytes of frames nobody asked for yet; then we pause
_QUEUE_LOW = _QUEUE_HIGH // 2
_CLOSE_TIMEOUT = 1.0
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5]\d\d)(?: (.*))?")
_SWITCHING = 101


@dataclass(eq=False)
class ClientError(NodeError):
    """A layer failed; each has a class. Says what, why, and what to do about it."""

    value: str
    """What was being used: an address, a pin, a key."""
    reason: str
    """Why it did not work, with the limit where there is one."""
    hint: str
    """What to do about it."""

    layer: ClassVar[str] = ""
    """Name of the layer, for people and for JSON."""

    def __str__(self) -> str:
        return f"{self.value}: {self.reason}; {self.hint}"


class ResolveFailed(ClientError):
    """The host has no address."""

    layer = "dns"


class DialFailed(ClientError):
    """No address took a TCP connection."""

    layer = "tcp"


class TlsFailed(ClientError):
    """No TLS, or a certificate that a client does not accept."""

    layer = "tls"


class UpgradeFailed(ClientError):
    """The answer to the HTTP request is not the one due."""

    layer = "http"


class ServerKeyFailed(ClientError):
    """The server did not say who it is, or two different things."""

    layer = "server key"


class LoginFailed(ClientError):
    """The server did not take our ClientInfo."""

    layer = "login"


class RelayFailed(ClientError):
    """The connection was logged in, and does not work any more."""

    layer = "relay"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to check a server's certificate: what a DERP map says of a node."""

    cert_name: str = ""
    """`CertName`: a pin (`sha256-raw:…`), another DNS name, or empty for the host."""

    ca_file: Path | None = None
    """PEM file of the authorities to trust; None for those of the system.

    Unlike Tailscale's clients, which also carry Let's Encrypt's roots.
    """

    @property
    def pin(self) -> str | None:
        """The hash that is expected, as text; None where a chain is."""
        if self.cert_name.startswith(PIN_PREFIX):
            return self.cert_name.removeprefix(PIN_PREFIX)
        return None


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a server proved itself with; accepted."""

    tls_version: str
    """As OpenSSL writes it: `TLSv1.3`."""
    count: int
    """Certificates that were sent, the meta certificate not counted."""
    pin: str
    """`CertName` that pins the leaf."""
    not_after: datetime
    """When the leaf expires."""
    meta_key: NodeKey | None
    """The server's key by its meta certificate; None if there is none."""

    @property
    def fast_start(self) -> bool:
        """Whether a client may send ClientInfo with its request: only TLS 1.3."""
        return self.meta_key is not None and self.tls_version == "TLSv1.3"


def check_certificates(
    chain: Sequence[bytes], tls: ClientTls, host: str, *, version: str, now: datetime
) -> Certificates:
    """Accept a server's certificates by the rules of a Go client, or refuse.

    Of a pinned server exactly one certificate besides the meta one may come,
    with that very hash, in its time, and for `host` if that is a DNS name. Of
    any other, OpenSSL has checked the chain, and the name is checked here; of
    an IP address, no name is, as clients send none.

    Args:
        chain: DER, the leaf first.
        tls: What to expect.
        host: What was dialled: a DNS name or an IP address.
        version: The TLS version that was agreed on.
        now: An aware datetime.

    Raises:
        TlsFailed: A client would not go on.
    """
    own = [der for der in chain if not _is_meta(der)]
    if not own:
        hint = "the server must send a certificate besides the meta one"
        raise TlsFailed(host, "no certificate was presented", hint)
    try:
        leaf = x509.load_der_x509_certificate(own[0])
        names = _dns_names(leaf)
    except ValueError as exc:
        raise TlsFailed(host, "the certificate is malformed", "make a new one") from exc
    pin = hashlib.sha256(own[0]).hexdigest()
    if tls.pin is not None:
        _check_pin(own, pin, tls.pin)
        _check_dates(leaf, host, now)
    name = host if tls.pin is not None or not tls.cert_name else tls.cert_name
    if not is_ip(name) and not any(_covers(pattern, name) for pattern in names):
        hint = "its subjectAltName must have the name (the CN does not count)"
        reason = f"the certificate is for {', '.join(names) or 'no DNS name'}"
        raise TlsFailed(name, reason, hint)
    found = [meta for meta in map(parse_meta_certificate, chain) if meta is not None]
    return Certificates(
        tls_version=version,
        count=len(own),
        pin=PIN_PREFIX + pin,
        not_after=leaf.not_valid_after_utc,
        meta_key=found[0][0] if found else None,
    )


def _is_meta(der: bytes) -> bool:
    """Tell the meta certificate by its name alone, as tlsdial.go does."""
    with warnings.catch_warnings(action="ignore"):  # the name is over-long
        try:
            subject = x509.load_der_x509_certificate(der).subject
            names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except ValueError:
            return False
    return any(str(name.value).startswith(_META_PREFIX) for name in names)


def _dns_names(leaf: x509.Certificate) -> list[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _check_pin(own: Sequence[bytes], actual: str, expected: str) -> None:
    value = PIN_PREFIX + expected
    if actual != expected:  # as text: upper case never matches
        hint = f"put {PIN_PREFIX}{actual} into the map, if this is the node you mean"
        raise TlsFailed(value, "the server has another certificate", hint)
    if len(own) > 1:
        reason = f"{len(own)} certificates were presented, clients with a pin take 1"
        raise TlsFailed(value, reason, "serve the leaf alone, without its issuers")


def _check_dates(leaf: x509.Certificate, host: str, now: datetime) -> None:
    if now > leaf.not_valid_after_utc:
        reason = f"the certificate expired {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise TlsFailed(host, reason, "make a new one and put its pin into the map")
    if now < leaf.not_valid_before_utc:
        begin = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        reason = f"the certificate is not valid before {begin}"
        raise TlsFailed(host, reason, "check both clocks")


def _covers(pattern: str, host: str) -> bool:
    """Source: Go ``crypto/x509``, ``matchHostnames``."""
    wanted = host.lower().rstrip(".").split(".")
    parts = pattern.lower().split(".")
    if len(parts) != len(wanted):
        return False
    return parts[0] in ("*", wanted[0]) and parts[1:] == wanted[1:]


class Address(NamedTuple):
    """Where to dial, and in which family."""

    family: socket.AddressFamily
    ip: str


class Answer(NamedTuple):
    """An HTTP answer; of its body, the first KiB."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """Names in lower case; of repeated ones the last."""
    body: bytes


@contextlib.asynccontextmanager
async def _layer(
    failed: type[ClientError], value: str, seconds: float, hint: str
) -> AsyncIterator[None]:
    """Turn what the network throws into the error of a layer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise failed(value, f"no answer in {seconds:.3g} s", hint) from exc
    except _Ended as exc:
        raise failed(value, exc.reason, hint) from exc
    except OSError as exc:
        raise failed(value, _reason(exc), hint) from exc


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.replace("_", " ").lower()
    if isinstance(exc, OSError) and exc.strerror:
        # asyncio's own texts name the address again.
        text = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
        return text[0].lower() + text[1:]
    return str(exc) or "the connection was reset"


@dataclass(eq=False)
class _Ended(Exception):
    """The connection is closed and everything it brought was read."""

    reason: str


@dataclass(frozen=True, slots=True)
class Relay:
    """A server to dial, as a client's map has it."""

    host: str
    """DNS name or IP address: SNI, HTTP Host, and what is looked up."""
    port: int
    tls: ClientTls | None = field(default_factory=ClientTls)
    """None dials plain HTTP."""
    addresses: Sequence[str] = ()
    """IP addresses to dial instead of looking the host up."""

    @property
    def authority(self) -> str:
        """The HTTP Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (443, 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else self._plain()

    def _plain(self) -> str:
        return f"{self.host}:{self.port}"

    async def resolve(self, *, within: float = TIMEOUT) -> list[Address]:
        """Find out where to dial; given addresses and literals as they are.

        Raises:
            ResolveFailed: The name has no address.
        """
        given = self.addresses or ([self.host] if is_ip(self.host) else [])
        if given:
            return [Address(_family(text), text) for text in given]
        hint = "check the name and this machine's resolver"
        async with _layer(ResolveFailed, self.host, timeout, hint):
            found = await asyncio.get_running_loop().getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )
        return [Address(family, str(place[0])) for family, _, _, _, place in found]

    async def dial(
        self,
        addresses: Sequence[Address],
        *,
        within: float = DIAL_TIMEOUT,
    ) -> socket.socket:
        """Connect to the first address that answers; it is yours to close.

        Args:
            addresses: Where, in order.
            timeout: Seconds for each.

        Raises:
            DialFailed: None did; the error is that of the last.
        """
        failed: DialFailed | None = None
        for family, ip in addresses:
            try:
                return await _dial(family, ip, self.port, timeout)
            except DialFailed as exc:
                failed = exc
        if failed is None:
            raise DialFailed(str(self), "no address to dial", "give it one")
        raise failed

    async def secure(
        self,
        sock: socket.socket,
        *,
        within: float = TIMEOUT,
    ) -> "Stream":
        """Make a stream of a connected socket, which it owns from now on.

        Raises:
            TlsFailed: See `check_certificates`; or there was no handshake.
        """
        loop = asyncio.get_running_loop()
        if self.tls is None:
            _, stream = await loop.create_connection(lambda: Stream(self), sock=sock)
            return stream
        context = _context(self.tls)
        name = "" if is_ip(self.host) else self.host  # an empty name sends no SNI
        hint = "check the certificate, the name in it and the pin in the map"
        try:
            async with _layer(TlsFailed, str(self), timeout, hint):
                _, stream = await loop.create_connection(
                    lambda: Stream(self), sock=sock, ssl=context, server_hostname=name
                )
        except BaseException:
            sock.close()
            raise
        try:
            stream.check(self.tls, datetime.now(UTC))
        except TlsFailed:
            stream.abort()
            raise
        return stream


def _family(ip: str) -> socket.AddressFamily:
    four = ipaddress.ip_address(ip).version == 4  # noqa: PLR2004 - IPv4
    return socket.AF_INET if four else socket.AF_INET6


async def _dial(
    family: socket.AddressFamily, ip: str, port: int, seconds: float
) -> socket.socket:
    value = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    hint = "check that the node runs and that no firewall is in between"
    async with _layer(DialFailed, value, seconds, hint):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(sock, (ip, port))
        except BaseException:
            sock.close()
            raise
    return sock


def _context(tls: ClientTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # `check_certificates` does, by Go's rules
    if tls.pin is not None:
        context.verify_mode = ssl.CERT_NONE  # so does it with the hash
    elif tls.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(tls.ca_file)
        except OSError as exc:
            hint = "give a PEM file of certificates that can be read"
            raise TlsFailed(str(tls.ca_file), _reason(exc), hint) from exc
    return context


def _chain(connection: object) -> list[bytes]:
    """Give the certificates of the peer, DER, as it sent them.

    Public since Python 3.13; before, the C object behind has the same method.
    It gives None where there are none, and objects in place of bytes.
    """
    method = getattr(connection, "get_unverified_chain", None)
    if method is None:
        inner = getattr(connection, "_sslobj", None)
        method = getattr(inner, "get_unverified_chain", list)
    return [
        one if isinstance(one, bytes) else one.public_bytes(_DER)
        for one in method() or ()
    ]


_DER = 2  # _ssl.ENCODING_DER


class Stream(asyncio.Protocol):
    """One connection: HTTP until the upgrade, frames after it.

    Answers pings by itself, at once, as long as somebody reads: beyond 4 MiB
    of frames that nobody took it stops reading.
    """

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.certificates: Certificates | None = None
        self.answers_pings = False
        self.pongs: dict[bytes, asyncio.Future[None]] = {}
        self._transport: asyncio.Transport | None = None
        self._raw = bytearray()
        self._decoder: FrameDecoder | None = None
        self._frames: deque[tuple[int, bytes]] = deque()
        self._queued = 0
        self._paused = False
        self._ended: str | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the types
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep bytes, or cut them into frames."""
        if self._decoder is None:
            self._raw += data
        else:
            self._feed(data)
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits; they find out why it ended."""
        reason = "closed by the server" if exc is None else _reason(exc)
        self._ended = self._ended or reason
        for waiting in self.pongs.values():
            if not waiting.done():
                waiting.set_exception(_Ended(self._ended))
        self._news.set()
        self._writable.set()
        self._closed.set()

    def pause_writing(self) -> None:
        """Hold writers back."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    # The layers above TLS.

    def check(self, tls: ClientTls, now: datetime) -> None:
        """Check the certificates that came.

        Raises:
            TlsFailed: See `check_certificates`.
        """
        connection = self._carrier.get_extra_info("ssl_object")
        self.certificates = check_certificates(
            _chain(connection),
            tls,
            self.relay.host,
            version=str(connection.version()),
            now=now,
        )

    async def get(
        self,
        path: str,
        headers: Mapping[str, str],
        *,
        within: float = TIMEOUT,
    ) -> Answer:
        """Ask for something by HTTP.

        Raises:
            UpgradeFailed: The answer is not HTTP, or there is none.
        """
        hint = "check that a DERP node listens there, and what is in between"
        async with _layer(UpgradeFailed, str(self.relay), timeout, hint):
            await self.write(self._request(path, headers))
            answer = await self._head()
            if answer.status == _SWITCHING:
                return answer
            return answer._replace(body=await self._body(answer))

    async def upgrade(self, hello: bytes = b"", *, within: float = TIMEOUT) -> None:
        """Go over to frames.

        Args:
            hello: ClientInfo, and what else to say at once: a fast start,
                which gets no HTTP answer. Empty asks and waits.
            timeout: Seconds to wait.

        Raises:
            UpgradeFailed: The answer is another than 101.
        """
        headers = {"Connection": "Upgrade", "Upgrade": "DERP"}
        if hello:
            headers["Derp-Fast-Start"] = "1"
            hint = "try again without a fast start"
            async with _layer(UpgradeFailed, str(self.relay), timeout, hint):
                await self.write(self._request("/derp", headers) + hello)
        else:
            answer = await self.get("/derp", headers, timeout=timeout)
            if answer.status != _SWITCHING:
                reason = f"answered {answer.status} {answer.reason}, not 101"
                quoted = answer.body.decode("utf-8", "replace").strip()
                hint = f"it says {quoted!r}" if quoted else "is it a DERP node?"
                raise UpgradeFailed(str(self.relay), reason, hint)
        self._decoder = FrameDecoder(max_payload=MAX_CLIENT_FRAME)
        self._feed(bytes(self._raw))

    async def server_key(self, *, within: float = TIMEOUT) -> NodeKey:
        """Learn who the server is; must agree with its meta certificate.

        Raises:
            ServerKeyFailed: It did not say, or two different things.
        """
        value = str(self.relay)
        hint = "check that it is a DERP node"
        async with _layer(ServerKeyFailed, value, timeout, hint):
            kind, payload = await self.frame()
        if kind != FrameType.SERVER_KEY:
            reason = f"the first frame is {kind:#04x}, not {FrameType.SERVER_KEY:#04x}"
            raise ServerKeyFailed(value, reason, hint)
        try:
            key = parse_server_key(payload)
        except ProtocolError as exc:
            raise ServerKeyFailed(value, str(exc), hint) from exc
        meta = self.certificates.meta_key if self.certificates else None
        if meta is not None and meta != key:
            reason = f"is {short_key(key)}, its meta certificate says {short_key(meta)}"
            hint = "let one TLS end serve one node: no balancer between several"
            raise ServerKeyFailed(value, reason, hint)
        return key

    async def login(
        self,
        private: PrivateKey,
        server_key: NodeKey,
        info: ClientInfo | None,
        *,
        within: float = TIMEOUT,
    ) -> "Client":
        """Say who we are, and wait until we can be reached.

        Args:
            private: Who we are.
            server_key: From `server_key`.
            info: What to say; None if `upgrade` said it.
            timeout: Seconds to wait for ServerInfo.

        Raises:
            LoginFailed: The server did not confirm.
        """
        value = node_key_text(private.public)
        hint = "see whether the node's admission knows this key, and its log"
        async with _layer(LoginFailed, value, timeout, hint):
            if info is not None:
                await self.write(_hello(info, private, server_key))
            kind, payload = await self.frame()
            while kind != FrameType.SERVER_INFO:  # clients skip what they do not know
                kind, payload = await self.frame()
        try:
            confirmed = open_server_info(payload, private, server_key)
        except ProtocolError as exc:
            raise LoginFailed(value, str(exc), hint) from exc
        return Client(self, private, server_key, confirmed)

    # Bytes and frames.

    async def write(self, data: bytes) -> None:
        """Send, once the socket takes it."""
        await self._writable.wait()
        if self._ended is not None:
            raise _Ended(self._ended)
        self._carrier.write(data)

    async def frame(self) -> tuple[int, bytes]:
        """Wait for the next frame that is not answered here."""
        while not self._frames:
            await self._more()
        kind, payload = self._frames.popleft()
        self._queued -= len(payload)
        if self._paused and self._queued < _QUEUE_LOW and self._ended is None:
            self._paused = False
            self._carrier.resume_reading()
        return kind, payload

    def abort(self) -> None:
        """Drop the connection, without a word."""
        self._carrier.abort()

    async def close(self) -> None:
        """End the connection; what was written leaves first, if it can."""
        self._carrier.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._closed.wait()
        self._carrier.abort()

    @property
    def _carrier(self) -> asyncio.Transport:
        if self._transport is None:
            message = "the stream is not connected"
            raise RuntimeError(message)
        return self._transport

    def _request(self, path: str, headers: Mapping[str, str]) -> bytes:
        lines = {"Host": self.relay.authority, "User-Agent": f"derpmesh/{__version__}"}
        text = "".join(f"{name}: {text}\r\n" for name, text in (lines | headers).items())
        return f"GET {path} HTTP/1.1\r\n{text}\r\n".encode()

    async def _head(self) -> Answer:
        while (end := self._raw.find(b"\r\n\r\n")) < 0:
            if len(self._raw) > _MAX_HEAD:
                raise _Ended(f"an HTTP head of more than {_MAX_HEAD} bytes")
            await self._more()
        status, *lines = self._raw[:end].decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        match = _STATUS.fullmatch(status)
        if match is None:
            raise _Ended("the answer is not HTTP/1.1")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Answer(int(match[1]), match[2] or "", headers, b"")

    async def _body(self, answer: Answer) -> bytes:
        size = answer.headers.get("content-length", "")
        bodiless = answer.status in (204, 304)
        due = 0 if bodiless else int(size) if size.isdecimal() else _MAX_BODY
        due = min(due, _MAX_BODY)
        with contextlib.suppress(_Ended):
            while len(self._raw) < due:
                await self._more()
        body = bytes(self._raw[:due])
        del self._raw[:due]
        return body

    async def _more(self) -> None:
        if self._ended is not None:
            raise _Ended(self._ended)
        self._news.clear()
        await self._news.wait()

    def _feed(self, data: bytes) -> None:
        assert self._decoder is not None  # noqa: S101 - for the types
        self._decoder.feed(data)
        try:
            for kind, payload in self._decoder:
                self._take(kind, payload)
        except FrameTooLarge as exc:
            http = exc.kind == ord("H")  # "HTTP/1.1 …" after a fast start
            self._ended = "answered by HTTP, not by frames" if http else str(exc)
            self._carrier.abort()

    def _take(self, kind: int, payload: bytes) -> None:
        """Answer a ping, hand out a pong, keep everything else."""
        token = payload[:8]
        if kind == FrameType.PONG and token in self.pongs:
            waiting = self.pongs.pop(token)
            if not waiting.done():
                waiting.set_result(None)
            return
        if kind == FrameType.PING and self.answers_pings:
            with contextlib.suppress(ProtocolError):
                self._carrier.write(payloads.pong(payload))
            return
        self._frames.append((kind, payload))
        self._queued += len(payload)
        if self._queued > _QUEUE_HIGH and not self._paused:
            self._paused = True
            self._carrier.pause_reading()


def _hello(info: ClientInfo, private: PrivateKey, server_key: NodeKey) -> bytes:
    return client_info_frame(info, private, server_key, os.urandom(NONCE_SIZE))


@dataclass(frozen=True, slots=True)
class Received:
    """A packet from another client."""

    source: NodeKey
    data: bytes


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A client cannot be reached here, see `payloads.GoneReason`."""

    key: NodeKey
    reason: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The server asks; only for clients that do not answer by themselves."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """An answer to a ping that was not `Client.ping`'s."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong with the node; empty if nothing is."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarting:
    """The node restarts; both in seconds."""

    reconnect_in: float
    try_for: float


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The connection is alive."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A frame that is newer than this client, or too short to be what it says."""

    kind: int
    payload: bytes


Message = (
    Received
    | PeerGone
    | PeerPresent
    | Ping
    | Pong
    | Health
    | Restarting
    | KeepAlive
    | Unknown
)


def parse_message(kind: int, payload: bytes) -> Message:
    """Read a frame from a server; what cannot be read is `Unknown`."""
    try:
        match kind:
            case FrameType.RECV_PACKET:
                return Received(*payloads.parse_recv_packet(payload))
            case FrameType.PEER_GONE:
                return PeerGone(*payloads.parse_peer_gone(payload))
            case FrameType.PEER_PRESENT:
                return payloads.parse_peer_present(payload)
            case FrameType.RESTARTING:
                return Restarting(*payloads.parse_restarting(payload))
            case _:
                return _parse_rest(kind, payload)
    except ProtocolError:
        return Unknown(kind, payload)


def _parse_rest(kind: int, payload: bytes) -> Message:
    match kind:
        case FrameType.PING:
            return Ping(payload)
        case FrameType.PONG:
            return Pong(payloads.parse_pong(payload))
        case FrameType.HEALTH:
            return Health(payloads.parse_health(payload))
        case FrameType.KEEP_ALIVE:
            return KeepAlive()
        case _:
            return Unknown(kind, payload)


class Client:
    """A client that is logged in. Every method may raise `RelayFailed`."""

    def __init__(
        self,
        stream: Stream,
        private: PrivateKey,
        server_key: NodeKey,
        server_info: Mapping[str, object],
    ) -> None:
        self.key = private.public
        self.server_key = server_key
        self.server_info = server_info
        self.stream = stream

    async def recv(self) -> Message:
        """Wait for the next message; there is no time limit."""
        async with self._relayed("reconnect"):
            return parse_message(*await self.stream.frame())

    async def send(self, destination: NodeKey, data: bytes) -> None:
        """Send a packet, without knowing whether it arrives."""
        if len(data) > MAX_PACKET:
            reason = f"a packet of {len(data)} bytes, the limit is {MAX_PACKET}"
            raise RelayFailed(short_key(destination), reason, "send it in pieces")
        await self._write(payloads.send_packet(destination, data))

    async def ping(self, *, within: float = 5.0) -> float:
        """Measure the round trip to the node, in seconds."""
        loop = asyncio.get_running_loop()
        token = os.urandom(8)
        answered = self.stream.pongs[token] = loop.create_future()
        started = loop.time()
        try:
            async with self._relayed("the node or the way to it hangs", timeout):
                await self.stream.write(payloads.ping(token))
                await answered
        finally:
            self.stream.pongs.pop(token, None)
        return loop.time() - started

    async def note_preferred(self, preferred: bool) -> None:
        """Tell the node whether it is our home."""
        await self._write(payloads.note_preferred(preferred))

    async def watch(self) -> None:
        """Ask for `PeerPresent` and `PeerGone` of everybody; needs the mesh key."""
        await self._write(payloads.WATCH_CONNS)

    async def close_peer(self, key: NodeKey) -> None:
        """Have all connections of a client closed; needs the mesh key."""
        await self._write(payloads.close_peer(key))

    async def _write(self, frame: bytes) -> None:
        async with self._relayed("reconnect"):
            await self.stream.write(frame)

    def _relayed(
        self, hint: str, seconds: float = 365 * 86_400.0
    ) -> contextlib.AbstractAsyncContextManager[None]:
        return _layer(RelayFailed, str(self.stream.relay), seconds, hint)


@contextlib.asynccontextmanager
async def connect(  # noqa: PLR0913 - each is a choice of its own
    host: str,
    port: int,
    *,
    private: PrivateKey,
    tls: ClientTls | None,
    addresses: Sequence[str] = (),
    mesh_key: MeshKey | None = None,
    can_ack_pings: bool = True,
    is_prober: bool = False,
    app_name: str = "",
    fast_start: bool = True,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for all layers together
) -> AsyncGenerator[Client, None]:
    """Log in to a server; the connection ends with the block.

    Args:
        host: DNS name or IP address.
        port: TCP port.
        private: Who to be.
        tls: How to check the certificate; None dials plain HTTP.
        addresses: IP addresses to dial instead of looking the host up.
        mesh_key: Proves the mesh right.
        can_ack_pings: Say that we answer pings, and do.
        is_prober: Say that we only measure.
        app_name: What to call ourselves.
        fast_start: Save a round trip, where the server offers it.
        timeout: Seconds until the login is over.

    Raises:
        ClientError: A layer failed; there is a class for each.
    """
    relay = Relay(host, port, tls, addresses)
    secret = mesh_key.secret if mesh_key is not None else None
    info = ClientInfo(
        mesh_key=secret,
        can_ack_pings=can_ack_pings,
        is_prober=is_prober,
        app_name=app_name,
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout

    def left() -> float:
        return max(deadline - loop.time(), 0.0)

    places = await relay.resolve(timeout=left())
    sock = await relay.dial(places, timeout=min(DIAL_TIMEOUT, left()))
    stream = await relay.secure(sock, timeout=left())
    try:
        client = await _introduce(stream, private, info, fast_start, left)
        yield client
    finally:
        await stream.close()
