"""The files of the mesh keys: steps, what a crash leaves of them, and bad files."""

import asyncio
import errno
import itertools
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from derpnode.errors import ConfigError
from derpnode.kinds import Kind
from derpnode.server import meshkeys as module
from derpnode.server.journal import Journal
from derpnode.server.meshkeys import MeshKeyRefused, MeshKeys
from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing


OLD, NEW, OTHER = (MeshKey(bytes([number]) * 32) for number in (1, 2, 3))

STEADY = MeshRing(OLD)
STAGED = MeshRing(OLD, next=NEW)
SWITCHED = MeshRing(NEW, previous=OLD)
RETIRED = MeshRing(NEW)


def write(path: Path, key: MeshKey) -> None:
    """Put a key into a file as an operator would."""
    path.write_text(key.text())
    path.chmod(0o600)


@pytest.fixture
def path(tmp_path):
    """The file of the key that is sent."""
    found = tmp_path / "mesh.key"
    write(found, OLD)
    return found


def suffixed(path: Path, name: str) -> Path:
    """The file beside it."""
    return path.with_name(f"{path.name}.{name}")


def lay(path: Path, ring: MeshRing) -> None:
    """Write the files of a ring."""
    write(path, ring.current)
    for name in ("next", "previous"):
        if (key := getattr(ring, name)) is not None:
            write(suffixed(path, name), key)


# Steps.


async def test_a_rotation(path):
    """Stage, switch, retire; each is in the files, for their owner alone."""
    keys = MeshKeys(path)
    changes = []
    keys.changed = lambda: changes.append(keys.ring)
    await keys.stage(NEW)
    await keys.switch()
    await keys.retire()
    assert changes == [STAGED, SWITCHED, RETIRED]
    assert [file.name for file in path.parent.iterdir()] == ["mesh.key"]
    assert path.read_text() == f"{NEW.text()}\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ring", [STAGED, SWITCHED])
async def test_files_are_private(path, ring):
    """Whatever the umask says."""
    before = os.umask(0)
    try:
        keys = MeshKeys(path)
        await keys.stage(NEW)
        if ring is SWITCHED:
            await keys.switch()
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert MeshKeys(path).ring == ring


@pytest.mark.parametrize(
    ("step", "ring"),
    [
        (lambda keys: keys.stage(NEW), STAGED),
        (MeshKeys.switch, SWITCHED),
        (MeshKeys.retire, RETIRED),
        (MeshKeys.retire, STEADY),
        (MeshKeys.back, STAGED),
        (MeshKeys.back, STEADY),
        (MeshKeys.abort, STEADY),
        (lambda keys: keys.stage(NEW), SWITCHED),
    ],
)
async def test_a_step_that_is_done_changes_nothing(path, ring, step):
    """Whoever did not hear the answer may ask again."""
    lay(path, ring)
    keys = MeshKeys(path)
    keys.changed = pytest.fail
    await step(keys)
    assert keys.ring == ring


async def test_the_way_back(path):
    """First the old key is sent again and the new one still taken, then it is gone."""
    lay(path, SWITCHED)
    keys = MeshKeys(path)
    await keys.back()
    assert keys.ring == STAGED
    await keys.abort()
    assert keys.ring == STEADY
    assert [file.name for file in path.parent.iterdir()] == ["mesh.key"]


@pytest.mark.parametrize(
    ("ring", "step", "text"),
    [
        (STAGED, lambda keys: keys.stage(OTHER), "another rotation is under way"),
        (SWITCHED, lambda keys: keys.stage(OTHER), "another rotation is under way"),
        (STEADY, MeshKeys.switch, "there is no next key"),
        (STAGED, MeshKeys.retire, "the next key is not sent yet"),
        (SWITCHED, MeshKeys.abort, "the next key is sent already"),
        (MeshRing(OLD, NEW, OTHER), MeshKeys.switch, "the previous key is still here"),
    ],
)
async def test_steps_out_of_order(path, ring, step, text):
    """Are refused, with a remedy, and without a key; nothing changes."""
    lay(path, ring)
    keys = MeshKeys(path)
    with pytest.raises(MeshKeyRefused, match=text) as caught:
        await step(keys)
    assert caught.value.remedy
    assert keys.ring == ring == MeshKeys(path).ring
    for key in (OLD, NEW, OTHER):
        assert key.text() not in str(caught.value)


