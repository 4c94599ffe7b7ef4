"""The node's keys as files: made, read, and refused."""

import errno
import json
import os
import stat

import pytest

from derpnode.errors import ConfigError
from derpnode.server.identity import load_identity, load_mesh_key, write_atomically


SECRET = "11" * 32

DERPER_FILE = f'{{\n\t"PrivateKey": "privkey:{SECRET}"\n}}'


def mode_of(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(call, *args) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    return str(caught.value)


@pytest.fixture
def mesh_file(tmp_path):
    path = tmp_path / "mesh.key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_identity_is_made_once(tmp_path):
    """The first start makes the key, the second finds it."""
    state = tmp_path / "state"
    made = load_identity(state)
    assert load_identity(state).public == made.public
    assert mode_of(state) == 0o700
    assert mode_of(state / "derper.key") == 0o600
    assert [path.name for path in state.iterdir()] == ["derper.key"]


def test_identity_in_derpers_form(tmp_path):
    """Derper itself could go on with the file."""
    made = load_identity(tmp_path)
    assert json.loads((tmp_path / "derper.key").read_text()) == {
        "PrivateKey": made.text()
    }


def test_identities_differ(tmp_path):
    """Each node has its own."""
    assert load_identity(tmp_path / "a").public != load_identity(tmp_path / "b").public


def test_derpers_volume_is_taken_over(tmp_path):
    """The node keeps the key that clients and the mesh know it by."""
    (tmp_path / "derper.key").write_text(DERPER_FILE)
    (tmp_path / "derper.key").chmod(0o600)
    assert load_identity(tmp_path).text() == f"privkey:{SECRET}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not"),
        (b"garbage", "not"),
        (b"{}", "has no text named 'PrivateKey'"),
        (b'{"PrivateKey": 7}', "has no text named 'PrivateKey'"),
        (b'{"PrivateKey": "privkey:11"}', "2 hex digits, must be 64"),
        (b'{"PrivateKey": "nodekey:' + b"11" * 32 + b'"}', "does not start with"),
        (b"\xff\xfe", "not"),
    ],
)
def test_garbage_is_not_replaced(tmp_path, content, reason):
    """A broken key file stops the node; it is not overwritten with a new key."""
    path = tmp_path / "derper.key"
    path.write_bytes(content)
    path.chmod(0o600)
    text = refusal(load_identity, tmp_path)
    assert text.startswith(f"state_dir = '{path}': ")
    assert reason in text
    assert path.read_bytes() == content


def test_identity_readable_by_all(tmp_path):
    """Others must not read it; the group may, as Kubernetes sets it."""
    load_identity(tmp_path)
    path = tmp_path / "derper.key"
    path.chmod(0o660)
    load_identity(tmp_path)
    path.chmod(0o604)
    assert refusal(load_identity, tmp_path) == (
        f"state_dir = '{path}': mode 0604 lets others read this secret; "
        f"run: chmod 600 {path}"
    )


def test_identity_is_a_directory(tmp_path):
    """Whatever else stands in its place is named."""
    (tmp_path / "derper.key").mkdir()
    assert "cannot be read: Is a directory" in refusal(load_identity, tmp_path)


def test_state_directory_cannot_be_made(tmp_path):
    """A read-only volume stops the node with a clear word."""
    (tmp_path / "file").touch()
    text = refusal(load_identity, tmp_path / "file" / "state")
    assert "cannot be" in text
    assert "Not a directory" in text


def test_state_directory_is_read_only(tmp_path, monkeypatch):
    """The key is not kept in memory only: it would be another after a restart."""

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    text = refusal(load_identity, tmp_path)
    assert "cannot be written: Read-only file system" in text


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    """A full disk costs neither the old file nor leaves a new one about."""
    path = tmp_path / "file"
    write_atomically(path, b"old", mode=0o600)

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_mode_despite_umask(tmp_path):
    """The umask of whoever starts the node has no say."""
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"", mode=0o644)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "file") == 0o644


def test_mesh_key(mesh_file):
    """64 hex digits, white space around them."""
    assert load_mesh_key(mesh_file).matches(bytes.fromhex(SECRET))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_mesh_key_is_its_owners(mesh_file, mode):
    """Any bit for group or others is refused, with the remedy, unseen."""
    mesh_file.chmod(mode)
    text = refusal(load_mesh_key, mesh_file)
    assert f"mode {mode:04o}" in text
    assert f"chmod 600 {mesh_file}" in text
    assert SECRET not in text


@pytest.mark.parametrize("content", ["", "11" * 31, "zz" * 32, "00" * 32])
def test_mesh_key_garbage(mesh_file, content):
    """What is no key is refused and not shown."""
    mesh_file.write_text(content)
    text = refusal(load_mesh_key, mesh_file)
    assert text.startswith(f"mesh.key_file = '{mesh_file}': mesh key: ")
    assert not content or content not in text


def test_mesh_key_missing(tmp_path):
    """A mesh key is never made up: it would be the wrong one."""
    text = refusal(load_mesh_key, tmp_path / "none")
    assert "no such file; copy the file from another node" in text
