"""Stock software in Go and drivers of our own, built once and kept outside the tree.

Builds need Go and a module proxy, nothing else. The binaries live in
``$DERPMESH_PEERS`` (by default ``~/.cache/derpmesh/peers``) under a name that changes
with whatever they are built from, so a kept one is never stale.
"""

import argparse
import contextlib
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


logger = logging.getLogger(__name__)

INTEROP = Path(__file__).resolve().parents[1] / "interop"
CHECKS = INTEROP / "checks"
MAPS = INTEROP / "maps"

# Lines of a failed build that are worth showing.
_TAIL = 20

# Seconds after which a build that nobody asked for is deleted.
_FORGOTTEN = 14 * 24 * 3600


@dataclass(eq=False)
class MissingTool(Exception):
    """A tool that the peers are built with is not on this machine."""

    tool: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.tool} is not on PATH; {self.remedy}"


@dataclass(eq=False)
class UnknownPeer(Exception):
    """No peer has this name."""

    name: str

    def __str__(self) -> str:
        return f"no peer is called {self.name}; there are {', '.join(PEERS)}"


@dataclass(eq=False)
class BuildFailed(Exception):
    """Go did not build these peers."""

    names: Sequence[str]
    output: str

    def __str__(self) -> str:
        tail = "\n".join(self.output.splitlines()[-_TAIL:])
        return f"go build failed for {', '.join(self.names)}:\n{tail}"


@dataclass(frozen=True)
class Build:
    """Commands that one ``go build`` makes, all of one Go module.

    Args:
        release: Of Tailscale, or of what is built; the end of the names of its peers.
        folder: Where the module's ``go.mod`` is.
        commands: Import paths of the commands; the last element names the binary.
        sources: Folders with code of our own that goes into them.
        toolchain: The Go toolchain to build with; ``auto`` takes the local one unless
            it is older than the module asks for.
    """

    release: str
    folder: Path
    commands: Sequence[str]
    sources: Sequence[Path] = ()
    toolchain: str = "auto"

    @property
    def names(self) -> list[str]:
        """What the peers are called, ``derper-1.104`` for one."""
        return [f"{Path(command).name}-{self.release}" for command in self.commands]

    @property
    def key(self) -> str:
        """Changes whenever the binaries would."""
        digest = hashlib.sha256()
        for word in (platform.machine(), self.toolchain, *self.commands):
            digest.update(word.encode() + b"\0")
        for path in self._inputs():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(INTEROP)} {len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()[:16]

    def _inputs(self) -> Iterator[Path]:
        yield self.folder / "go.mod"
        yield self.folder / "go.sum"
        for folder in self.sources:
            yield from sorted([*folder.glob("*.go"), *folder.glob("go.mod")])


STOCK = "tailscale.com/cmd"

BUILDS = (
    Build(
        release="1.102",
        folder=INTEROP,
        commands=[
            f"{STOCK}/{name}"
            for name in ("derper", "derpprobe", "tailscale", "tailscaled")
        ],
    ),
    Build(
        release="1.102",
        folder=INTEROP,
        commands=["./check", "./testcontrol"],
        sources=(CHECKS, INTEROP / "check", INTEROP / "testcontrol"),
    ),
    Build(
        release="1.102",
        folder=INTEROP,
        commands=["./decode"],
        sources=(MAPS, INTEROP / "decode"),
    ),
    Build(
        release="1.104",
        folder=INTEROP / "current",
        commands=[f"{STOCK}/derper", f"{STOCK}/derpprobe"],
        toolchain="go1.27.3",
    ),
    Build(
        release="1.104",
        folder=INTEROP / "current",
        commands=["./check"],
        sources=(CHECKS, INTEROP / "current" / "check"),
        toolchain="go1.27.3",
    ),
    Build(
        release="1.104",
        folder=INTEROP / "current",
        commands=["./decode"],
        sources=(MAPS, INTEROP / "current" / "decode"),
        toolchain="go1.27.3",
    ),
    Build(
        release="1.80",
        folder=INTEROP / "old",
        commands=["./check"],
        sources=(CHECKS, INTEROP / "old" / "check"),
    ),
    Build(
        release="3.7.3",
        folder=INTEROP / "etcd",
        commands=["./etcd"],
        sources=(INTEROP / "etcd" / "etcd",),
    ),
    Build(
        release="0.29.2",
        folder=INTEROP / "headscale",
        commands=["github.com/juanfont/headscale/cmd/headscale"],
    ),
    Build(
        release="1.7.9",
        folder=INTEROP / "actionlint",
        commands=["github.com/rhysd/actionlint/cmd/actionlint"],
    ),
    Build(
        release="3.22.0",
        folder=INTEROP / "helm3",
        commands=["helm.sh/helm/v3/cmd/helm"],
    ),
    Build(
        release="4.3.1",
        folder=INTEROP / "helm4",
        commands=["helm.sh/helm/v4/cmd/helm"],
    ),
)

PEERS: Mapping[str, Build] = {name: build for build in BUILDS for name in build.names}


def peer(name: str) -> Path:
    """Return the path of a peer's binary, built first if it is not there yet.

    Safe to call from several processes at once: one builds, the others wait.

    Raises:
        UnknownPeer: The name is none of ``PEERS``.
        MissingTool: Go is not installed; skip what needs the peer.
        BuildFailed: Go refused; its last lines are in the message.
    """
    if name not in PEERS:
        raise UnknownPeer(name)
    build = PEERS[name]
    home = _home(build)
    if not home.is_dir():
        with _one_at_a_time():
            if not home.is_dir():
                _forget_old()
                _build(build, home)
    os.utime(home)
    return home / name.removesuffix(f"-{build.release}")


def unbuilt() -> list[str]:
    """Name the peers that are not there yet."""
    return [
        name for build in BUILDS if not _home(build).is_dir() for name in build.names
    ]


def require_go() -> str:
    """Return where Go is.

    Raises:
        MissingTool: It is nowhere.
    """
    found = shutil.which("go")
    if found is None:
        raise MissingTool("go", "install Go 1.21 or newer; it fetches the rest itself")
    return found


def _home(build: Build) -> Path:
    return _cache() / f"{build.release}-{build.key}"


def _cache() -> Path:
    configured = os.environ.get("DERPMESH_PEERS")
    folder = Path(configured or "~/.cache/derpmesh/peers").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old() -> None:
    oldest = datetime.now(UTC).timestamp() - _FORGOTTEN
    for folder in _cache().iterdir():
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder)


def _build(build: Build, home: Path) -> None:
    """Build into a folder beside ``home`` and rename it, so a half is never seen."""
    command = [
        *(require_go(), "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
        *("-ldflags=-s -w", "-o"),
    ]
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": build.toolchain,
        "GOWORK": "off",
    }
    logger.info("building %s", ", ".join(build.names))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="building-") as folder:
        made = Path(folder) / "made"
        result = subprocess.run(
            [*command, f"{made}/", *build.commands],
            cwd=build.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode:
            raise BuildFailed(build.names, result.stdout)
        made.rename(home)
    logger.info("built in %.0f s", time.monotonic() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build peers from the command line; print where each is."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.peers")
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="build peers that are not built yet")
    build.add_argument("names", nargs="*", metavar="NAME", help="all if none is given")
    names = parser.parse_args(arguments).names or list(PEERS)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in names:
            sys.stdout.write(f"{name} {peer(name)}\n")
            sys.stdout.flush()
    except (MissingTool, UnknownPeer, BuildFailed) as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
