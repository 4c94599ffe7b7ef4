"""A server that answers what a script says: what no real etcd would be made to say."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    body: bytes
    status: int = 200


@dataclass(frozen=True)
class Stream:
    """An answer that comes piece by piece; then it ends, or stays open."""

    pieces: Sequence[bytes]
    stays: bool = False


class Reset:
    """The connection is reset instead of an answer."""


class Silence:
    """No answer comes."""


Scene = dict | Answer | Stream | type[Reset] | type[Silence]


class ScriptedEtcd:
    """Plays scenes, by method; the last one is played again and again."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []
        """What was asked: the method and the request, oldest first."""

        self.headers: list[dict[str, str]] = []
        """The headers that it was asked with."""

        self.url = ""
        self._scenes: dict[str, list[Scene]] = {}
        self._over = asyncio.Event()

    def plays(self, method: str, *scenes: Scene) -> None:
        """Set what is answered to a method."""
        self._scenes[method] = list(scenes)

    @property
    def methods(self) -> list[str]:
        """What was asked for, oldest first."""
        return [method for method, _ in self.asked]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Play the next scene."""
        method = request.path.removeprefix("/v3")
        self.asked.append((method, await request.json()))
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        scenes = self._scenes[method]
        scene = scenes.pop(0) if len(scenes) > 1 else scenes[0]
        match scene:
            case Answer():
                return web.Response(body=scene.body, status=scene.status)
            case Stream():
                return await self._stream(request, scene)
            case dict():
                return web.json_response(scene)
        if scene is Silence:
            await self._over.wait()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _stream(self, request: web.Request, scene: Stream) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in scene.pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if scene.stays:
            await self._over.wait()
        return response

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedEtcd"]:
        """Listen on a free port of loopback."""
        application = web.Application()
        application.router.add_post("/{rest:.*}", self.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            self._over.set()
            await runner.cleanup()


def header(
    revision: int, *, cluster: int = 7, term: int = 2
) -> dict[str, dict[str, str]]:
    """Write the header of an answer."""
    fields = {"cluster_id": cluster, "raft_term": term, "revision": revision}
    return {"header": {name: str(value) for name, value in fields.items()}}


def item(key: bytes, value: bytes, revision: int, lease: int = 0) -> dict[str, str]:
    """Write a key-value pair, as the gateway does: zeros are left out."""
    fields = {
        "key": base64.b64encode(key).decode(),
        "create_revision": str(revision),
        "mod_revision": str(revision),
        "version": "1",
    }
    if value:
        fields["value"] = base64.b64encode(value).decode()
    if lease:
        fields["lease"] = str(lease)
    return fields


def listing(revision: int, *items: dict, more: bool = False) -> dict:
    """Write the answer to a range."""
    return header(revision) | {"kvs": list(items)} | ({"more": True} if more else {})


def begun(revision: int = 1, *, cluster: int = 7) -> bytes:
    """Write what a watch begins with."""
    return news(header(revision, cluster=cluster) | {"created": True})


def events(revision: int, *found: dict) -> bytes:
    """Write what a watch tells."""
    return news(header(revision) | {"events": list(found)})


def put(key: bytes, value: bytes, revision: int) -> dict:
    """Write one event."""
    return {"kv": item(key, value, revision)}


def news(result: dict) -> bytes:
    """Write one document of a stream."""
    return json.dumps({"result": result}).encode() + b"\n"


def refusal(code: int, message: str, status: int) -> Answer:
    """Write an error as etcd 3.5 does."""
    body = {"error": message, "code": code, "message": message}
    return Answer(json.dumps(body).encode(), status)
