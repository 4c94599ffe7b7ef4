"""Real nodes of one region on loopback, and the clients that use them.

Each node has an IP address of its own, so that ports are the usual ones and are free.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path

import aiohttp
import yaml

from derpmesh.config import DaemonConfig, load_daemon_config
from derpmesh.membership.model import Member, Region
from derpmesh.membership.source import source_of
from derpmesh.region import MeshRegion
from derpnode import client as derp
from derpnode.client import ClientError, ClientTls, Message, PeerGone, Received
from derpnode.node import Node
from derpnode.server.certificates import load_current
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey
from derpnode.wire.stun import binding_request
from tests.mesh.membership.registries import NOTHING, Wants, region_text


logger = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds until something that must happen did not."""

LOOK = 0.01
"""Seconds between two looks at what tells nobody."""

DERP_PORT, STUN_PORT, ADMIN_PORT = 4433, 3478, 9090

REGION = Region(id=900, code="mesh", name="Mesh")
MESH_KEY = MeshKey(b"\x5a" * 32)
OTHER_MESH_KEY = MeshKey(b"\xa5" * 32)

_SECOND, _THIRD = 64 + (os.getpid() >> 8) % 128, os.getpid() % 256
_numbers = itertools.cycle(range(1, 255))


def fresh_address() -> str:
    """Give an address of loopback that no other process listens on."""
    return f"127.{_SECOND}.{_THIRD}.{next(_numbers)}"


def fresh_key() -> PrivateKey:
    """Make the key of a client."""
    return PrivateKey.from_seed(os.urandom(32))


