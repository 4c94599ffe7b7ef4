"""Where the engine of the tests keeps its things, outside the tree."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folder of one engine; two of them are two engines.

    Args:
        folder: ``$DERPMESH_ENGINE``, by default ``~/.cache/derpmesh/engine``. Its name
            must be short: Unix sockets are in it.
    """

    folder: Path

    @classmethod
    def here(cls) -> "Home":
        """Take the one that the environment names; made if it is not there."""
        configured = os.environ.get("DERPMESH_ENGINE")
        folder = Path(configured or "~/.cache/derpmesh/engine")
        return cls.at(folder.expanduser().resolve())

    @classmethod
    def at(cls, folder: Path) -> "Home":
        """Take this one; made if it is not there."""
        for name in ("run", "bin", "client/cli-plugins", "debian"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        return cls(folder)

    @property
    def images(self) -> Path:
        """Images, layers and volumes: what dockerd calls its data root."""
        return self.folder / "images"

    @property
    def run(self) -> Path:
        """Sockets, pids and mounts of the running engine."""
        return self.folder / "run"

    @property
    def socket(self) -> Path:
        """What the engine listens on."""
        return self.run / "docker.sock"

    @property
    def url(self) -> str:
        """The same as a value of ``DOCKER_HOST``."""
        return f"unix://{self.socket}"

    @property
    def pid_file(self) -> Path:
        """Written by dockerd."""
        return self.run / "docker.pid"

    @property
    def log(self) -> Path:
        """What dockerd said, of all its runs."""
        return self.folder / "dockerd.log"

    @property
    def client(self) -> Path:
        """Settings and plugins of the client; a value of ``DOCKER_CONFIG``."""
        return self.folder / "client"

    @property
    def bin(self) -> Path:
        """Holds the client that goes with the engine; first on PATH."""
        return self.folder / "bin"

    @property
    def debian(self) -> Path:
        """What was downloaded from Debian."""
        return self.folder / "debian"

    @property
    def kept(self) -> Path:
        """There while the engine runs on although nobody uses it."""
        return self.folder / "kept"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process from changing anything here meanwhile."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find this engine, and nothing of another one."""
        ours = {
            "DOCKER_HOST": self.url,
            "DOCKER_CONFIG": str(self.client),
            "DOCKER_BUILDKIT": "1",
            "PATH": f"{self.bin}:{os.environ['PATH']}",
        }
        others = ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        rest = {name: text for name, text in os.environ.items() if name not in others}
        return rest | ours
