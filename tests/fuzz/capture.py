"""Records what stock Tailscale clients say, as seeds: ``python -m tests.fuzz.capture``.

A node runs in this process with an ear at each place where a fuzzer begins: the bytes
before a login, what a ClientInfo says, the frames after it, and STUN. The clients are
those of the interop suite, which build them if need be.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from derpnode.config import load_config
from derpnode.node import Node
from derpnode.plane.contract import Bytes
from derpnode.plane.python import packets
from derpnode.plane.python.connection import Connection
from derpnode.server import stun
from derpnode.server.front import Front
from derpnode.wire import handshake
from derpnode.wire.frames import HEADER_SIZE, FrameType
from tests.conformance.scene import Running, place_of, settings
from tests.fuzz.seeds import write
from tests.support.peers import peer


CLIENTS = ("1.102", "1.104")
CHECKS = (
    *("connect", "fast-start", "no-fast-start", "tls-1.2", "websocket"),
    *("latency-check", "captive-portal", "stun", "to-oneself", "ping", "prober"),
    *("duplicate-speaker", "not-here", "note-preferred", "watch-flood", "forward"),
    *("close-peer", "app-name"),
)

LONGEST = 2000
"""Bytes of a seed: a fuzzer gets nowhere from longer ones."""


class Ears:
    """What was heard, by the name of the fuzzer that it is for."""

    def __init__(self) -> None:
        self.heard: dict[str, dict[bytes, None]] = {}
        self._frames: dict[int, bytearray] = {}

    def hear(self, target: str, data: bytes) -> None:
        """Keep a seed."""
        if 0 < len(data) <= LONGEST:
            self.heard.setdefault(target, {})[data] = None

    def end(self) -> None:
        """Keep what connections said in all."""
        for stream in self._frames.values():
            self.hear("frames", _whole_frames(bytes(stream)))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen until the block ends."""
        received, frames = Front.received, packets.Router.frames
        members, answer = handshake._members, stun.parse_binding_request

        def hear_guest(front: Front, event: Bytes) -> None:
            head, end, _ = event.data.partition(b"\r\n\r\n")
            if end:
                self.hear("head", head + end)
            received(front, event)

        def hear_frames(
            router: packets.Router, c: Connection, buffer: bytearray, end: int
        ) -> int:
            heard = bytes(buffer[len(c.rest) : end])
            self._frames.setdefault(c.id, bytearray()).extend(heard)
            return frames(router, c, buffer, end)

        def hear_info(body: bytes) -> tuple[tuple[str, object], ...]:
            self.hear("client_info", body)
            return members(body)

        def hear_stun(data: bytes | memoryview) -> bytes | None:
            self.hear("stun", bytes(data))
            return answer(data)

        Front.received = hear_guest  # type: ignore[method-assign]
        packets.Router.frames = hear_frames  # type: ignore[method-assign]
        handshake._members = hear_info
        stun.parse_binding_request = hear_stun
        try:
            yield
        finally:
            Front.received = received  # type: ignore[method-assign]
            packets.Router.frames = frames  # type: ignore[method-assign]
            handshake._members = members
            stun.parse_binding_request = answer


def _whole_frames(stream: bytes) -> bytes:
    """Take frames from the front of a stream; the data of packets is cut short."""
    out = bytearray()
    while len(stream) >= HEADER_SIZE:
        kind, size = stream[0], int.from_bytes(stream[1:HEADER_SIZE])
        payload, stream = (
            stream[HEADER_SIZE : HEADER_SIZE + size],
            stream[HEADER_SIZE + size :],
        )
        keep = 80 if kind in (FrameType.SEND_PACKET, FrameType.FORWARD_PACKET) else 300
        payload = payload[:keep]
        out += bytes([kind]) + len(payload).to_bytes(4) + payload
        if len(out) > LONGEST // 2:
            break
    return bytes(out)


async def capture(folder: Path) -> Ears:
    """Have every check run by every client."""
    ears = Ears()
    node = Node(load_config(None, {}, settings(folder)))
    runs = Running(node)
    with ears.listening():
        await runs.serving()
        document = folder / "region.json"
        document.write_text(json.dumps(_document(node, folder)))
        for client in CLIENTS:
            for name in CHECKS:
                process = await asyncio.create_subprocess_exec(
                    *(peer(f"check-{client}"), "--region", document, "--run", name),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
                output, errors = await process.communicate()
                print(client, (output or errors).decode().strip())  # noqa: T201
        await runs.stop()
    ears.end()
    return ears


def _document(node: Node, folder: Path) -> dict[str, object]:
    """Describe the node as `derpctl demo` would."""
    place, entry = place_of(node), node.map_entry()
    (folder / "derpmap.json").write_text(
        json.dumps(
            {"Regions": {"900": {"RegionID": 900, "RegionCode": "x", "Nodes": [entry]}}}
        )
    )
    return {
        "region": 900,
        "mesh_key_file": str(folder / "mesh.key"),
        "derp_map_file": str(folder / "derpmap.json"),
        "ca_file": None,
        "nodes": [
            {
                "name": "900a",
                "host": "127.0.0.1",
                "derp_port": place.derp_port,
                "http_port": place.http_port,
                "stun_port": place.stun_port,
                "pin": entry["CertName"],
                "admin": "http://" + node.listeners()["admin"][-1].rpartition("/")[2],
                "pid": 0,
            }
        ],
    }


def main() -> int:
    """Record, and write what is new of its kind."""
    with tempfile.TemporaryDirectory() as folder:
        ears = asyncio.run(capture(Path(folder)))
    for target, seeds in ears.heard.items():
        write(target, list(seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