async def test_steps_at_the_same_time(path):
    """One after the other: of two keys the second is refused, and nothing is mixed."""
    keys = MeshKeys(path)
    done = await asyncio.gather(
        keys.stage(NEW), keys.stage(OTHER), keys.switch(), return_exceptions=True
    )
    assert [type(one) for one in done] == [type(None), MeshKeyRefused, type(None)]
    assert keys.ring == SWITCHED == MeshKeys(path).ring


async def test_files_of_an_operator_count(path):
    """Of the moment before a step, too, though nobody has looked at them yet."""
    keys = MeshKeys(path)
    write(suffixed(path, "next"), NEW)
    await keys.switch()
    assert keys.ring == SWITCHED


# Crashes, and files that cannot be written.


class Crash(BaseException):
    """The power is off."""


@pytest.mark.parametrize(
    ("ring", "step"),
    [
        (STEADY, lambda keys: keys.stage(NEW)),
        (STAGED, MeshKeys.switch),
        (SWITCHED, MeshKeys.retire),
        (SWITCHED, MeshKeys.back),
        (STAGED, MeshKeys.abort),
    ],
    ids=["stage", "switch", "retire", "back", "abort"],
)
async def test_a_crash_anywhere(tmp_path, monkeypatch, ring, step):
    """Each key that was taken and is to be is taken after it; a second try is whole."""
    file = tmp_path / "whole" / "mesh.key"
    file.parent.mkdir()
    lay(file, ring)
    await step(whole := MeshKeys(file))
    must = {key for key in ring.keys if key in whole.ring.keys}
    for moment in itertools.count(1):
        file = tmp_path / str(moment) / "mesh.key"
        file.parent.mkdir()
        lay(file, ring)
        with monkeypatch.context() as patch:
            if not await crashes(patch, MeshKeys(file), step, moment):
                break
        left = MeshKeys(file)
        assert must <= set(left.ring.keys) <= {*ring.keys, *whole.ring.keys}
        assert left.ring in (ring, whole.ring)
        if left.ring == ring:
            await step(left)
        assert left.ring == whole.ring
        assert not list(file.parent.glob(".*"))
    assert moment > 1


async def crashes(patch, keys, step, moment) -> bool:
    """Take a step and crash before its so-manieth change; whether it came to that."""
    left = moment

    def before(change):
        def changed(*arguments, **about):
            nonlocal left
            left -= 1
            if left == 0:
                raise Crash
            return change(*arguments, **about)

        return changed

    patch.setattr(module, "write_atomically", before(module.write_atomically))
    patch.setattr(module, "_sync", before(module._sync))
    patch.setattr(Path, "unlink", before(Path.unlink))
    try:
        await step(keys)
    except Crash:
        return True
    return False


@pytest.mark.parametrize(
    ("ring", "step", "named"),
    [
        (STEADY, lambda keys: keys.stage(NEW), "put the key into {}.next yourself"),
        (STAGED, MeshKeys.switch, "move {}.next over it, yourself"),
        (SWITCHED, MeshKeys.back, "move {}.previous over it, yourself"),
        (SWITCHED, MeshKeys.retire, "remove {}.previous yourself"),
        (STAGED, MeshKeys.abort, "remove {}.next yourself"),
    ],
)
async def test_a_read_only_directory(path, monkeypatch, ring, step, named):
    """The operator is told which file to drop; and then it goes on."""
    lay(path, ring)
    keys = MeshKeys(path)

    def refuse(*_arguments, **_about):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module, "write_atomically", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(MeshKeyRefused) as caught:
        await step(keys)
    assert caught.value.reason == "cannot be written: read-only file system"
    assert named.format(path) in caught.value.remedy
    assert caught.value.remedy.endswith("then `derpctl key mesh rotate` goes on")
    assert keys.ring == ring


# Bad files.


