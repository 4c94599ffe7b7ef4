"""Runs fuzzers, and says how often: ``python -m tests.fuzz --seconds N [TARGET]...``.

Each target runs in a process of its own: under atheris (libFuzzer), guided by
coverage, or with hypothesis where atheris is not installed. Any exception that a target
does not expect is a failure, and its input is printed.
"""

import argparse
import concurrent.futures
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fuzz.lines import fuzz
from tests.fuzz.targets import TARGETS


_EXECUTIONS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_PEAK = re.compile(r"^stat::peak_rss_mb:\s*(\d+)", re.MULTILINE)
_NOISE = re.compile(r"^(INFO|WARNING|stat::|NEW_FUNC|\s*#\d+ 0x).*\n", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What came of fuzzing one target."""

    target: str
    executions: int
    seconds: float
    peak: str
    failure: str = ""

    def __str__(self) -> str:
        rate = self.executions / max(self.seconds, 1)
        verdict = "FAILED" if self.failure else "ok"
        return (
            f"{self.target:12} {self.executions:>10,} executions  {rate:>8,.0f}/s  "
            f"{self.peak:>5} MB  {verdict}"
        )


def has_atheris() -> bool:
    """Whether coverage can guide the fuzzers at full speed."""
    return importlib.util.find_spec("atheris") is not None


def guided(target: str, seconds: int) -> Run:
    """Fuzz a target under libFuzzer."""
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stderr
    executions, peak = _EXECUTIONS.search(said), _PEAK.search(said)
    return Run(
        target,
        int(executions[1]) if executions else 0,
        seconds,
        peak[1] if peak else "?",
        "" if done.returncode == 0 else done.stdout + _NOISE.sub("", said),
    )


def unguided(target: str, seconds: int) -> Run:
    """Fuzz a target with hypothesis, in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzz", "--inside", target]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.split()
    failed = done.returncode != 0 or len(lines) != 1
    return Run(
        target,
        0 if failed else int(lines[0]),
        seconds,
        "?",
        done.stdout + done.stderr if failed else "",
    )


def main(arguments: Sequence[str]) -> int:
    """Fuzz what is named, or everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{list(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at once")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"])
    parser.add_argument("--inside", metavar="TARGET", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        print(fuzz(TARGETS[options.inside], options.seconds))  # noqa: T201
        return 0
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    engine = options.engine or ("atheris" if has_atheris() else "hypothesis")
    return _run(engine, options.targets or list(TARGETS), options)


def _run(engine: str, targets: Sequence[str], options: argparse.Namespace) -> int:
    run = guided if engine == "atheris" else unguided
    print(f"fuzzing with {engine}, {options.seconds} s a target", flush=True)  # noqa: T201
    if engine != "atheris":
        print("slower, and less guided: atheris is not installed", flush=True)  # noqa: T201
    started = time.monotonic()
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in pool.map(lambda target: run(target, options.seconds), targets):
            failures += bool(done.failure)
            print(done, done.failure, sep="\n" if done.failure else "", flush=True)  # noqa: T201
    print(f"{time.monotonic() - started:.0f} s, {failures} failed", flush=True)  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
