"""Those who watch who is on a node, as its siblings do; one of them may be stuck."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence, Set

from derpnode.client import Client, ClientTls, PeerGone, PeerPresent, connect
from derpnode.wire.keys import KEY_SIZE, MeshKey, NodeKey, PrivateKey
from tests.load.node import Node


_LEAST_BUFFER = 4096


def _fresh_key() -> PrivateKey:
    return PrivateKey.from_seed(os.urandom(KEY_SIZE))


class Watcher:
    """Knows which clients are on a node, and when it heard the last news.

    Args:
        private: Who it is itself.
        others: Those who watch as well, and are no clients.
    """

    def __init__(self, private: PrivateKey, others: Set[NodeKey]) -> None:
        self._private = private
        self._others = others
        self.present: set[NodeKey] = set()
        self.heard = 0.0
        """When it last heard that somebody came; seconds, monotonic."""

    async def run(self, node: Node) -> None:
        """Watch until cancelled."""
        async with _watching(node, self._private) as client:
            while True:
                match await client.recv():
                    case PeerPresent(key=key) if key not in self._others:
                        self.present.add(key)
                        self.heard = time.monotonic()
                    case PeerGone(key=key):
                        self.present.discard(key)


@contextlib.asynccontextmanager
async def _watching(node: Node, private: PrivateKey) -> AsyncGenerator[Client, None]:
    host, port = node.address.rsplit(":", 1)
    mesh_key = MeshKey.parse(node.log_file.with_name("mesh.key").read_text("ascii"))
    async with connect(
        host,
        int(port),
        private=private,
        tls=ClientTls(node.pin),
        mesh_key=mesh_key,
        can_ack_pings=False,
    ) as client:
        await client.watch()
        yield client


@contextlib.contextmanager
def watchers(node: Node, count: int) -> Iterator[Sequence[Watcher]]:
    """Have some watch while the block runs."""
    keys = [_fresh_key() for _ in range(count)]
    found = [Watcher(key, {one.public for one in keys}) for key in keys]
    with _beside(*(watcher.run(node) for watcher in found)):
        yield found


@contextlib.contextmanager
def stuck(node: Node, times: int) -> Iterator[None]:
    """Have one watch that reads nothing, while the block runs.

    Args:
        node: Where.
        times: How often it asks for everybody, at once.
    """
    begun = threading.Event()

    async def run() -> None:
        async with _watching(node, _fresh_key()) as client:
            transport = client.stream._transport
            transport.pause_reading()
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LEAST_BUFFER)
            for _ in range(times):
                await client.watch()
            begun.set()
            await asyncio.Event().wait()

    with _beside(run()):
        assert begun.wait(30)
        yield


@contextlib.contextmanager
def _beside(*jobs: Coroutine[None, None, None]) -> Iterator[None]:
    """Run something in a thread of its own; its end before the block's is an error."""
    runner = asyncio.Runner()
    loop = runner.get_loop()
    over = asyncio.Event()
    failed: list[BaseException] = []

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
            await over.wait()
            for task in tasks:
                task.cancel()

    def work() -> None:
        try:
            runner.run(run())
        except BaseException as exc:  # noqa: BLE001 - told in the other thread
            failed.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(over.set)
        thread.join()
        runner.close()
    if failed:
        raise failed[0]
