"""What tests install: made once, kept outside the tree under a name of its inputs."""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path


logger = logging.getLogger(__name__)

# Seconds after which what nobody asked for is deleted.
_FORGOTTEN = 14 * 24 * 3600


def key_of(inputs: Iterable[Path | str]) -> str:
    """Make a name that changes with any of the files, their names, and the words."""
    digest = hashlib.sha256()
    for one in inputs:
        content = one.read_bytes() if isinstance(one, Path) else b""
        digest.update(f"{one} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of something, made first if it is not there yet.

    Safe to call from several processes at once: one makes it, the others wait.

    Args:
        name: What it is.
        key: Changes whenever it would.
        make: Fills an empty folder; a half is never seen.
    """
    home = _home()
    found = home / f"{name}-{key}"
    if not found.is_dir():
        with (home / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not found.is_dir():
                _forget_old(home)
                _make(found, make)
    os.utime(found)
    return found


def _home() -> Path:
    configured = os.environ.get("DERPMESH_INSTALL")
    folder = Path(configured or "~/.cache/derpmesh/install").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make(found: Path, make: Callable[[Path], None]) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=found.parent, prefix="making-") as folder:
        made = Path(folder) / "made"
        made.mkdir()
        make(made)
        made.rename(found)
    logger.info("%s: made in %.0f s", found.name, time.monotonic() - started)


def _forget_old(home: Path) -> None:
    oldest = datetime.now(UTC).timestamp() - _FORGOTTEN
    for folder in home.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder)
