"""The load generator: its own tests, and a run against nothing."""

import os
import subprocess

import pytest

from tests.bench.build import CRATE, cargo_test, derpload
from tests.support.peers import MissingTool


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def generator():
    """Have the generator, or skip; on CI there is no skipping."""
    try:
        return derpload()
    except MissingTool as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def test_its_own_tests_pass(generator):
    """Golden vectors, record layer, checks of order and damage, histogram."""
    result = cargo_test()
    assert result.returncode == 0, result.stdout
    assert "test result: ok" in result.stdout


def test_no_relay_is_an_error_not_a_figure(generator):
    """Exit status 2, nothing on stdout, the reason on stderr."""
    result = subprocess.run(
        [generator, "pairs", "--addr", "127.0.0.1:1"], capture_output=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"refused in stage connecting" in result.stderr


def test_an_unknown_option_is_refused_before_anything_is_done(generator):
    """A mistyped option must not become a default."""
    result = subprocess.run(
        [generator, "pairs", "--addr", "127.0.0.1:1", "--windw", "3"],
        capture_output=True,
        check=False,
    )
    assert result.returncode == 2
    assert b"--windw is not an option of this load" in result.stderr


def test_its_dependencies_are_locked():
    """The lock file names no index but the public one."""
    sources = {
        line
        for line in (CRATE / "Cargo.lock").read_text().splitlines()
        if line.startswith("source")
    }
    index = "https://github.com/rust-lang/crates.io-index"
    assert sources == {f'source = "registry+{index}"'}
