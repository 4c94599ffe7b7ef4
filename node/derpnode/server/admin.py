"""The admin listener: health, metrics and what the node knows, never on a public port.

It answers on a Unix socket and on loopback. Off loopback it takes TLS, and whatever
tells more than health asks for a token.
"""

import asyncio
import enum
import errno
import hmac
import ipaddress
import json
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from derpnode.config import AdminSection, Address, parse_address
from derpnode.errors import ConfigError
from derpnode.server.facts import NodeFacts


logger = logging.getLogger(__name__)


class AdminServer:
    """Serves what a node knows of itself.

    Args:
        facts: The node.
    """

    def __init__(self, facts: NodeFacts) -> None:
        self._facts = facts
        self._settings = facts.config.admin
        self._runner: web.ServerRunner | None = None
        self._addresses: list[str] = []

    @property
    def addresses(self) -> list[str]:
        """URLs that it answers at; the Unix socket as `unix:/path`, first."""
        return list(self._addresses)

    async def start(self) -> None:
        """Answer from now on.

        Raises:
            ConfigError: An address cannot be bound. None is, then.
        """
        server = web.Server(self._answer)
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        path = self._facts.config.admin_socket
        path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, path).start()
        self._addresses.append(f"unix:{path}")
        for text in self._settings.listen:
            address = parse_address(text)
            sock = socket.create_server((address.host, address.port))
            await web.SockSite(self._runner, sock).start()
            bound = Address(address.host, sock.getsockname()[1])
            self._addresses.append(f"http://{bound}")

    async def close(self) -> None:
        """Stop answering. May be called twice, and before `start`."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None
        self._addresses.clear()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/livez":
            return web.Response(text="ok\n")
        if request.path == "/readyz":
            reasons = self._facts.reasons
            text = "\n".join(reasons) or "ready"
            return web.Response(text=text + "\n", status=503 if reasons else 200)
        return web.Response(text="not found\n", status=404)
