"""The fuzzers themselves: their seeds pass, they run, and they find what is there."""

import os
import subprocess
import sys
import time

import pytest

from tests.fuzz import __main__ as runner
from tests.fuzz import lines, seeds, slow
from tests.fuzz.targets import TARGETS, Fuzzed


SECONDS = 2
"""Seconds for each target, here. ``make soak`` gives them longer."""


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name):
    """What clients say, and whatever was once wrong, is borne well."""
    fuzzed = TARGETS[name]
    assert fuzzed.seeds
    for seed in (b"", *fuzzed.seeds):
        fuzzed.run(seed[: fuzzed.longest])


@pytest.mark.timeout(60 + SECONDS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run(name, capsys):
    """A few seconds of each; under atheris where there is one."""
    if runner.has_atheris():
        done = runner.guided(name, SECONDS)
    else:
        executions = lines.fuzz(TARGETS[name], SECONDS)
        done = runner.Run(name, executions, SECONDS, "?")
    with capsys.disabled():
        print(f"\n{done}")  # noqa: T201 - a fuzzer says how often it ran
    assert not done.failure, done.failure
    assert done.executions > 20


def buggy(data: bytes) -> None:
    """Fail on what no seed has."""
    if len(data) > 1:
        raise ZeroDivisionError


def test_a_finding():
    """An exception that nobody expects ends a run."""
    with pytest.raises(ZeroDivisionError):
        lines.fuzz(Fuzzed(buggy, [b"A"]), 20)


@pytest.fixture
def strict(monkeypatch) -> float:
    """Allow inputs little time."""
    monkeypatch.setattr(slow, "LIMIT", 0.05)
    return slow.LIMIT


def test_what_takes_long(strict):
    """Is a finding too, if it takes long each time."""
    with pytest.raises(slow.TooSlow, match=r"^0\.\d\d s for 4 bytes, limit is 0.05 s$"):
        slow.bounded(lambda _: _burn(strict * 1.2))(b"slow")


def test_what_takes_long_once(strict):
    """Is not: something else was collected meanwhile."""
    burns = iter([strict * 1.2, 0.0])
    slow.bounded(lambda _: _burn(next(burns)))(b"slow")


def _burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_seeds_are_added_once(tmp_path, monkeypatch):
    """However often a session is captured."""
    monkeypatch.setattr(seeds, "HERE", tmp_path)
    seeds.write("x", [b"one", b"two"])
    seeds.write("x", [b"two", b"three"])
    assert seeds.read("x") == [b"one", b"two", b"three"]
    assert seeds.read("none") == []


def test_comments_in_seeds(tmp_path, monkeypatch):
    """They say why a seed is there."""
    monkeypatch.setattr(seeds, "HERE", tmp_path)
    (tmp_path / "x.txt").write_text("# why\n0a0b # because\n\n")
    assert seeds.read("x") == [b"\x0a\x0b"]


def test_a_target_that_is_none():
    """The runner says which there are."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2
    assert "no target nonsense; there are head, front, frames" in done.stderr
