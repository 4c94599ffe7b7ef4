"""Runs the tests in their parts: `python -m tests.run [unit|real|soak]`.

The parts that need nothing but Python run under coverage, with a gate. Peers and
loads are compiled meanwhile, and the tests that need them follow.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
REAL = "interop or load or install"
BESIDE = "beside or install"
TESTS_FAILED = 1  # pytest's exit status for that, and for nothing else

GATES = (
    (100, ("node/derpnode/wire/*", "node/derpnode/relay/*")),
    (90, ("node/derpnode/*", "mesh/derpmesh/*", "ctl/derpctl/*")),
)
"""Least branch coverage in percent, and of what."""


def run(*command: str, env: dict[str, str] | None = None) -> int:
    """Run one step, saying what it is."""
    print(f"\n$ {' '.join(command)}", flush=True)  # noqa: T201
    step = [sys.executable, "-m", *command]
    return subprocess.run(step, cwd=ROOT, env=env, check=False).returncode


def check(runner: Sequence[str], marked: str, *more: str) -> int:
    """Run the tests that are so marked; those that fail once more, each alone.

    Many of them keep time with real sockets and processes. What fails beside
    others and not alone is named, to be mended, and does not fail the run; what
    fails alone does.
    """
    words = [*runner, "-q", "-rs", "-m", marked]
    status = run(*words, *more)
    if status != TESTS_FAILED:
        return status
    status = run(*words, "--last-failed", "--last-failed-no-failures=none")
    if status == 0:
        told = "!!! UNSTEADY: the failures above did not come back alone; mend them"
        print(f"\n{told}", flush=True)  # noqa: T201
    return status


def unit() -> int:
    """Run what needs nothing but Python, and hold the coverage to its gates."""
    run("coverage", "erase")
    covered = ("coverage", "run", "-m", "pytest")
    status = check(covered, f"not ({REAL})", "-n", "2")
    run("coverage", "combine", "--quiet")
    for least, patterns in GATES:
        include = f"--include={','.join(patterns)}"
        status |= run("coverage", "report", f"--fail-under={least}", include)
    return status


def real() -> int:
    """Run what needs real peers and compiled loads; beside each other what may be.

    Most of those wait: for an etcd, an engine, a service manager. Tests of one file
    stay together: they may share what they installed.
    """
    status = check(("pytest",), BESIDE, "-n", "3", "--dist", "loadfile")
    return status | check(("pytest",), f"({REAL}) and not ({BESIDE})")


def soak() -> int:
    """Run fuzzers and slow tests at full length."""
    env = {**os.environ, "HYPOTHESIS_PROFILE": "deep", "DERPMESH_SOAK": "1"}
    status = run("tests.fuzz", "--seconds", "600", env=env)
    return status | run("pytest", "-q", "-m", REAL, "--timeout=3600", env=env)


def everything() -> int:
    """Run both, compiling for the second while the first runs."""
    build = ["nice", "-n", "19", sys.executable, "-m", "tests.support.build"]
    builder = subprocess.Popen(build, cwd=ROOT)
    status = unit()
    builder.wait()
    return status | real()


def main(arguments: Sequence[str]) -> int:
    """Run the part that is named, or everything."""
    parts = {"unit": unit, "real": real, "soak": soak}
    if not arguments:
        return everything()
    return parts[arguments[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
