"""Makes keys, and puts them where only their owner can read them."""

import contextlib
import os
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpnode.wire.keys import KEY_SIZE, MeshKey


def make_mesh_key(path: Path) -> None:
    """Write a new mesh key to a file that is not there yet, mode 0600.

    Raises:
        CtlError: It is there, or cannot be written; then nothing is left of it.
    """
    text = MeshKey(os.urandom(KEY_SIZE)).text() + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as exc:
        reason = "it is there, and its key may be in use"
        hint = "give another name, or move it away"
        raise CtlError(str(path), reason, hint, Exit.REFUSED) from exc
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        with contextlib.suppress(OSError):
            path.unlink()
        raise _unwritable(path, exc) from exc


def _unwritable(path: Path, exc: OSError) -> CtlError:
    reason = f"cannot be written: {(exc.strerror or 'no reason given').lower()}"
    hint = "give a directory that is there and can be written"
    return CtlError(str(path), reason, hint, Exit.CONFIG)
