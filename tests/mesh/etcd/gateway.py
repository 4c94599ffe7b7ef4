"""A gateway before a real etcd, that does to its watches what broken gateways do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal, cast

import aiohttp
from aiohttp import web


Manner = Literal["whole", "halves", "pairs", "newlines"]
"""How each document of a watch is handed on.

In one piece; in two; with another one behind it in the same piece, and nothing between
them (etcd issue 11372); with empty lines around it.
"""

_WATCH = "/v3/watch"
_HANDED_ON = ("authorization", "grpc-metadata-hasleader")
_APART = 0.01  # seconds between two pieces, so that they arrive as two


class _Watch:
    """One watch that somebody follows."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response
        self.header: object = None
        self.is_silent = False
        self.ends_in_half = False


class Gateway:
    """Hands calls on to etcd; see `running`.

    Args:
        target: URL of the etcd.
        manner: How documents of watches are handed on.
    """

    def __init__(self, target: str, manner: Manner = "whole") -> None:
        self.url = ""
        self.begun = 0
        """Watches so far."""

        self.is_mute = False
        """Whether watches are silent from their first document on."""

        self._target = target
        self._manner = manner
        self._watches: set[_Watch] = set()

    async def cancel(self) -> None:
        """Say that each watch is over; it stays open, and silent."""
        for watch in tuple(self._watches):
            end = {"header": watch.header, "canceled": True, "cancel_reason": "tired"}
            watch.is_silent = True
            await watch.response.write(json.dumps({"result": end}).encode() + b"\n")

    async def silence(self) -> None:
        """Hand on nothing more in the watches that there are; they stay open."""
        for watch in self._watches:
            watch.is_silent = True

    async def break_off(self) -> None:
        """Hand on half of the next document of each watch, and then nothing more."""
        for watch in self._watches:
            watch.ends_in_half = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Gateway"]:
        """Listen on a free port of loopback until the block ends."""
        application = web.Application()
        application.router.add_post("/{rest:.*}", self._handle)
        runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=0.1,
            handler_cancellation=True,
        )
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            self.url = f"http://{host}:{port}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {
            name: request.headers[name]
            for name in _HANDED_ON
            if name in request.headers
        }
        async with self._session.post(
            self._target + request.path, data=await request.read(), headers=headers
        ) as answer:
            if request.path == _WATCH and answer.status == web.HTTPOk.status_code:
                return await self._follow(request, answer)
            body = await answer.read()
            return web.Response(body=body, status=answer.status)

    async def _follow(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        watch = _Watch(response)
        self.begun += 1
        self._watches.add(watch)
        try:
            async for line in answer.content:
                await self._hand_on(watch, line)
        finally:
            self._watches.discard(watch)
        return response

    async def _hand_on(self, watch: _Watch, line: bytes) -> None:
        if watch.is_silent:
            return
        result = cast("dict[str, dict[str, object]]", json.loads(line))["result"]
        watch.header = result["header"]
        if watch.ends_in_half:
            watch.is_silent = True
            line = line[: len(line) // 2]
        watch.is_silent |= self.is_mute
        for piece in self._pieces(line, watch.header):
            await watch.response.write(piece)
            await asyncio.sleep(_APART)

    def _pieces(self, line: bytes, header: object) -> Iterator[bytes]:
        match self._manner:
            case "whole":
                yield line
            case "halves":
                yield line[: len(line) // 2]
                yield line[len(line) // 2 :]
            case "pairs":
                progress = json.dumps({"result": {"header": header}}).encode()
                yield line.rstrip() + progress
            case "newlines":
                yield b"\n"
                yield line
                yield b"\n\n"
