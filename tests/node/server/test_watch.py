"""Files that change, and writers that take their time."""

import asyncio

import pytest

from derpnode.server.watch import FileWatch, sleep_or_wake


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_nothing_changed(path):
    """A file that nobody touches is never reported."""
    watch = FileWatch(path)
    assert [watch.changed() for _ in range(3)] == [False] * 3


def test_reported_once_when_settled(path):
    """A change is reported by the second look that finds it, and only once."""
    watch = FileWatch(path)
    path.write_text("three")
    assert [watch.changed() for _ in range(4)] == [False, True, False, False]


def test_waits_for_the_writer(path):
    """While a file keeps changing it is not reported: somebody is writing it."""
    watch = FileWatch(path)
    for size in range(5, 9):
        path.write_text("x" * size)
        assert not watch.changed()
    assert watch.changed()


def test_change_taken_back(path):
    """A file that is what it was is no change: stat sees it through a link."""
    other = path.with_name("other")
    other.write_text("two")
    link = path.with_name("link")
    link.symlink_to(path)
    watch = FileWatch(link)
    link.unlink()
    link.symlink_to(other)
    assert not watch.changed()
    link.unlink()
    link.symlink_to(path)
    assert [watch.changed() for _ in range(2)] == [False, False]


def test_missing_comes_and_goes(path):
    """To vanish is a change, and so is to come back."""
    watch = FileWatch(path)
    path.unlink()
    assert [watch.changed() for _ in range(3)] == [False, True, False]
    path.write_text("one")
    assert [watch.changed() for _ in range(3)] == [False, True, False]


def test_mode_is_part_of_it(path):
    """A chmod is how an operator mends a file that could not be read."""
    watch = FileWatch(path)
    path.chmod(0o600)
    path.chmod(0o640)
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_any_of_several(path, tmp_path):
    """Files that belong together are one thing."""
    second = tmp_path / "second"
    second.write_text("one")
    watch = FileWatch(path, second)
    second.write_text("three")
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_kubernetes_swap(tmp_path):
    """A secret is renewed by renaming the link to its directory."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_text(name)
    data = tmp_path / "..data"
    data.symlink_to("first")
    watch = FileWatch(data / "tls.crt")
    fresh = tmp_path / "..data_tmp"
    fresh.symlink_to("second")
    fresh.replace(data)
    assert [watch.changed() for _ in range(3)] == [False, True, False]


async def test_sleeps_its_time():
    """Without an event it takes its time and leaves the event alone."""
    wake = asyncio.Event()
    await sleep_or_wake(0.001, wake)
    assert not wake.is_set()


async def test_is_woken():
    """A set event ends the wait at once."""
    wake = asyncio.Event()
    wake.set()
    await asyncio.wait_for(sleep_or_wake(3600, wake), timeout=1)
    assert wake.is_set()
