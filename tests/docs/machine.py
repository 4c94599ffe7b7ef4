"""A machine to try the documentation on: a folder, and this one's loopback.

``/etc``, ``/var`` and ``/run`` are in the folder, 203.0.113.10 is 127.0.0.1, and nodes
listen on ports that the kernel chooses. Otherwise files and commands are as printed.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from derpctl.admin import Admin, AdminFailed, NodeView
from derpctl.authority import Authority


READY_LIMIT = 30.0
STOP_LIMIT = 10.0

_PATH = re.compile(r"(?<![\w.~-])/(?=(?:etc|var|run)/)")
_LOOPBACK = '["127.0.0.1:0"]'
_BIN = Path(sys.executable).parent

Tree = dict[str, object]


class Machine:
    """Where examples are tried.

    Args:
        root: An empty folder with a short name: Unix sockets are in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "etc/derpmesh/derpd.yaml"
        self.mesh_key = root / "etc/derpmesh/mesh.key"
        self.log = root / "derpd.log"
        self._admin = Admin(f"unix:{root}/var/lib/derpd/admin.sock", timeout=1.0)
        self._translations: dict[str, str] = {}
        self._tools: list[Path] = [_BIN]
        for name in ("etc/derpmesh", "home", "var/lib"):
            (root / name).mkdir(parents=True)

    def text(self, text: str) -> str:
        """Translate what is printed into what is here."""
        text = _PATH.sub(f"{self.root}/", text).replace("203.0.113.10", "127.0.0.1")
        for printed, actual in self._translations.items():
            text = text.replace(printed, actual)
        return text

    def configure(self, printed: str) -> None:
        """Install a configuration of ``derpd``, and whatever files it names."""
        text = self.text(printed)
        self.config.write_text(text)
        self._furnish(yaml.safe_load(text))

    def _furnish(self, tree: Tree) -> None:
        """Make the files that a configuration names."""
        host = _at(tree, "node.host") or "127.0.0.1"
        for section, name in (
            ("tls", host),
            ("admin", "127.0.0.1"),
            ("registry.etcd", host),
        ):
            certificate, key = (_at(tree, f"{section}.{k}") for k in _PAIR)
            if certificate and key and not Path(key).exists():
                pair = Authority().issue([name])
                _write(Path(certificate), pair.certificate)
                _write(Path(key), pair.key)
        for setting, line in (
            ("admission.key_file", f"nodekey:{'7e' * 32}  # laptop\n"),
            ("mesh.key_file", f"{'5a' * 32}\n"),
            ("admin.token_file", "secret\n"),
            ("registry.etcd.password_file", "secret\n"),
            ("registry.etcd.ca_file", Authority().pem.decode()),
        ):
            path = _at(tree, setting)
            if path and not Path(path).exists():
                _write(Path(path), line.encode())
        path = _at(tree, "registry.file")
        if path and not Path(path).exists():
            region = yaml.safe_dump({"region": tree.get("region", {})})
            entry = self.run("derpd --print-node").stdout
            _write(Path(path), f"{region}nodes:\n{entry}".encode())

    def install(self, printed: str, data: bytes) -> None:
        """Put a file where the page has it; no configuration replaces it."""
        _write(Path(self.text(printed)), data)

    def translate(self, printed: str, actual: str) -> None:
        """Read one text of the page as another one from now on."""
        self._translations[printed] = actual

    def provide(self, folder: Path) -> None:
        """Have the programs of a folder on this machine."""
        self._tools.append(folder)

    def configure_derpctl(self, printed: str) -> None:
        """Install a configuration of ``derpctl``."""
        path = self.root / "home/.config/derpctl/config.yaml"
        _write(path, self.text(printed).encode())

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run printed commands, as a shell does; the first that fails ends it."""
        return subprocess.run(
            ["sh", "-e", "-c", self.text(command)],
            cwd=self.root / "home",
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    @contextmanager
    def beside(self, command: str) -> Iterator[None]:
        """Run a printed command beside others; told to stop at last.

        It must say something on stderr as soon as it is of use.
        """
        with subprocess.Popen(
            ["sh", "-c", f"exec {self.text(command)}"],
            cwd=self.root / "home",
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                _, rest = process.communicate(timeout=STOP_LIMIT)
        assert process.returncode == 0, first + rest

    @contextmanager
    def node(self, command: str = "derpd") -> Iterator[NodeView]:
        """Run a node by a printed command; ready at first, told to stop at last."""
        with (
            self.log.open("wb") as log,
            subprocess.Popen(
                ["sh", "-c", f"exec {self.text(command)}"],
                cwd=self.root / "home",
                env=self._environment,
                stderr=log,
            ) as process,
        ):
            try:
                view = self._await_ready(process)
                admin = view.listeners["admin"][-1].removeprefix("http://")
                self._translations["127.0.0.1:9090"] = admin
                yield view
            finally:
                process.send_signal(signal.SIGTERM)
                status = process.wait(STOP_LIMIT)
        assert status == 0, self.log.read_text()

    def _await_ready(self, process: subprocess.Popen[bytes]) -> NodeView:
        limit = time.monotonic() + READY_LIMIT
        why = "it does not answer"
        while process.poll() is None and time.monotonic() < limit:
            try:
                ready, why = asyncio.run(self._admin.is_ready())
                if ready:
                    return asyncio.run(self._admin.node())
            except AdminFailed:
                pass  # not yet listening
            time.sleep(0.05)
        pytest.fail(f"not ready: {why}\n{self.log.read_text()}")

    @property
    def _environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.root / "home"),
            "PATH": ":".join([*map(str, self._tools), os.environ["PATH"]]),
            "DERPD_CONFIG": str(self.config),
            "DERPD_DERP__LISTEN": _LOOPBACK,
            "DERPD_HTTP__LISTEN": _LOOPBACK,
            "DERPD_STUN__LISTEN": _LOOPBACK,
            "DERPD_ADMIN__LISTEN": _LOOPBACK,
            "DERPD_STATE_DIR": f"{self.root}/var/lib/derpd",
        }


_PAIR = ("certificate", "key")


def _at(tree: Tree, dotted: str) -> str | None:
    found: object = tree
    for key in dotted.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
