"""C46 and C47: who is asked whether a client may relay, in which words."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from derpnode.wire.handshake import ClientInfo
from derpnode.wire.keys import NodeKey, node_key_text
from derpnode.wire.payloads import ping
from tests.conformance.scene import PATIENCE, Place, new_key
from tests.conformance.test_websocket import opened


Hook = Callable[..., Awaitable[str]]

ALLOW = b'{"Allow":true}'


class Script:
    """An HTTP server that says what it is told to, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.status = "200 OK"
        self.body = ALLOW
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        size = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        self.asked.append(head + await reader.readexactly(size))
        await self.may_answer.wait()
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + self.body)
        writer.close()


@pytest.fixture
async def script() -> Script:
    """What the hook says."""
    return Script()


@pytest.fixture
async def url(script: Script) -> AsyncIterator[str]:
    """A hook as a URL."""
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/verify"
        script.may_answer.set()


def asking(url: str, *more: str) -> list[str]:
    """Settings that have a URL asked."""
    return ["admission.mode=any", f"admission.urls=['{url}']", *more]


async def test_c46_the_question(start, script, url):
    """Derper's words, and no others. Source: protocol.md 5.10."""
    _, place = await start(*asking(url))
    private = new_key()
    assert await place.accepts(ClientInfo(), private)
    head, _, body = script.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /verify HTTP/1.1\r\n")
    assert b"content-type" not in head.lower()
    expected = {"NodePublic": node_key_text(private.public), "Source": "127.0.0.1"}
    assert body == json.dumps(expected, separators=(",", ":")).encode()


@pytest.mark.parametrize("body", [ALLOW, b'{"allow":true}', b'{"ALLOW":true,"x":1}'])
async def test_c46_yes(start, script, url, body):
    """In Go's way of matching names."""
    script.body = body
    _, place = await start(*asking(url))
    assert await place.accepts(ClientInfo())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b'{"Allow":false}'),
        ("200 OK", b"{}"),
        ("200 OK", b'{"Allow":"true"}'),
        ("200 OK", b"not JSON"),
        ("200 OK", b""),
        ("204 No Content", b""),
        ("403 Forbidden", ALLOW),
        ("500 Oops", ALLOW),
        ("302 Found", ALLOW),
    ],
)
async def test_c46_no(start, script, url, status, body):
    """Also where a proxy in between answers, and the client was never seen."""
    script.status, script.body = status, body
    _, place = await start(*asking(url))
    assert not await place.accepts(ClientInfo())


@pytest.mark.parametrize(
    "location", ["http://[", "//host:port", "http://\x80/", "//[]@"]
)
async def test_c46_a_redirect_to_nonsense(start, script, url, location):
    """Is a no, and the node lives on."""
    script.status = f"307 Temporary Redirect\r\nLocation: {location}"
    node, place = await start(*asking(url))
    assert not await place.accepts(ClientInfo())
    assert node.state == "serving"
    await place.login(mesh=True)


async def test_c46_nobody_answers(start, script, url):
    """Unlike derper by default, we stay closed to strangers."""
    script.may_answer.clear()
    _, place = await start(*asking(url, "admission.timeout=0.3"))
    assert not await place.accepts(ClientInfo())
    _, place = await start(*asking("http://127.0.0.1:1/", "admission.timeout=0.3"))
    assert not await place.accepts(ClientInfo())


async def test_c46_mesh_peers_are_not_asked_about(start, script, url):
    """Source: protocol.md 5.10."""
    script.body = b"{}"
    _, place = await start(*asking(url))
    assert await place.accepts(ClientInfo(place.mesh_key))
    assert script.asked == []


async def test_c46_disallowed_names(start, script, url):
    """Before anybody is asked; mesh peers may; the empty entry means nobody."""
    _, place = await start(*asking(url, "derp.disallow_app_names=[' bad ', '']"))
    assert not await place.accepts(ClientInfo(app_name="bad"))
    assert script.asked == []
    assert await place.accepts(ClientInfo(app_name="Bad"))
    assert await place.accepts(ClientInfo())
    assert await place.accepts(ClientInfo(place.mesh_key, app_name="bad"))


async def frames_meanwhile(place: Place, script: Script, peer, info: bytes, say) -> int:
    """Say more than ClientInfo while the hook thinks; count Pongs once it has."""
    script.may_answer.clear()
    await say(info)
    async with asyncio.timeout(PATIENCE):
        while not script.asked:  # noqa: ASYNC110 - the hook does not tell
            await asyncio.sleep(0.01)
    for _ in range(3):
        await say(ping(b"12345678"))
        await asyncio.sleep(0.02)
    script.may_answer.set()
    return sum([(await peer.until(0x13)) == b"12345678" for _ in range(3)])


async def test_c46_frames_may_follow_before_the_answer(start, script, url):
    """They wait for it. Source: protocol.md 4.3."""
    _, place = await start(*asking(url))
    peer = await place.upgraded()
    info = place.client_info(new_key(), ClientInfo())
    assert await frames_meanwhile(place, script, peer, info, peer.say) == 3


async def test_c46_frames_may_follow_inside_a_websocket(start, script, url):
    """There, too."""
    _, place = await start(*asking(url))
    socket = await opened(place)
    info = place.client_info(socket.private, ClientInfo())
    assert await frames_meanwhile(place, script, socket, info, socket.frames) == 3


@pytest.fixture
async def tailscaled(script: Script, tmp_path) -> AsyncIterator[str]:
    """A hook as tailscaled's socket."""
    path = tmp_path / "tailscaled.sock"
    async with await asyncio.start_unix_server(script.serve, path):
        yield f"admission.tailscaled=['{path}']"


def whois(key: NodeKey) -> bytes:
    """What tailscaled says of a node that it knows."""
    return json.dumps({"Node": {"Key": node_key_text(key)}}).encode()


async def test_c47_whois(start, script, tailscaled):
    """The request is derper's, and a 200 is a yes."""
    _, place = await start("admission.mode=any", tailscaled)
    private = new_key()
    script.body = whois(private.public)
    assert await place.accepts(ClientInfo(), private)
    head = script.asked[0].decode().split("\r\n")
    key = private.public.hex()
    assert head[0] == f"GET /localapi/v0/whois?addr=nodekey%3A{key} HTTP/1.1"
    assert "Host: local-tailscaled.sock" in head
    assert "Tailscale-Cap: 148" in head


async def test_c47_a_stranger(start, script, tailscaled):
    """A 404 is a no."""
    script.status, script.body = "404 Not Found", b"no match for IP:port\n"
    _, place = await start("admission.mode=any", tailscaled)
    assert not await place.accepts(ClientInfo())


async def test_c47_no_tailscaled(start, tmp_path):
    """Nobody is let in that was not seen before."""
    path = tmp_path / "missing.sock"
    _, place = await start("admission.mode=any", f"admission.tailscaled=['{path}']")
    assert not await place.accepts(ClientInfo())
