"""Starts and stops dockerd in a mode that leaves the machine's network alone.

No rule of a firewall, no forwarding, no default bridge, no published ports: containers
are reached by their addresses, and builds use the network of the machine.
"""

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.engine.home import Home
from tests.support.peers import MissingTool


logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds until an engine must be ready, or gone, on a busy machine."""

_QUIET = (
    "--iptables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--bridge=none",
    "--userland-proxy=false",
)

_SETTINGS = {"builder": {"gc": {"enabled": True, "defaultKeepStorage": "2GB"}}}

_STARTED: list[subprocess.Popen[bytes]] = []
"""Held, as a process that nobody holds is taken for a forgotten one."""

_TAIL = 20  # lines of the log that are worth showing


@dataclass(eq=False)
class NoEngine(MissingTool):
    """No engine answers, and none can be started here."""

    def __str__(self) -> str:
        return f"no Docker engine: {self.tool} is missing; {self.remedy}"


@dataclass(eq=False)
class EngineFailed(Exception):
    """An engine did not do as it should; its log says why."""

    log: Path

    def __str__(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join(["dockerd did not do as told", *lines[-_TAIL:]])


@dataclass(eq=False)
class NotReady(EngineFailed):
    """It ended, or said for too long nothing of being ready."""


@dataclass(eq=False)
class NotStopped(EngineFailed):
    """It still runs, long after it was told to end."""


def start(home: Home) -> None:
    """Start the engine unless it runs; returns when it is ready.

    The caller holds `Home.alone`.

    Raises:
        NoEngine: A tool is missing, or the right to start one.
        NotReady: It did not become so.
    """
    if running(home) is not None:
        return
    dockerd = _require("dockerd")
    _client(home)
    if os.geteuid() != 0:
        raise NoEngine("root", "start one as root, or name one in DOCKER_HOST")
    _sweep(home)
    config = home.run / "daemon.json"
    config.write_text(json.dumps(_SETTINGS))  # not the machine's own
    command = [
        *(dockerd, "--config-file", str(config), *_QUIET),
        *("--data-root", str(home.images), "--exec-root", str(home.run)),
        *("--pidfile", str(home.pid_file), "--host", home.url),
    ]
    with _notices(home.run / "notify") as (address, notices):
        with home.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=os.environ | {"NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _STARTED.append(process)
        _until_ready(home, process, notices)
    logger.info("engine %d is ready at %s", process.pid, home.url)


def stop(home: Home) -> None:
    """Stop the engine, if it runs, with its containers; removes its mounts.

    The caller holds `Home.alone`.

    Raises:
        NotStopped: It did not end.
    """
    pid = running(home)
    if pid is not None:
        with _process(pid) as ended:
            os.kill(pid, signal.SIGTERM)
            if not select.select([ended], [], [], PATIENCE)[0]:
                raise NotStopped(home.log)
        logger.info("engine %d has stopped", pid)
    _sweep(home)


def running(home: Home) -> int | None:
    """Return the process id of this folder's engine, or None."""
    try:
        pid = int(home.pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if str(home.pid_file).encode() in words else None


def _require(tool: str) -> str:
    # Where Debian puts it, before another that may lie in /usr/local.
    found = shutil.which(tool, path=f"/usr/bin:/usr/sbin:{os.environ['PATH']}")
    if found is None:
        raise NoEngine(tool, "install Docker (Debian: apt install docker.io)")
    return found


def _client(home: Home) -> None:
    """Have the client that goes with the engine found first."""
    link = home.bin / "docker"
    link.unlink(missing_ok=True)
    link.symlink_to(_require("docker"))


@contextlib.contextmanager
def _notices(address: Path) -> Iterator[tuple[Path, socket.socket]]:
    """Listen for what a service tells its manager."""
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(address))
        yield address, notices
    address.unlink()


def _until_ready(
    home: Home, process: subprocess.Popen[bytes], notices: socket.socket
) -> None:
    deadline = time.monotonic() + PATIENCE
    with _process(process.pid) as ended:
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([notices, ended], [], [], left)
            if ended in readable:
                raise NotReady(home.log)
            if notices in readable and b"READY=1" in notices.recv(4096).split(b"\n"):
                return
    process.terminate()
    raise NotReady(home.log)


@contextlib.contextmanager
def _process(pid: int) -> Iterator[int]:
    """Give a descriptor that is readable once the process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sweep(home: Home) -> None:
    """Remove what an engine leaves: its pid, and the mounts of network namespaces."""
    home.pid_file.unlink(missing_ok=True)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1]
        if Path(place).is_relative_to(home.run):
            subprocess.run(["umount", place], check=True)
