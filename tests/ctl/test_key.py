"""`derpctl key mesh generate`: what is made, for whom, and what is never lost."""

import json
import os
import re

import pytest

from derpctl import keys
from derpctl.errors import CtlError
from derpctl.exits import Exit


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_generate(derpctl, tmp_path, mask):
    """64 hex digits that only the owner reads, whatever the umask."""
    path, before = tmp_path / "mesh.key", os.umask(mask)
    try:
        ended = derpctl("key", "mesh", "generate", path)
    finally:
        os.umask(before)
    assert (ended.code, ended.out) == (0, f"mesh:\n  key_file: {path}\n")
    assert ended.err == f"derpctl: {path}: made; the same on every node, as\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch("[0-9a-f]{64}\n", path.read_text())


def test_two_are_not_the_same(derpctl, tmp_path):
    """Each is new."""
    for name in ("a", "b"):
        derpctl("key", "mesh", "generate", tmp_path / name)
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


def test_json(derpctl, tmp_path):
    """The document says where it is, and not what."""
    path = tmp_path / "mesh.key"
    ended = derpctl("key", "mesh", "generate", path, "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert found == {"apiVersion": "derpctl/v1", "kind": "MeshKey", "path": str(path)}


def test_never_overwrites(derpctl, tmp_path):
    """What is there stays, a link that leads nowhere too."""
    path, dangling = tmp_path / "mesh.key", tmp_path / "dangling"
    path.write_text("precious")
    dangling.symlink_to(tmp_path / "nowhere")
    ended = derpctl("key", "mesh", "generate", path)
    assert (ended.code, ended.out) == (6, "")
    assert "it is there, and its key may be in use; give another name" in ended.err
    assert path.read_text() == "precious"
    assert derpctl("key", "mesh", "generate", dangling).code == 6
    assert not (tmp_path / "nowhere").exists()


def test_no_directory(derpctl, tmp_path):
    """A configuration error, with the reason."""
    ended = derpctl("key", "mesh", "generate", tmp_path / "none" / "mesh.key")
    assert (ended.code, ended.out) == (3, "")
    assert "cannot be written: no such file or directory" in ended.err


def test_a_full_disk(tmp_path, monkeypatch):
    """Nothing is left of a key that could not be written."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CtlError, match="no space left on device") as found:
        keys.make_mesh_key(tmp_path / "mesh.key")
    assert found.value.exit is Exit.CONFIG
    assert list(tmp_path.iterdir()) == []
