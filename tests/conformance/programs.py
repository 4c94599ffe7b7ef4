"""Relays as processes of their own: ours, and the original."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from derpnode.wire.keys import parse_identity
from tests.conformance.scene import LOOPBACK, MESH_KEY, PATIENCE, Place, settings
from tests.support.peers import peer


DERPD = (sys.executable, "-m", "derpmesh.daemon")

START = 30.0
"""Seconds that a relay may take to listen."""


@contextlib.contextmanager
def program(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; it must stop when it is told to."""
    with (
        log.open("a") as stderr,
        subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
    ):
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        finally:
            process.kill()


def free_ports(count: int) -> list[int]:
    """Find ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the process accepts connections; it must not end before."""
    deadline = time.monotonic() + START
    while True:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
            return
        assert process.poll() is None, f"ended at once:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not listening:\n{log.read_text()}"
        time.sleep(0.02)


@contextlib.contextmanager
def derpd(
    folder: Path, *more: str, config: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Place]]:
    """Run our relay; its log is `derpd.log`."""
    ports = free_ports(3)
    listen = zip(("derp", "http", "stun"), ports, strict=True)
    wanted = [f"{name}.listen=['{LOOPBACK}:{port}']" for name, port in listen]
    command: list[str | Path] = [*DERPD]
    if config is not None:
        command += ["--config", config]
    for setting in settings(folder, *wanted, *more):
        command += ["--set", setting]
    log = folder / "derpd.log"
    with program(command, log) as process:
        await_port(process, ports[0], log)
        yield process, _place(folder, ports, MESH_KEY)


@contextlib.contextmanager
def derper(folder: Path) -> Iterator[Place]:
    """Run stock derper, with a certificate that clients pin.

    Raises:
        MissingTool: It cannot be built here.
    """
    ports = free_ports(3)
    mesh_key = folder / "mesh.key"
    mesh_key.write_text(MESH_KEY.hex())
    command: list[str | Path] = [
        *(peer("derper-1.104"), "-hostname", LOOPBACK, "-home", "blank"),
        *("-certmode", "manual", "-certdir", folder, "-c", folder / "derper.key"),
        *("-a", f"{LOOPBACK}:{ports[0]}", "-http-port", str(ports[1])),
        *("-stun-port", str(ports[2]), "-mesh-psk-file", mesh_key),
    ]
    log = folder / "derper.log"
    with program(command, log) as process:
        await_port(process, ports[0], log)
        yield _place(folder, ports, MESH_KEY)


def _place(folder: Path, ports: Sequence[int], mesh_key: bytes) -> Place:
    identity = parse_identity((folder / "derper.key").read_text())
    return Place(*ports, identity.public, mesh_key)
