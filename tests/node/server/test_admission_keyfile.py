"""The file of node keys: read whole or not at all, and followed."""

import asyncio
import logging

import pytest

from derpnode.errors import ConfigError
from derpnode.server.admission.keyfile import KeyFile, read_keys
from derpnode.server.admission.verdict import Outcome
from derpnode.wire.keys import NodeKey, node_key_text


A, B, C = (NodeKey(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys"
    write(path, A, B)
    return path


def write(path, *keys) -> None:
    path.write_text("".join(f"{node_key_text(key)}\n" for key in keys))


class Owner:
    """A key file and what it told."""

    def __init__(self, path) -> None:
        self.removed = []
        self.file = KeyFile(path, on_removed=self.removed.append)

    def poll(self, times=2) -> None:
        for _ in range(times):
            self.file.check()


@pytest.fixture
def owner(path):
    return Owner(path)


def test_reads_what_people_write(path):
    """Comments, blank lines, white space, CRLF, either case, a byte order mark."""
    path.write_bytes(
        b"\xef\xbb\xbf# laptops\r\n\r\n"
        b"  nodekey:" + b"01" * 32 + b"   # mine\r\n"
        b"nodekey:" + b"AB" * 32 + b"\n"
        b"nodekey:" + b"01" * 32
    )
    assert read_keys(path) == {A, b"\xab" * 32}


def test_an_empty_file_admits_nobody(path):
    """It is good all the same: the operator said so."""
    path.write_text("")
    assert read_keys(path) == frozenset()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nodekey:01", "line 2: node key: 2 hex digits, must be 64"),
        ("nodekey:" + "zz" * 32, "line 2: node key: not hexadecimal"),
        ("01" * 32, "line 2: node key: does not start with 'nodekey:'"),
        ("NODEKEY:" + "01" * 32, "line 2: node key: does not start with"),
        ("privkey:" + "07" * 32, "line 2: node key: does not start with"),
    ],
)
def test_a_broken_line_is_named(path, line, reason):
    """By its number; what it says may be a secret."""
    path.write_text(f"{node_key_text(A)}\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        KeyFile(path)
    text = str(caught.value)
    assert text.startswith(f"admission.key_file = '{path}': {reason}")
    assert "0707" not in text


def test_missing_at_the_start(tmp_path):
    """A path that is wrong must not look like an empty file."""
    with pytest.raises(ConfigError, match="cannot be read: no such file or directory"):
        KeyFile(tmp_path / "none")


def test_not_text(path):
    """A key database, say."""
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        KeyFile(path)


async def test_verdicts(owner):
    """In it, or not; it never does not know."""
    found = [owner.file.look(key) for key in (A, C)]
    assert [one.outcome for one in found] == [Outcome.ALLOW, Outcome.DENY]
    assert [one.reason for one in found] == ["in the file", "not in the file"]
    assert await owner.file.ask(C, "192.0.2.9") == found[1]


def test_changes(path, owner, caplog):
    """Added keys may relay; removed ones are told, in one go."""
    caplog.set_level(logging.INFO)
    write(path, C)
    owner.poll()
    assert owner.file.keys == {C}
    assert owner.removed == [{A, B}]
    assert caplog.messages == ["key file: 1 keys added, 2 removed"]


def test_only_additions(path, owner):
    """Nobody left, so nobody is told."""
    write(path, A, B, C)
    owner.poll()
    assert owner.removed == []
    assert owner.file.look(C).allowed


def test_same_keys_otherwise_written(path, owner, caplog):
    """A comment is no change."""
    caplog.set_level(logging.INFO)
    path.write_text(f"# sorted\n{path.read_text()}")
    owner.poll()
    assert (owner.removed, caplog.messages) == ([], [])


def test_written_in_pieces(path, owner):
    """Whoever is in the second half of the file keeps the connection."""
    write(path, A)
    owner.poll(times=1)
    write(path, A, B, C)
    owner.poll()
    assert owner.removed == []


@pytest.mark.parametrize(
    "break_it", [lambda p: p.unlink(), lambda p: p.write_text("x")]
)
def test_the_last_good_set_stays(path, owner, caplog, break_it):
    """A file that vanished or broke disconnects nobody; one warning."""
    break_it(path)
    owner.poll(times=5)
    assert owner.file.keys == {A, B}
    assert owner.removed == []
    (warning,) = caplog.messages
    assert warning.endswith("; the 2 keys in use stay")


def test_mended(path, owner, caplog):
    """Then the file counts again, and the next failure is said again."""
    for keys in ((A,), (A, B)):
        path.write_text("broken")
        owner.poll()
        write(path, *keys)
        owner.poll()
        assert owner.file.keys == set(keys)
    assert len(caplog.messages) == 2


async def test_removal_is_told_within_five_seconds(path, owner):
    """Two looks, a second apart."""
    slept = []

    async def sleep(delay, _wake):
        slept.append(delay)
        if len(slept) == 1:
            write(path, A)
        if owner.removed:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await owner.file.watch(sleep=sleep)
    assert owner.removed == [{B}]
    assert sum(slept) < 5


async def test_reload_is_at_once(path, owner, caplog):
    """SIGHUP: no waiting for the writer, and failures are said again."""

    async def sleep(_delay, wake):
        if len(caplog.messages) == 2:
            raise asyncio.CancelledError
        wake.set()

    path.write_text("broken")
    with pytest.raises(asyncio.CancelledError):
        await owner.file.watch(sleep=sleep)
    assert not owner.file.reload.is_set()
