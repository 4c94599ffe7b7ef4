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
REAL = "interop or load"

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


def unit() -> int:
    """Run what needs nothing but Python, and hold the coverage to its gates."""
    run("coverage", "erase")
    status = run(
        "coverage", "run", "-m", "pytest", "-q", "-n", "2", "-m", f"not ({REAL})"
    )
    run("coverage", "combine", "--quiet")
    for least, patterns in GATES:
        include = f"--include={','.join(patterns)}"
        status |= run("coverage", "report", f"--fail-under={least}", include)
    return status


def real() -> int:
    """Run what needs real peers and compiled loads."""
    return run("pytest", "-q", "-rs", "-m", REAL)


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
