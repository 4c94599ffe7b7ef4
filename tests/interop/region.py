"""Regions on loopback, ours and stock derper's, as interop tests are told of them.

All come with the JSON document that ``derpctl demo -o json`` prints, so that whatever
asks a relay cannot tell whose it is.
"""

import contextlib
import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal, TypedDict

import pytest


Tls = Literal["pinned", "ca"]
Server = Literal["ours", "derper-1.102", "derper-1.104"]

# Seconds that a relay may take to be ready, and to be gone; the machine may be busy.
START_LIMIT = 60.0
STOP_LIMIT = 10.0

LOOPBACK = "127.0.0.1"


class Node(TypedDict):
    """One relay in the document of a demo."""

    name: str
    host: str
    derp_port: int
    http_port: int
    stun_port: int
    pin: str
    admin: str
    pid: int


class Demo(TypedDict):
    """What of that document is used here."""

    region: int
    mesh_key_file: str
    derp_map_file: str
    ca_file: str | None
    nodes: list[Node]


@dataclass(frozen=True)
class Region:
    """A running region and how to reach it."""

    document: Path
    demo: Demo

    @property
    def map_file(self) -> Path:
        """The region's DERP map."""
        return Path(self.demo["derp_map_file"])

    @property
    def environment(self) -> dict[str, str]:
        """What Go programs need to trust the region's certificates."""
        ca_file = self.demo["ca_file"]
        return os.environ | ({"SSL_CERT_FILE": ca_file} if ca_file else {})

    def metric(self, name: str) -> float:
        """Read a metric of all nodes together, by derper's name."""
        return sum(metric(node, name) for node in self.demo["nodes"])


def metric(node: Node, name: str) -> float:
    """Read one of a node's metrics by derper's name."""
    for path in ("/metrics", "/debug/varz"):
        for line in (ask(node, path) or "").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    pytest.fail(f"{node['admin']} shows no {name}")


def ask(node: Node, path: str, method: str = "GET") -> str | None:
    """Return what the admin listener of a node answers, if that is 200."""
    connection = http.client.HTTPConnection(
        node["admin"].removeprefix("http://"), timeout=5
    )
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode()
        return body if response.status == HTTPStatus.OK else None


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends; what it says on stderr goes to the log."""
    with (
        log.open("a") as stderr,
        subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """End a program in good order; if it does not end, at once, and complain."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@contextlib.contextmanager
def demo(
    folder: Path, tls: Tls, settings: Sequence[str] = (), nodes: int = 1
) -> Iterator[Region]:
    """Run our own region by ``derpctl demo`` until the block ends.

    Args:
        folder: Where it keeps its files; made if need be.
        tls: How clients know it.
        settings: ``KEY=VALUE`` for the configuration of every node.
        nodes: How many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        *(sys.executable, "-m", "derpctl", "demo", "--nodes", str(nodes), "--hold"),
        *("-o", "json", "--dir", folder, "--tls", tls),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    log = folder / "demo.log"
    with running(command, log) as process:
        line = _line(process, log)
        document = folder / "region.json"
        document.write_text(line)
        found: Demo = json.loads(line)
        try:
            yield Region(document, found)
        finally:
            _end_demo(process, found)


def _line(process: subprocess.Popen[str], log: Path) -> str:
    """The one line that a demo prints once everything is ready."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(START_LIMIT)
    assert ready, f"not ready in {START_LIMIT} s:\n{log.read_text()}"
    line = process.stdout.readline()
    assert line, f"ended instead of being ready:\n{log.read_text()}"
    return line


def _end_demo(process: subprocess.Popen[str], found: Demo) -> None:
    """A held demo stops all it started within 5 s of SIGTERM, and says nothing more."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        for node in found["nodes"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node["pid"], signal.SIGKILL)
        raise
    assert process.stdout is not None
    assert process.stdout.read() == ""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def await_port(process: subprocess.Popen[str], port: int, log: Path) -> None:
    """Return once the process, which must not end before, accepts connections."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
            return
        assert process.poll() is None, f"ended at once:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not listening:\n{log.read_text()}"
        time.sleep(0.02)
