"""Relays that a benchmark starts afresh for each run, pinned to one CPU."""

import contextlib
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.interop.region import Node, Server
from tests.interop.relays import meshed
from tests.support.peers import MissingTool


LOOPBACK = "127.0.0.1"

# Seconds that a relay may take to be ready, and to be gone.
START_LIMIT = 60.0
STOP_LIMIT = 10.0


@dataclass(eq=False)
class RelayNotStarted(Exception):
    """A relay did not come up."""

    relay: str
    reason: str

    def __str__(self) -> str:
        return f"{self.relay} did not start: {self.reason}"


@dataclass(frozen=True)
class Endpoint:
    """A relay that is up, and where."""

    address: str
    """Its IPv4 address."""
    host: str
    """The name that its certificate is for."""
    derp_port: int
    stun_port: int
    pid: int
    """The process whose CPU time and memory count, with its children."""
    other: "Endpoint | None" = None
    """A second node that is meshed with this one."""


class Relay(ABC):
    """A kind of relay; each :meth:`up` is a new one."""

    name: str

    @abstractmethod
    def up(self, cpu: int) -> contextlib.AbstractContextManager[Endpoint]:
        """Run a new relay on one CPU while the context lasts.

        Raises:
            RelayNotStarted: It was not ready in time, or ended.
        """


class Derper(Relay):
    """Stock ``derper`` with TLS on a certificate that it makes for the address."""

    def __init__(self, binary: Path, name: str = "derper") -> None:
        self.name = name
        self._binary = binary

    @contextlib.contextmanager
    def up(self, cpu: int) -> Iterator[Endpoint]:
        """Run a new derper; see :class:`Relay`."""
        derp_port, stun_port = (
            free_port(socket.SOCK_STREAM),
            free_port(socket.SOCK_DGRAM),
        )
        with scratch() as folder:
            command = [
                *(str(self._binary), "-a", f"{LOOPBACK}:{derp_port}"),
                *("-stun-port", str(stun_port), "-http-port", "-1"),
                *("-certmode", "manual", "-certdir", str(folder)),
                *("-hostname", LOOPBACK, "-c", str(folder / "derper.key")),
            ]
            with running(self.name, command, cpu, folder) as process:
                _await_port(self.name, process, derp_port, folder)
                yield Endpoint(LOOPBACK, LOOPBACK, derp_port, stun_port, process.pid)


class Demo(Relay):
    """A node of ours, by ``derpctl demo`` or what else prints the same document.

    Args:
        command: Words; ``{dir}`` stands for a folder that is made for the run.
    """

    def __init__(self, command: Sequence[str], name: str = "ours") -> None:
        self.name = name
        self._command = command

    @classmethod
    def parse(cls, text: str) -> "Demo":
        """Take a command as a shell would."""
        return cls(shlex.split(text))

    @contextlib.contextmanager
    def up(self, cpu: int) -> Iterator[Endpoint]:
        """Run a new demo of one node; see :class:`Relay`."""
        with scratch() as folder:
            command = [word.replace("{dir}", str(folder)) for word in self._command]
            with running(self.name, command, cpu, folder) as process:
                endpoint = self._endpoint(_first_line(self.name, process, folder))
                yield endpoint
            if process.returncode == -signal.SIGKILL:
                # It could not end its node any more.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(endpoint.pid, signal.SIGKILL)

    def _endpoint(self, line: bytes) -> Endpoint:
        try:
            node = json.loads(line)["nodes"][0]
            host, derp_port = node["host"], int(node["derp_port"])
            address = socket.gethostbyname(host)
            return Endpoint(address, host, derp_port, node["stun_port"], node["pid"])
        except (ValueError, LookupError, TypeError, OSError) as error:
            start = line[:200].decode(errors="replace")
            reason = f"its document has no usable node ({error!r}): {start}"
            raise RelayNotStarted(self.name, reason) from error


class Meshed(Relay):
    """Two relays that forward to each other, both on the one CPU.

    Args:
        server: Whose they are.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._server = server

    @contextlib.contextmanager
    def up(self, cpu: int) -> Iterator[Endpoint]:
        """Run two new relays; see :class:`Relay`."""
        servers = [self._server] * 2
        with scratch() as folder, meshed(servers, folder, "ca", start=False) as region:
            for relay in region.relays.values():
                relay.command = [*_pinned(cpu), *relay.command]
            try:
                region.start()
            except AssertionError as error:
                raise RelayNotStarted(self.name, str(error)) from error
            near, far = (relay.node for relay in region.relays.values())
            yield _endpoint(near, _endpoint(far))


def _endpoint(node: Node, other: Endpoint | None = None) -> Endpoint:
    address = socket.gethostbyname(node["host"])
    ports = node["derp_port"], node["stun_port"]
    return Endpoint(address, node["host"], *ports, node["pid"], other)


DEMO = (
    *(sys.executable, "-m", "derpctl", "demo", "--nodes", "1", "--hold"),
    *("-o", "json", "--dir", "{dir}"),
)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for one run."""
    with tempfile.TemporaryDirectory(prefix="derpmesh-bench-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], cpu: int, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on one CPU; end it and nothing else afterwards."""
    pinned = [*_pinned(cpu), *command]
    with (folder / "bench.log").open("wb") as log:
        try:
            process = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        except OSError as error:
            raise RelayNotStarted(name, str(error)) from error
    with process:
        try:
            yield process
        finally:
            _stop(process)


def _pinned(cpu: int) -> list[str]:
    """Give the words that make a command run on one CPU.

    Raises:
        MissingTool: Nothing here can.
    """
    taskset = shutil.which("taskset")
    if taskset is None:
        raise MissingTool("taskset", "install util-linux")
    return [taskset, "-c", str(cpu)]


def _stop(process: subprocess.Popen[bytes]) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        process.send_signal(ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT)
            return


def free_port(kind: socket.SocketKind) -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(
    name: str, process: subprocess.Popen[bytes], port: int, folder: Path
) -> None:
    limit = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < limit:
        with contextlib.suppress(OSError):
            socket.create_connection((LOOPBACK, port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RelayNotStarted(name, _last_words(folder))


def _first_line(name: str, process: subprocess.Popen[bytes], folder: Path) -> bytes:
    output: IO[bytes] | None = process.stdout
    if output is None:
        raise RelayNotStarted(name, "it has no output")
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        # A document is one write, so a readable pipe holds all of its line.
        line = output.readline() if selector.select(START_LIMIT) else b""
    if not line:
        raise RelayNotStarted(name, _last_words(folder))
    return line


def _last_words(folder: Path) -> str:
    lines = (folder / "bench.log").read_text(errors="replace").splitlines()
    return "\n".join(["its last lines:", *lines[-8:]]) if lines else "it said nothing"