@pytest.mark.parametrize("name", ["next", "previous"])
@pytest.mark.parametrize("bad", ["", "x", "00" * 32])
async def test_a_bad_file_changes_nothing(path, caplog, name, bad):
    """It is noted and said once, never shown; a good one is taken up."""
    keys = MeshKeys(path)
    file = suffixed(path, name)
    file.write_text(bad)
    file.chmod(0o600)
    for _ in range(3):
        keys.check()
    assert keys.ring == STEADY
    [note] = keys.notes()
    assert note == caplog.messages[0]
    assert note.startswith(f"mesh.key_file = '{file}': mesh key: ")
    assert note.endswith("; the mesh keys in use stay")
    assert len(caplog.messages) == 1
    with pytest.raises(MeshKeyRefused, match="goes on"):
        await keys.stage(NEW)
    file.write_text(NEW.text())
    keys.check()
    assert NEW in keys.ring.keys
    assert "in use stay" not in "".join(keys.notes())


def test_a_file_that_others_can_read(path):
    """Is no mesh key, as at the start."""
    keys = MeshKeys(path)
    file = suffixed(path, "next")
    file.write_text(NEW.text())
    file.chmod(0o640)
    keys.check(asked=True)
    assert keys.ring == STEADY
    assert "mode 0640" in keys.notes()[0]
    file.chmod(0o600)
    keys.check()
    assert keys.ring == STAGED


@pytest.mark.parametrize("text", ["", "x" * 64])
def test_a_current_key_that_is_spoilt(path, text):
    """The last good one stays, with all that was beside it."""
    lay(path, STAGED)
    keys = MeshKeys(path)
    path.write_text(text)
    keys.check(asked=True)
    assert keys.ring == STAGED
    path.unlink()
    keys.check(asked=True)
    assert keys.ring == STAGED
    assert "no such file" in keys.notes()[0]


def test_a_start_with_a_bad_file(path, caplog):
    """Only the key that is sent must be there; the node starts, and says so."""
    suffixed(path, "next").write_text("x")
    keys = MeshKeys(path)
    assert keys.ring == STEADY
    assert caplog.messages == keys.notes()
    path.write_text("x")
    with pytest.raises(ConfigError):
        MeshKeys(path)


async def test_notes_of_a_rotation(path):
    """One that is not finished is not forgotten."""
    keys = MeshKeys(path)
    assert keys.notes() == []
    await keys.stage(NEW)
    [note] = keys.notes()
    assert "under way, and staged here" in note
    await keys.switch()
    assert "switched here" in keys.notes()[0]
    await keys.retire()
    assert keys.notes() == []


async def test_each_change_is_an_event(path):
    """With the phase and the fingerprints, and never a key."""
    journal = Journal(lambda: datetime(2026, 1, 1, tzinfo=UTC))
    keys = MeshKeys(path, journal)
    await keys.stage(NEW)
    await keys.stage(NEW)
    await keys.switch()
    first, second = journal.after(0)
    assert (first.kind, first.fields["phase"]) == (Kind.KEY_PHASE, "staged")
    assert second.fields == {
        "phase": "switched",
        "current": NEW.fingerprint(),
        "previous": OLD.fingerprint(),
    }
    assert second.text == f"switched: {keys.ring}"
    for key in (OLD, NEW):
        assert key.text() not in repr((first, second))


# Following.


async def test_files_are_followed(path):
    """Two looks alike, or a word of the operator: then they are in force."""
    keys = MeshKeys(path)
    news = asyncio.Event()
    keys.changed = news.set
    looks = 0

    async def sleep(_delay, wake):
        nonlocal looks
        looks += 1
        if looks > 2:
            await wake.wait()
        await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        job = tasks.create_task(keys.watch(sleep=sleep))
        write(suffixed(path, "next"), NEW)
        await news.wait()
        assert (keys.ring, looks) == (STAGED, 3)
        news.clear()
        write(path, NEW)
        write(suffixed(path, "previous"), OLD)
        suffixed(path, "next").unlink()
        keys.reload.set()
        await news.wait()
        assert keys.ring == SWITCHED
        job.cancel()


def test_files_that_change_under_the_reader(path, monkeypatch):
    """A node that shares them switches just then; no key is missed."""
    lay(path, STAGED)
    keys = MeshKeys(path)
    read = module.find_mesh_key

    def find(file):
        monkeypatch.setattr(module, "find_mesh_key", read)
        write(suffixed(path, "previous"), OLD)
        suffixed(path, "next").replace(path)
        return read(file)

    monkeypatch.setattr(module, "find_mesh_key", find)
    keys.check(asked=True)
    assert keys.ring == SWITCHED
