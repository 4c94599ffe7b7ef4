"""One endpoint of etcd: requests with one answer, and streams of them."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

import aiohttp

from derpmesh.etcd.documents import MAX_SIZE, BrokenDocument, Document, Documents
from derpmesh.etcd.documents import decode as decode_document
from derpmesh.etcd.errors import (
    Ambiguous,
    ClientMissing,
    NotSent,
    WatchEnded,
    verdict,
)


if TYPE_CHECKING:
    from derpmesh.etcd.transport import Transport

CONNECT = 2.0
"""Seconds until a connection must be there, TLS included."""

_OK = 200

_MAX_SAID = 200  # characters of an exception that are shown

_INSTALL = "pip install etcd3-py==0.1.6"

_HAS_LEADER = {"Grpc-Metadata-hasleader": "true"}
"""Ends a stream where a member has no leader; it would be silent for good.

Source: etcd ``api/v3rpc/rpctypes/md.go``; the prefix is grpc-gateway's.
"""


class Endpoint:
    """Speaks to one endpoint, and never to another: redirects are errors.

    It connects when it is first asked, and again whenever it must.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT`.
        tls: How `https` proves itself, and whom it trusts; None: the system's roots.
        connect: Seconds until a connection must be there.
        max_size: Largest document to accept, in bytes.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        connect: float = CONNECT,
        max_size: int = MAX_SIZE,
    ) -> None:
        self.url = url
        self._tls = tls
        self._connect = connect
        self._max_size = max_size
        self._transport: Transport | None = None
        self._streams: set[aiohttp.ClientResponse] = set()

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    async def call(
        self,
        method: str,
        payload: Mapping[str, object],
        *,
        token: str = "",
        within: float,
    ) -> Document:
        """Ask for one thing.

        Args:
            method: The path of an RPC: `/kv/put`.
            payload: The request; bytes as bytes.
            token: Says who we are; empty: nobody.
            within: Seconds until the answer must be there, whole.

        Raises:
            NotSent: There was no connection.
            Ambiguous: It was sent, and there is no answer to rely on.
            EtcdError: Etcd said no; see `errors.verdict`.
        """
        headers = {"authorization": token} if token else {}
        transport = await self._opened()
        try:
            async with (
                asyncio.timeout(within),
                transport.post(method, payload, headers) as response,
            ):
                status, body = response.status, await self._body(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise NotSent(self.url, _said(exc)) from exc
        except TimeoutError as exc:
            raise Ambiguous(self.url, f"no answer in {within:.1f} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Ambiguous(self.url, _said(exc)) from exc
        if status != _OK:
            raise verdict(self.url, status, body)
        return self._document(body)

    async def stream(
        self,
        method: str,
        payload: Mapping[str, object],
        *,
        token: str = "",
        within: float,
    ) -> AsyncGenerator[Document, None]:
        """Ask for a stream; yield its documents until it breaks off.

        Closing the generator closes the connection.

        Args:
            method: The path of an RPC: `/watch`.
            payload: The request; bytes as bytes.
            token: Says who we are; empty: nobody.
            within: Seconds until the first document must be there. Etcd sends one
                at once, to say that a watch has begun; the next may come any time.

        Raises:
            NotSent: There was no connection.
            Ambiguous: There was, and no first document.
            WatchEnded: The stream broke off, or made no sense.
            EtcdError: Etcd said no; see `errors.verdict`.
        """
        deadline: float | None = time.monotonic() + within
        response = await self._stream_opened(method, payload, token, within)
        self._streams.add(response)
        try:
            documents = Documents(max_size=self._max_size)
            while True:
                documents.feed(await self._chunk(response, deadline))
                for document in documents:
                    deadline = None
                    if "error" in document:
                        raise verdict(self.url, _OK, document)
                    yield document
        except BrokenDocument as exc:
            raise WatchEnded(self.url, f"garbage in the stream: {exc}") from exc
        finally:
            self._streams.discard(response)
            response.close()

    def hang_up(self) -> None:
        """End every stream from here; those that read them get `WatchEnded`."""
        for response in tuple(self._streams):
            response.close()

    async def close(self) -> None:
        """Close every connection. May be called twice; then it may be used again."""
        transport, self._transport = self._transport, None
        self.hang_up()
        if transport is not None:
            await transport.close()

    async def _opened(self) -> "Transport":
        if self._transport is not None:
            return self._transport
        # The import takes a quarter of a second, and packets must not wait for it.
        kind = await asyncio.to_thread(load_transport)
        if self._transport is None:  # nobody else opened it meanwhile
            self._transport = kind(self.url, tls=self._tls, connect=self._connect)
        return self._transport

    async def _stream_opened(
        self, method: str, payload: Mapping[str, object], token: str, within: float
    ) -> aiohttp.ClientResponse:
        headers = _HAS_LEADER | ({"authorization": token} if token else {})
        transport = await self._opened()
        try:
            async with asyncio.timeout(within):
                response = await transport.open(method, payload, headers)
                if response.status == _OK:
                    return response
                async with response:
                    status, body = response.status, await self._body(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise NotSent(self.url, _said(exc)) from exc
        except TimeoutError as exc:
            raise Ambiguous(self.url, f"no answer in {within:.1f} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Ambiguous(self.url, _said(exc)) from exc
        raise verdict(self.url, status, body)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        while chunk := await response.content.readany():
            body += chunk
            if len(body) > self._max_size:
                reason = f"{len(body)} bytes, limit is {self._max_size}"
                raise Ambiguous(self.url, reason)
        return bytes(body)

    async def _chunk(
        self, response: aiohttp.ClientResponse, deadline: float | None
    ) -> bytes:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(left):
                chunk = await response.content.readany()
        except TimeoutError as exc:
            raise Ambiguous(self.url, "no first document in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise WatchEnded(self.url, _said(exc)) from exc
        if not chunk:
            raise WatchEnded(self.url, "the stream ended")
        return chunk

    def _document(self, body: bytes) -> Document:
        try:
            document = decode_document(body)
        except BrokenDocument as exc:
            raise Ambiguous(self.url, f"garbage for an answer: {exc}") from exc
        if "error" in document:  # what should be a stream may end so: keepalives
            raise verdict(self.url, _OK, document)
        return document


def load_transport() -> "type[Transport]":
    """Import what speaks to etcd.

    Raises:
        ClientMissing: It is not installed, or another package has its name.
    """
    try:
        # Only who asks pays; and only who asks need have it.
        from derpmesh.etcd.transport import Transport  # noqa: PLC0415
    except (ImportError, AttributeError, TypeError) as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name == "etcd3":
            reason, hint = "etcd3-py is not installed", f"run: {_INSTALL}"
        else:
            # PyPI's etcd3 puts a module of the same name over that of etcd3-py.
            said = _said(exc)
            reason = f"the Python module etcd3 is not that of etcd3-py: {said}"
            hint = f"run: pip uninstall etcd3 etcd3-py; {_INSTALL}"
        raise ClientMissing(reason, hint) from exc
    return Transport


def _said(exc: Exception) -> str:
    """Say what went wrong in one short line; some exceptions say nothing."""
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        number = cause.errno or 0
        if number > 0:  # those of look-ups are below
            return os.strerror(number).lower()
    return " ".join(str(exc).split())[:_MAX_SAID] or type(exc).__name__
