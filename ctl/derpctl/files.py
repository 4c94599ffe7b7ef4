"""Files that people keep and others read: taken whole, and replaced whole."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.texts import at_most, whole_text


_MODE = 0o644
"""Of a file that was not there: a map is no secret."""


def read_whole(path: Path) -> str:
    """Read a text with its line ends, and its byte order mark, if it has one.

    Raises:
        CtlError: It is not there, or is not text.
    """
    try:
        with path.open("rb") as file:
            return whole_text(str(path), at_most(str(path), file))
    except OSError as exc:
        reason, hint = (exc.strerror or "unreadable").lower(), "check path and mode"
        raise CtlError(str(path), reason, hint, Exit.CONFIG) from exc


def replace_whole(path: Path, text: str) -> None:
    """Write a text: whoever reads the file meanwhile gets the old one or the new one.

    Mode and owner stay what they are; a link stays one, and what it is to is written.

    Raises:
        CtlError: It cannot be written; then the old one is as it was. Nor may it be
            a device: root would put a file in its place.
    """
    target = path.resolve()
    if path.exists() and not path.is_file():
        reason, hint = "not a regular file", "give a file; pipe stdout for the rest"
        raise CtlError(str(path), reason, hint, Exit.USAGE)
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.name}.", dir=target.parent
        )
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _be_as(target, descriptor)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _unwritable(path, exc) from exc


def _be_as(target: Path, descriptor: int) -> None:
    """Give a new file the owner and the mode of the one whose place it takes."""
    try:
        old = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, _MODE)
        return
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (old.st_uid, old.st_gid):
        # Only root may; anybody else has the file read by the same mode.
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync(directory: Path) -> None:
    """Have the new name outlive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, exc: OSError) -> CtlError:
    reason = f"cannot be written: {(exc.strerror or 'no reason given').lower()}"
    hint = "give a file in a directory that can be written"
    return CtlError(str(path), reason, hint, Exit.CONFIG)
