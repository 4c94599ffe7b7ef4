"""What another image left in its volumes: who the node is, and what clients pin.

The certificate's folder, the only one that its users mount, becomes our state
directory, unless there is a volume of ours: then it is copied there, once.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from derpmesh.images.draft import STATE
from derpnode.config import is_ip
from derpnode.errors import ConfigError
from derpnode.server.identity import IDENTITY_FILE, write_atomically
from derpnode.server.selfsigned import paths
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import parse_identity


class Left(NamedTuple):
    """Files of another image, where they are here."""

    folder: Path
    """With the certificate and its key."""
    identity: Path
    """The key of the node."""


def lone_address(folder: Path) -> str | None:
    """Give the address that the one certificate of a folder is named by, if it is so.

    The image names it by a placeholder when nobody tells it an address, and clients
    have pinned it all the same.
    """
    try:
        stems = [path.stem for path in folder.glob("*.crt")]
    except OSError:
        return None
    return stems[0] if len(stems) == 1 and is_ip(stems[0]) else None


def state_of(environ: Mapping[str, str], left: Left | None) -> Path:
    """Say where this node is to keep its state.

    Args:
        environ: Where our key is set, if it is.
        left: What may serve as it; None where nothing may.
    """
    said = environ.get("DERPD_STATE_DIR", "")
    own = Path(said or STATE)
    # Not Path.is_dir: a folder that we may not look into is no reason to end here.
    serves = left is not None and os.path.isdir(left.folder)  # noqa: PTH112
    if left is None or said or own.is_mount() or not serves:
        return own
    return left.folder


class Move(NamedTuple):
    """A file that is to be taken over."""

    source: Path
    target: Path
    data: bytes


def what_is_left(left: Left, state: Path, host: str | None) -> list[Move]:
    """Find what is to be brought to where the node looks for it. Changes nothing.

    What is there already stays: it is what clients know by now.

    Args:
        left: Where it is.
        state: Where it is to be.
        host: Whom the certificate is for; None: there is none to bring.

    Raises:
        ConfigError: Files cannot be read or used, or the directory cannot be written.
    """
    found = []
    _must_be_ours(state)
    wanted = [(left.identity, state / IDENTITY_FILE)]
    if host is not None:
        # The key first: without a certificate it is nobody's pin yet.
        certificate, key = paths(state, host)
        wanted += [(left.folder / path.name, path) for path in (key, certificate)]
    for source, target in wanted:
        if source == target:
            _must_be_ours(source)
        elif not target.exists() and _is_there(source):
            found.append(Move(source, target, _read(source)))
    return found


def take_over(moves: Sequence[Move]) -> list[str]:
    """Bring it there; say what was brought.

    Raises:
        ConfigError: The directory cannot be written.
    """
    for source, target, data in moves:
        mode = 0o644 if source.suffix == ".crt" else 0o600
        try:
            write_atomically(target, data, mode=mode)
        except OSError as exc:
            raise _not_ours(target.parent, "written", exc) from exc
    return [f"{one.source}: taken over as {one.target}" for one in moves]


def goes_with_the_container(state: Path) -> bool:
    """Tell whether nothing is mounted at the state directory, nor above it."""
    mount = next(path for path in (state, *state.parents) if path.is_mount())
    return mount == Path("/")


def _is_there(path: Path) -> bool:
    """Tell whether there is a file.

    Raises:
        ConfigError: It is in a directory of somebody else's.
    """
    try:
        return path.exists()
    except OSError as exc:
        raise _not_ours(path, "read", exc) from exc


def _read(source: Path) -> bytes:
    try:
        data = source.read_bytes()
    except OSError as exc:
        raise _not_ours(source, "read", exc) from exc
    if source.suffix in (".crt", ".key") and source.name != IDENTITY_FILE:
        return data
    try:
        parse_identity(data.decode("utf-8", "replace"))
    except BadKeyText as exc:
        hint = "name the file that derper was given by -c, or leave it out"
        raise ConfigError("state_dir", str(source), str(exc), hint) from None
    return data


def _must_be_ours(path: Path) -> None:
    """Refuse early, and with a way out, what belongs to the user of the old image.

    Raises:
        ConfigError: It cannot be read; or is a directory, and cannot be written.
    """
    is_folder = _is_there(path) and path.is_dir()
    needed = os.R_OK | os.W_OK | os.X_OK if is_folder else os.R_OK
    if path.exists() and not os.access(path, needed, effective_ids=True):
        if is_folder and os.statvfs(path).f_flag & os.ST_RDONLY:
            reason, hint = "it is mounted read-only", "take :ro from its mount"
            raise ConfigError("state_dir", str(path), reason, hint)
        done = "written" if is_folder else "read"
        raise _not_ours(path, done, PermissionError(13, "Permission denied"))


def _not_ours(path: Path, done: str, exc: OSError) -> ConfigError:
    user = os.geteuid()
    reason = f"cannot be {done} by user {user}: {exc.strerror}"
    hint = (
        f"chown -R {user} what is mounted there, or run the container with"
        ' user: "0", cap_drop: [ALL] and cap_add: [DAC_OVERRIDE, NET_BIND_SERVICE]'
    )
    return ConfigError("state_dir", str(path), reason, hint)
