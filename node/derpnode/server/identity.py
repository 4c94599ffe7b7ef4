"""The node's own keys, as files: who it is, and the key that it meshes with."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from derpnode.errors import ConfigError
from derpnode.secretfile import others_may_read, shown_mode
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import KEY_SIZE, MeshKey, PrivateKey, identity_json
from derpnode.wire.keys import parse_identity as parse


IDENTITY_FILE = "derper.key"
"""Name in the state directory; derper's, so that its volume can be taken over."""

_PRIVATE = 0o600
_MAX_SIZE = 64 * 1024  # bytes; a key file is below 200
_MESH_SETTING = "mesh.key_file"
_UNREADABLE = "let the user that runs derpd read it"


def load_identity(state_dir: Path) -> PrivateKey:
    """Read the node's key; make it, and the directory, where there is none.

    The public half is what clients know the node by: whoever loses the file
    has another node. Source of the format: tailscale
    ``cmd/derper/derper.go``, ``loadConfig``.

    Raises:
        ConfigError: The file is there and cannot be used, or cannot be made.
    """
    path = state_dir / IDENTITY_FILE
    try:
        # The group may read it: Kubernetes makes it so (`fsGroup`) on each start.
        text = _read_secret(path, "state_dir", is_exposed=_others_than_group)
    except FileNotFoundError:
        return _create_identity(path)
    try:
        return parse(text)
    except BadKeyText as exc:
        hint = "restore it; without it the node starts as another one"
        raise ConfigError("state_dir", str(path), str(exc), hint) from None


def load_mesh_key(path: Path) -> MeshKey:
    """Read the key that the nodes of a region share.

    Raises:
        ConfigError: The file cannot be read, holds no key, or is readable
            by more than its owner. The content is never shown.
    """
    found = find_mesh_key(path)
    if found is None:
        hint = "copy the file from another node of the region"
        raise ConfigError(_MESH_SETTING, str(path), "no such file", hint)
    return found


def find_mesh_key(path: Path) -> MeshKey | None:
    """Read a mesh key; None if there is no such file.

    Raises:
        ConfigError: The file is there and cannot be used; see `load_mesh_key`.
    """
    try:
        text = _read_secret(path, _MESH_SETTING, is_exposed=others_may_read)
    except FileNotFoundError:
        return None
    try:
        return MeshKey.parse(text)
    except BadKeyText as exc:
        hint = f"write {2 * KEY_SIZE} hex digits and nothing else"
        raise ConfigError(_MESH_SETTING, str(path), str(exc), hint) from None


def write_atomically(path: Path, data: bytes, *, mode: int) -> None:
    """Put a whole file in place, or leave what was there.

    A missing directory is made, for its owner alone.

    Args:
        path: Where to.
        data: All of the file.
        mode: Permission bits; the umask has no say.

    Raises:
        OSError: Nothing was changed.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _create_identity(path: Path) -> PrivateKey:
    private = PrivateKey.from_seed(os.urandom(KEY_SIZE))
    try:
        write_atomically(path, identity_json(private).encode(), mode=_PRIVATE)
    except OSError as exc:
        reason = f"the node's key cannot be written: {exc.strerror}"
        hint = "let the user that runs derpd write to the directory"
        raise ConfigError("state_dir", str(path), reason, hint) from exc
    return private


def _others_than_group(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IRWXO)


def _read_secret(
    path: Path, setting: str, *, is_exposed: Callable[[os.stat_result], bool]
) -> str:
    """Read a small file that only some may read.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It cannot be read, or too many may read it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_MAX_SIZE)
    except FileNotFoundError:
        raise
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}"
        raise ConfigError(setting, str(path), reason, _UNREADABLE) from exc
    if is_exposed(status):
        reason = f"mode {shown_mode(status)} lets others read this secret"
        raise ConfigError(setting, str(path), reason, f"run: chmod 600 {path}")
    # Undecodable bytes are refused by whoever parses, without being shown.
    return data.decode("utf-8", "replace")
