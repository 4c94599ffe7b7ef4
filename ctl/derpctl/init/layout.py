"""Puts the files of a new node where they belong, and never over others."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from derpctl import keys
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.init.answers import KEYS, Answers, Tree, daemon_tree, derpctl_tree


_SECRET, _SHARED = 0o600, 0o640
_PATIENCE = 60.0  # seconds; the first certificate of a slow machine

_CLIENTS = """\
# Who may connect: nodekey:... of a client, one a line. Followed when it changes.
# On a device of the tailnet this lists all that it sees:
#   tailscale status --json | jq -r '.Self.PublicKey, (.Peer // {} | .[].PublicKey)'
"""


@dataclass(frozen=True, slots=True)
class Laid:
    """What was written, and what is left for somebody to do."""

    files: tuple[Path, ...]
    kept: tuple[Path, ...]
    """Keys and lists that were there already."""
    notes: tuple[str, ...]


def lay(answers: Answers, derpctl_config: Path, *, force: bool) -> Laid:
    """Write all files of a node.

    Args:
        answers: What it shall be.
        derpctl_config: Where derpctl's own configuration goes.
        force: Replace configurations that are there. The mesh key, the list of clients
            and the region's file are kept all the same: other nodes go by them.

    Raises:
        CtlError: A file is there, or cannot be written; nothing was, if it is there.
    """
    configs = {
        answers.config_file: _page("derpd --config THIS", daemon_tree(answers)),
        derpctl_config: _page("derpctl --config THIS", derpctl_tree(answers)),
    }
    lists = dict(_lists(answers))
    kept = _check_free(answers, [*lists, *configs], list(configs), force=force)
    for folder in {path.parent for path in (*configs, answers.mesh_key_file)}:
        _make_folder(folder)
    if answers.mesh_key_file not in kept:
        keys.make_mesh_key(answers.mesh_key_file)
    for path, text in lists.items():
        if path not in kept:
            _write(path, text, force=False)
    for path, text in configs.items():
        _write(path, text, force=force)
    notes = list(_notes(answers))
    if answers.region_file in kept:
        notes.append(f"list the node in {answers.region_file}: derpd --print-node")
    elif answers.region_file in lists:
        notes += _list_itself(answers)
    made = (answers.mesh_key_file, *lists, *configs)
    return Laid(tuple(path for path in made if path not in kept), kept, tuple(notes))


def _lists(answers: Answers) -> Iterator[tuple[Path, str]]:
    """Yield what belongs to the region as much as to the node, and how it begins."""
    if KEYS in answers.admit:
        yield answers.clients_file, _CLIENTS
    if not answers.etcd:
        yield answers.region_file, _region_page(answers, "")


def _check_free(
    answers: Answers, wanted: Sequence[Path], configs: Sequence[Path], *, force: bool
) -> tuple[Path, ...]:
    """Give what stays as it is; refuse to replace anything unless told to.

    Raises:
        CtlError: Something is there, or the region's key is not.
    """
    kept = []
    if answers.mesh_key is not None:
        if keys.find_mesh_key(answers.mesh_key) is None:
            value, hint = f"--mesh-key-file {answers.mesh_key}", "copy it there first"
            raise CtlError(value, "no such file", hint, Exit.CONFIG)
        kept.append(answers.mesh_key)
    for path in (answers.mesh_key_file, *wanted):
        if path in kept or not os.path.lexists(path):
            continue
        if not force:
            reason = "it is there already"
            hint = "give another --dir or --config, or --force, which keeps keys"
            raise CtlError(str(path), reason, hint, Exit.REFUSED)
        if path not in configs:
            kept.append(path)
    return tuple(kept)


def _page(use: str, tree: Tree) -> str:
    body = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return f"# {use}; made by derpctl init.\n{body}"


def _region_page(answers: Answers, entry: str) -> str:
    region = {"id": answers.region, "code": answers.code, "name": answers.name}
    tree = {"region": region, "nodes": yaml.safe_load(entry) or []}
    return _page("registry.file of its nodes", tree)


def _list_itself(answers: Answers) -> list[str]:
    """Have the node make its entry, and list it; say what is left if it cannot."""
    command = [sys.executable, "-m", "derpmesh.daemon"]
    command += ["--config", str(answers.config_file), "--print-node"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DERPD_")}
    pair = answers.pair
    if pair is not None and not all(path.exists() for path in pair):
        return [f"then list the node in {answers.region_file}: derpd --print-node"]
    try:
        said = subprocess.run(  # noqa: S603 - our own program
            command,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        why = getattr(exc, "stderr", None) or exc
        return [f"{answers.region_file} does not list the node yet: {why}".strip()]
    _write(answers.region_file, _region_page(answers, said.stdout), force=True)
    return []


def _notes(answers: Answers) -> Iterator[str]:
    if KEYS in answers.admit:
        yield f"list your clients in {answers.clients_file}: it admits nobody yet"
    for path in answers.pair or ():
        if not path.exists():
            yield f"put there what belongs to {answers.host}: {path}"
    if answers.mesh_key is None:
        yield f"every node of the region needs a copy of {answers.mesh_key_file}"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def _write(path: Path, text: str, *, force: bool) -> None:
    """Put a whole file in place, for its owner and a group.

    Raises:
        CtlError: It cannot be written; or it has come there meanwhile.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, _SHARED)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if force:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _unwritable(path: Path, exc: OSError) -> CtlError:
    reason = f"cannot be written: {(exc.strerror or 'no reason given').lower()}"
    hint = "give a --dir that can be written"
    return CtlError(str(path), reason, hint, Exit.CONFIG)
