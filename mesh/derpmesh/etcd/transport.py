"""The only module that knows etcd3-py: its request builder and its HTTP session.

Of etcd3-py 0.1.6 nothing with a state is used: its streams do not run with aiohttp
since 3.10 and lose events where they do, its errors break on newer servers, its
constructor asks the network, and its TLS does not check names.

Importing this costs some 30 MB, so it is done where a connection is made.
"""

import socket
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

import aiohttp
import etcd3
import semantic_version


KEEPALIVE = (10, 5, 3)
"""Idle seconds until a probe, seconds between probes, probes until it is dead."""

USER_TIMEOUT = 15_000
"""Milliseconds of unacknowledged data until the kernel gives a connection up."""

_SPOKEN = "3.4.0"  # the oldest server with the prefix /v3, which all newer ones have

AddressInfo = tuple[
    int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
]


class Transport(etcd3.AioClient):  # type: ignore[misc] # it has no types
    """Posts requests to one endpoint. Needs a running loop.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT`.
        tls: How `https` proves itself, and whom it trusts.
        connect: Seconds until a connection must be there.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None, connect: float) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        # The constructor of AioClient would open a session of its own.
        etcd3.BaseClient.__init__(
            self, host=host, port=parts.port, protocol=parts.scheme
        )
        self.timeout = aiohttp.ClientTimeout(
            total=None, connect=connect, sock_connect=connect
        )
        # A stream holds its connection for good, so there is no limit to them.
        connector = aiohttp.TCPConnector(
            limit=0, ssl=tls if tls is not None else True, socket_factory=_socket
        )
        self.session = aiohttp.ClientSession(connector=connector, trust_env=False)

    def _retrieve_version(self) -> None:
        """Take the server for one that speaks `/v3`, where etcd3-py would ask it."""
        version = semantic_version.Version(_SPOKEN)
        self.server_version_sem = self.cluster_version_sem = version
        self.server_version = self.cluster_version = _SPOKEN

    def post(
        self, method: str, payload: Mapping[str, object], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Build a request; entering it sends it.

        Args:
            method: The path of an RPC: `/kv/put`.
            payload: What it says; bytes are written as base64 where etcd wants them.
            headers: More of HTTP's.
        """
        request: AbstractAsyncContextManager[aiohttp.ClientResponse] = self.call_rpc(
            method,
            dict(payload),
            raw=True,
            headers=dict(headers),
            allow_redirects=False,
        )
        return request

    async def open(
        self, method: str, payload: Mapping[str, object], headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request; the response is the caller's to close."""
        return await self.post(method, payload, headers).__aenter__()


def _socket(info: AddressInfo) -> socket.socket:
    """Make a socket that finds out by itself that the other end is gone."""
    family, kind, protocol, *_ = info
    idle, interval, probes = KEEPALIVE
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
    return made
