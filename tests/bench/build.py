"""The compiled load generator, built once and kept outside the tree."""

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers import MissingTool


logger = logging.getLogger(__name__)

CRATE = Path(__file__).resolve().parent / "derpload"

# Lines of a failed build that are worth showing.
_TAIL = 20


@dataclass(eq=False)
class CrateNotBuilt(Exception):
    """Cargo did not build the generator."""

    output: str

    def __str__(self) -> str:
        tail = "\n".join(self.output.splitlines()[-_TAIL:])
        return f"cargo build failed for derpload:\n{tail}"


def derpload() -> Path:
    """Return the path of the generator's binary, built first if it is not there yet.

    It lives beside the peers, in ``$DERPMESH_PEERS`` or ``~/.cache/derpmesh/peers``,
    under a name that changes with its sources. Safe to call from several processes at
    once: one builds, the others wait.

    Raises:
        MissingTool: Rust is not installed; skip what needs the generator.
        CrateNotBuilt: Cargo refused; its last lines are in the message.
    """
    home = _cache() / f"derpload-{_key()}"
    binary = home / "derpload"
    if not binary.is_file():
        with _one_at_a_time():
            if not binary.is_file():
                _build(binary)
    os.utime(home)
    return binary


def _key() -> str:
    """Return a name that changes whenever the binary would."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.relative_to(CRATE)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    yield CRATE / "Cargo.toml"
    yield CRATE / "Cargo.lock"
    yield from sorted((CRATE / "src").rglob("*.rs"))


def _cache() -> Path:
    configured = os.environ.get("DERPMESH_PEERS")
    folder = Path(configured or "~/.cache/derpmesh/peers").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (_cache() / "derpload.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(binary: Path) -> None:
    """Build in a folder that later builds go on from; the binary appears at once."""
    logger.info("building derpload")
    result = _cargo("build")
    if result.returncode:
        raise CrateNotBuilt(result.stdout)
    binary.parent.mkdir(exist_ok=True)
    fresh = binary.with_suffix(".new")
    shutil.copy2(_target() / "release" / "derpload", fresh)
    fresh.rename(binary)


def cargo_test() -> subprocess.CompletedProcess[str]:
    """Run the generator's own tests.

    Raises:
        MissingTool: Rust is not installed.
    """
    with _one_at_a_time():
        return _cargo("test")


def _target() -> Path:
    return _cache() / "derpload-target"


def _cargo(command: str) -> subprocess.CompletedProcess[str]:
    cargo = shutil.which("cargo")
    if cargo is None:
        raise MissingTool("cargo", "install Rust 1.87 or newer; it fetches the rest")
    return subprocess.run(
        [cargo, command, "--release", "--locked"],
        cwd=CRATE,
        env=os.environ | {"CARGO_TARGET_DIR": str(_target())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        print(derpload())
    except (MissingTool, CrateNotBuilt) as error:
        sys.exit(str(error))
