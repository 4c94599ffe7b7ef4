"""The limit of open files, as `derpd` finds it."""

import resource
import subprocess
import sys

import pytest

from derpmesh import openfiles
from tests.conformance.scene import settings


def limited(count: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `derpd` with so many descriptors, until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "derpmesh.daemon", *words],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_too_few_are_refused_in_one_line(tmp_path):
    """With 32 a node would listen and take nobody, or end in a traceback."""
    words = [word for each in settings(tmp_path) for word in ("--set", each)]
    ended = limited(32, *words)
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert line.startswith("derpd: nofile = 32: the limit of open files; a node needs")


@pytest.mark.parametrize(
    ("limit", "told"), [(openfiles.FEW - 1, 1), (openfiles.FEW, 0)]
)
def test_few_are_told(caplog, limit, told):
    """It goes on, and says what will happen."""
    openfiles.tell(limit)
    assert len(caplog.records) == told


def test_all_that_may_be_are_taken():
    """The soft limit becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert openfiles.raise_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
