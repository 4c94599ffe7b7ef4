"""A machine that a real systemd runs: Debian in a container of systemd-nspawn."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.install.kept import kept, key_of
from tests.support.engine.debian import mirror
from tests.support.peers import MissingTool


RELEASE = "bookworm"
ADDRESS = "203.0.113.10"
"""Its only address but loopback: pages have it as that of the node."""

_PACKAGES = "dbus,nftables,procps,python3,systemd"
_NAME = "derpmesh-test"
_START_LIMIT, _STOP_LIMIT, _JOURNAL_LIMIT = 60.0, 30.0, 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOOLS = {
    "systemd-nspawn": "apt install systemd-container",
    "mmdebstrap": "apt install mmdebstrap",
    "nsenter": "apt install util-linux",
    "ip": "apt install iproute2",
}


class Machine:
    """The running machine.

    Args:
        root: Its file system, as seen from here.
        pid: Its first process, as seen from here.
    """

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self._pid = pid

    def path(self, inside: str) -> Path:
        """Tell where a file of the machine is, seen from here.

        Not for what is below ``/run`` and ``/tmp``, which are mounts of its own.
        """
        return self.root / inside.removeprefix("/")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file, as an editor there would: it takes the group of its folder."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script there as root, until the first command that fails."""
        return subprocess.run(
            [*self._enter("-a"), "sh", "-ec", script],
            env={"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def run(self, script: str) -> str:
        """Run a script there that must succeed; give all that it said."""
        said = self.sh(script)
        assert said.returncode == 0, f"{script}\n{said.stdout}"
        return said.stdout.removesuffix("\n")

    def on_network(self, *words: object) -> subprocess.Popen[str]:
        """Start a program of this side on the network of the machine."""
        return self._start("-n", *words)

    def shows(self, unit: str, name: str) -> str:
        """Tell one property of a unit."""
        return self.run(f"systemctl show --value -p {name} {unit}")

    def cursor(self) -> str:
        """Mark where the journal ends now."""
        told = self.run("journalctl --sync; journalctl -n 0 --show-cursor -o cat")
        return told.rpartition("cursor: ")[2].strip()

    def await_journal(self, unit: str, text: str, cursor: str) -> None:
        """Wait until the journal of a unit, from a mark on, has a line with a text."""
        words = ("journalctl", "-f", "-o", "cat", "-u", unit, "--after-cursor", cursor)
        lines = []
        with self._start("-a", *words) as process:
            patience = threading.Timer(_JOURNAL_LIMIT, process.kill)
            patience.start()
            for line in process.stdout or ():
                lines.append(line)
                if text in line:
                    break
            else:
                pytest.fail(f"{unit}: not in its journal: {text}\n{''.join(lines)}")
            patience.cancel()
            process.kill()

    def _start(self, namespaces: str, *words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._enter(namespaces), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _enter(self, namespaces: str) -> list[str]:
        return ["nsenter", "-t", str(self._pid), namespaces]


@contextmanager
def machine() -> Iterator[Machine]:
    """Boot a fresh machine; off at the end.

    Raises:
        MissingTool: Something that it takes is not here.
    """
    for tool, remedy in _TOOLS.items():
        if shutil.which(tool) is None:
            raise MissingTool(tool, remedy)
    if os.geteuid() != 0:
        raise MissingTool("root", "run the tests as root")
    with _memory() as folder:
        root = folder / "root"
        root.mkdir()
        subprocess.run(["tar", "-xf", _archive(), "-C", root], check=True)
        with _booted(root, folder / "console") as pid:
            yield Machine(root, pid)


@contextmanager
def _memory() -> Iterator[Path]:
    """Give a folder that is in memory: ten thousand files are quickly gone from it."""
    with tempfile.TemporaryDirectory(prefix="nspawn-") as name:
        words = ("-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs")
        subprocess.run(["mount", *words, name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@contextmanager
def _booted(root: Path, console: Path) -> Iterator[int]:
    """Run a file system until the block ends; give the pid of its first process."""
    words = ("--quiet", "--boot", "--register=no", "--keep-unit", "--private-network")
    with (
        console.open("wb") as log,
        subprocess.Popen(
            ["systemd-nspawn", *words, f"--directory={root}", f"--machine={_NAME}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        pid = _first(process, console)
        try:
            _await_boot(pid, console)
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)  # as if its plug were pulled
            process.wait(_STOP_LIMIT)


def _first(process: subprocess.Popen[bytes], console: Path) -> int:
    """Wait for the first process of the machine: a child of nspawn's."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    limit = time.monotonic() + _START_LIMIT
    while time.monotonic() < limit and process.poll() is None:
        for pid in children.read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return int(pid)
        time.sleep(0.02)  # nobody tells of a child of another process
    raise AssertionError(console.read_text(errors="replace"))


def _await_boot(pid: int, console: Path) -> None:
    """Wait until systemd has started all that it will, and give it its address."""
    limit = time.monotonic() + _START_LIMIT
    state = ""
    while time.monotonic() < limit and state not in ("running", "degraded"):
        said = subprocess.run(
            [
                "nsenter",
                "-t",
                str(pid),
                "-a",
                "systemctl",
                "is-system-running",
                "--wait",
            ],
            env={"PATH": _PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        state = said.stdout.strip()
    assert state == "running", console.read_text(errors="replace")
    words = ("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    subprocess.run(["nsenter", "-t", str(pid), "-n", *words], check=True)


def _archive() -> Path:
    """Return the files of a small Debian, with systemd."""
    folder = kept("debian", key_of([RELEASE, _PACKAGES]), _bootstrap)
    return folder / "root.tar"


def _bootstrap(folder: Path) -> None:
    words = ("--quiet", "--variant=essential", f"--include={_PACKAGES}")
    place = folder / "root.tar"
    subprocess.run(["mmdebstrap", *words, RELEASE, place, mirror()], check=True)
