"""Makes keys, and puts them where only their owner can read them."""

import contextlib
import os
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpnode.secretfile import others_may_read, shown_mode
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import KEY_SIZE, MeshKey


def new_mesh_key() -> MeshKey:
    """Make a mesh key, and put it nowhere."""
    return MeshKey(os.urandom(KEY_SIZE))


def find_mesh_key(path: Path) -> MeshKey | None:
    """Read a mesh key; None if there is no such file.

    Raises:
        CtlError: The file has none, or others can read it too. What it has is not
            shown.
    """
    try:
        status = path.stat()
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        hint = "give a file with 64 hex digits, or a name that is free"
        found = (reason or "not text").lower()
        raise CtlError(str(path), found, hint, Exit.CONFIG) from None
    if others_may_read(status):
        reason = f"mode {shown_mode(status)} lets others read this secret"
        raise CtlError(str(path), reason, f"run: chmod 600 {path}", Exit.CONFIG)
    try:
        return MeshKey.parse(text)
    except BadKeyText as exc:
        hint = "it must hold 64 hex digits"
        raise CtlError(str(path), str(exc), hint, Exit.CONFIG) from None


def make_mesh_key(path: Path) -> None:
    """Write a new mesh key to a file that is not there yet, mode 0600.

    Raises:
        CtlError: It is there, or cannot be written; then nothing is left of it.
    """
    write_new(path, (new_mesh_key().text() + "\n").encode())


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet.

    Raises:
        CtlError: It is there, or cannot be written; then nothing is left of it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as exc:
        reason = "it is there, and its key may be in use"
        hint = "give another name, or move it away"
        raise CtlError(str(path), reason, hint, Exit.REFUSED) from exc
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(file.fileno())
    except OSError as exc:
        with contextlib.suppress(OSError):
            path.unlink()
        raise _unwritable(path, exc) from exc


def _unwritable(path: Path, exc: OSError) -> CtlError:
    reason = f"cannot be written: {(exc.strerror or 'no reason given').lower()}"
    hint = "give a directory that is there and can be written"
    return CtlError(str(path), reason, hint, Exit.CONFIG)