class Person:
    """A client that is logged in, and writes down what it is told."""

    def __init__(self, client: derp.Client) -> None:
        self.client = client
        self.key = client.key
        self.messages: list[Message] = []
        self.ended = ""
        """Why the connection is over; empty while it is not."""

        self.ended_at = 0.0
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Take messages until the connection is over."""
        try:
            while True:
                self.messages.append(await self.client.recv())
                self._news.set()
        except ClientError as exc:
            self.ended, self.ended_at = str(exc), time.monotonic()
            self._news.set()

    def freeze(self) -> None:
        """Become a ghost: the connection stays, and nothing is ever said again."""
        self.client.stream.answers_pings = False

    async def send(self, to: "Person", data: bytes) -> None:
        """Send a packet."""
        await self.client.send(to.key, data)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until messages, or the end, have made a condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def told(self, message: Message) -> None:
        """Wait until this was told."""
        await self.until(lambda: message in self.messages)

    def packets(self, source: "Person | None" = None) -> list[bytes]:
        """Give the packets that came, from one or from all."""
        return [
            found.data
            for found in self.messages
            if isinstance(found, Received)
            and (source is None or found.source == source.key)
        ]

    def gone(self) -> list[NodeKey]:
        """Give the keys that were said to be gone."""
        return [found.key for found in self.messages if isinstance(found, PeerGone)]


class Place:
    """One node: where it is, what it is told, and how it is asked."""

    def __init__(
        self, name: str, folder: Path, region_file: Path, host: str | None = None
    ) -> None:
        self.name = name
        self.host = host or fresh_address()
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self._region_file = region_file
        self.config = self.configure()

    def configure(
        self, mesh_key: MeshKey = MESH_KEY, **more: dict[str, object]
    ) -> DaemonConfig:
        """Write the configuration."""
        key_file = self.folder / "mesh.key"
        key_file.write_text(mesh_key.text())
        key_file.chmod(0o600)
        is_private = self.host.startswith("127.")
        tree = {
            "node": {"name": self.name, "host": self.host},
            "region": REGION.plain(),
            "state_dir": str(self.folder),
            "derp": {"listen": [f"{self.host}:{DERP_PORT}"]},
            "http": {"enabled": False},
            "stun": {"listen": [f"{self.host}:{STUN_PORT}"]},
            "admin": {"listen": [f"{self.host}:{ADMIN_PORT}"] if is_private else []},
            "admission": {"mode": "open", "i_know_this_is_public": not is_private},
            "mesh": {"key_file": str(key_file)},
            "registry": {"file": str(self._region_file)},
            "drain_grace": 0.5,
        }
        self.config_file.write_text(yaml.safe_dump(tree | more))
        self.config = load_daemon_config(self.config_file, {})
        return self.config

    @property
    def config_file(self) -> Path:
        """Where the configuration is."""
        return self.folder / "derpd.yaml"

    @property
    def pin(self) -> str:
        """The pin of its certificate, which is made if need be."""
        identity = load_current(self.config)
        assert identity is not None
        return identity.pin

    @property
    def member(self) -> Member:
        """Its entry for the region's file."""
        return Member(
            name=self.name,
            host=self.host,
            ipv6="none",
            derp_port=DERP_PORT,
            stun_port=STUN_PORT,
            pin=self.pin,
        )

    def copy_identity(self, other: "Place") -> None:
        """Take over the key of another node, as a copied disk does."""
        self.folder.joinpath("derper.key").write_bytes(
            other.folder.joinpath("derper.key").read_bytes()
        )
        self.folder.joinpath("derper.key").chmod(0o600)

    # Asking.

    async def ask(
        self, path: str, method: str = "GET", body: object = None
    ) -> tuple[int, dict]:
        """Ask the admin listener; give the status and the document."""
        url = f"http://{self.host}:{ADMIN_PORT}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body) as answer,
        ):
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else {"text": text}

    async def links(self) -> dict[str, dict]:
        """Give the links, by peer."""
        _, found = await self.ask("/v1/links")
        return {link["peer"]: link for link in found["items"]}

    async def refuses(self) -> bool:
        """Whether TCP connections are refused."""
        try:
            _, writer = await asyncio.open_connection(self.host, DERP_PORT)
        except ConnectionRefusedError:
            return True
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return False

    async def answers_stun(self, within: float) -> bool:
        """Whether a binding request is answered in so many seconds."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((self.host, STUN_PORT))
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                async with asyncio.timeout(within):
                    await loop.sock_sendall(sock, binding_request(b"T" * 12))
                    await loop.sock_recv(sock, 1500)
                    return True
        return False


class LocalNode(Place):
    """A node in this process."""

    node: Node
    _task: asyncio.Task[None]

    async def start(
        self,
        spawn: Callable[[Coroutine], asyncio.Task[None]],
        state: str = "serving",
    ) -> None:
        """Run it; return once it serves, or is in another state."""
        self.node = Node(self.config)
        assert self.node.mesh_keys is not None
        source = source_of(self.config, self.node)
        MeshRegion(self.node, self.config, self.node.mesh_keys, source)
        self._task = spawn(self.node.run())
        await until(lambda: self.node.state == state)

    async def stop(self) -> None:
        """Stop it in good order."""
        self.node.stop()
        self.node.stop()
        await self._task

    @property
    def states(self) -> dict[str, str]:
        """What each link is doing, by peer."""
        return {
            str(link["peer"]): str(link["state"]) for link in self.node.region.links()
        }

    @property
    def ups(self) -> set[str]:
        """The peers that are linked, and have told who is there."""
        return {
            str(link["peer"])
            for link in self.node.region.links()
            if link["state"] == "up" and link["round_trip"] is not None
        }


class ChildNode(Place):
    """A node in a process of its own, which can be killed."""

    process: subprocess.Popen[bytes]

    async def start(self) -> None:
        """Run it; return once it serves."""
        with (self.folder / "derpd.log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                self.command(), stdout=log, stderr=log
            )
        async with asyncio.timeout(2 * PATIENCE):
            while not await self._serves():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK)

    def command(self) -> list[str]:
        """What is run."""
        daemon = [sys.executable, "-m", "derpmesh.daemon"]
        return [*daemon, "--config", str(self.config_file)]

    async def _serves(self) -> bool:
        assert self.process.poll() is None, (self.folder / "derpd.log").read_text()
        try:
            return await self.is_ready()
        except OSError:
            return False

    async def is_ready(self) -> bool:
        """Ask whether it serves.

        Raises:
            OSError: There is no answer.
        """
        status, _ = await self.ask("/readyz")
        return status == 200

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        os.kill(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """See that it is gone."""
        if self.process.poll() is None:
            self.kill()
        self.process.wait(PATIENCE)


class Wire:
    """A way to a node that can go dark: what is under way then arrives later."""

    def __init__(self, to: Place) -> None:
        self.host = fresh_address()
        self._to = to
        self._lit_there = asyncio.Event()
        self._lit_back = asyncio.Event()
        self.light()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncGenerator["Wire", None]:
        """Lead connections to the node until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(self._lead(tasks))
            yield self
            job.cancel()

    def darken(self, *, there: bool = True, back: bool = True) -> None:
        """Let nothing through from now on, and tell nobody.

        Args:
            there: On the way to the node.
            back: On the way from it.
        """
        if there:
            self._lit_there.clear()
        if back:
            self._lit_back.clear()

    def light(self) -> None:
        """Let everything through."""
        self._lit_there.set()
        self._lit_back.set()

    async def _lead(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        jobs: list[asyncio.Task[None]] = []
        with contextlib.ExitStack() as sockets:
            address = (self.host, DERP_PORT)
            server = sockets.enter_context(socket.create_server(address))
            server.setblocking(False)
            try:
                while True:
                    near, _ = await loop.sock_accept(server)
                    far = socket.socket()
                    sockets.enter_context(near)
                    sockets.enter_context(far)
                    far.setblocking(False)
                    with contextlib.suppress(ConnectionError):
                        await loop.sock_connect(far, (self._to.host, DERP_PORT))
                    there = self._carry(near, far, self._lit_there)
                    back = self._carry(far, near, self._lit_back)
                    jobs += map(tasks.create_task, (there, back))
            finally:
                for job in jobs:
                    job.cancel()

    async def _carry(
        self, one: socket.socket, other: socket.socket, lit: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(one, 1 << 16):
                await lit.wait()
                await loop.sock_sendall(other, data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


class Cluster:
    """The nodes of a region and their clients; whoever is left at the end is ended."""

    def __init__(self, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self.file = folder / "region.yaml"
        self.nodes: dict[str, LocalNode] = {}
        self._stack = stack
        self._tasks: set[asyncio.Task[None]] = set()

    def place(self, letter: str, host: str | None = None) -> LocalNode:
        """Prepare a node, on an address of its own if none is given."""
        found = LocalNode(f"900{letter}", self.folder, self.file, host)
        self.nodes[letter] = found
        return found

    def child(self, letter: str) -> ChildNode:
        """Prepare a node in a process of its own."""
        return ChildNode(f"900{letter}", self.folder, self.file)

    def again(self, place: Place) -> LocalNode:
        """Prepare to start a node again, in this process."""
        letter = place.name[-1]
        found = LocalNode(place.name, self.folder, self.file, place.host)
        self.nodes[letter] = found
        return found

    def write(self, *places: Place, wants: Wants = NOTHING) -> None:
        """Put these nodes into the region's file, no others, and what is wanted."""
        members = [place.member for place in places]
        self.edit(region_text(REGION, *members, wants=wants))

    def edit(self, text: str) -> None:
        """Replace the region's file."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    async def start(self, place: Place) -> None:
        """Run a node until the end of the test."""
        if isinstance(place, LocalNode):
            await place.start(self.spawn)
        elif isinstance(place, ChildNode):
            self._stack.callback(place.end)
            await place.start()

    def spawn(self, job: Coroutine) -> asyncio.Task[None]:
        """Let something go on beside the test."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        return task

    async def connect(
        self, place: Place, private: PrivateKey | None = None, **about: object
    ) -> Person:
        """Log a client in."""
        connection = derp.connect(
            place.host,
            DERP_PORT,
            private=private or fresh_key(),
            tls=ClientTls(cert_name=place.pin),
            **about,
        )
        client = await self._stack.enter_async_context(connection)
        person = Person(client)
        self.spawn(person.listen())
        return person

    async def linked(self, *nodes: LocalNode) -> float:
        """Wait until each of these is linked to each; say how long it took."""
        names = {node.name for node in nodes}
        return await until(
            lambda: all(node.ups >= names - {node.name} for node in nodes)
        )

    async def end(self) -> None:
        """Stop every node, and whatever else goes on."""
        for node in self.nodes.values():
            if hasattr(node, "node"):
                node.node.stop()
                node.node.stop()
        await asyncio.sleep(0)
        nodes = {node._task for node in self.nodes.values() if hasattr(node, "_task")}
        for task in self._tasks - nodes:
            task.cancel()
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in found:
            if isinstance(one, Exception):
                raise one


@contextlib.asynccontextmanager
async def cluster() -> AsyncGenerator[Cluster, None]:
    """Make an empty region."""
    # pytest's own folders are too deep for Unix sockets.
    folder = Path(tempfile.mkdtemp(prefix="mesh-"))
    try:
        async with contextlib.AsyncExitStack() as stack:
            found = Cluster(folder, stack)
            try:
                yield found
            finally:
                await found.end()
                # A snapshot may still be on its way to the disk.
                await asyncio.get_running_loop().shutdown_default_executor()
    finally:
        shutil.rmtree(folder)


def routes(node: LocalNode) -> set[NodeKey]:
    """The keys that a node knows a way to over a link."""
    return set(node.node.relay._forwarders.keys())


async def until(condition: Callable[[], object], within: float = PATIENCE) -> float:
    """Wait until something is true that tells nobody; say how many seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(LOOK)
    return time.monotonic() - began


@contextlib.contextmanager
def measured(what: str) -> Iterator[Callable[[], float]]:
    """Tell the log how many seconds a block took; gives a stop watch."""
    began = time.monotonic()
    yield lambda: time.monotonic() - began
    logger.info("measured: %s: %.3f s", what, time.monotonic() - began)
