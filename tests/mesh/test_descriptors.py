"""The limit of descriptors, in processes of their own, as lowering it is for good."""

import subprocess
import sys

import pytest

from derpmesh.descriptors import ADVISED
from tests.conformance.scene import settings


DERPD = (sys.executable, "-m", "derpmesh.daemon")


SCRIPT = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from derpmesh.descriptors import raise_limit
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def limited(soft, hard):
    """Start with these limits; give the soft one afterwards, and what was said."""
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(soft), str(hard)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(said.stdout), said.stderr


@pytest.mark.parametrize("soft", [256, 512])
def test_few_are_said(soft):
    """As many as may be, and one line with value, consequence and remedy."""
    limit, said = limited(soft, 512)
    assert limit == 512
    assert said.startswith("file descriptors: at most 512, so at most 384 clients;")
    assert f"raise the limit to {ADVISED}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("count", [8, 32])
def test_too_few_are_refused_in_one_line(tmp_path, count):
    """With 32 a node listened and took nobody, with 8 it ended in a traceback."""
    words = [word for each in settings(tmp_path) for word in ("--set", each)]
    ended = subprocess.run(
        ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh", *DERPD, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    said = [line for line in ended.stderr.splitlines() if line.startswith("derpd: ")]
    assert said == ended.stderr.splitlines()[-1:]
    assert said[0].startswith(
        f"derpd: nofile = {count}: file descriptors for no client"
    )
