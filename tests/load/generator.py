"""Runs the compiled load generator, and judges what it reports."""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.table import DISTURBED, dig
from tests.load.node import Node
from tests.load.scale import LIMIT


BUSY_FACTOR = 50
"""By how much a tail may be longer where others use the CPUs: it is theirs then. What
these tests are there to find, waiting for a peer that does nothing, is longer still."""


@dataclass(frozen=True)
class Report:
    """What the generator says of one load, or of an event in it."""

    document: Mapping[str, object]

    @property
    def is_ok(self) -> bool:
        """Whether nothing happened that must not, by the generator's own lights."""
        return self.document["ok"] is True

    def number(self, path: str) -> float:
        """Return the number at a dotted path."""
        return dig(self.document, path)

    def counts(self, path: str) -> Mapping[str, int]:
        """Return the counts by reason at a path."""
        found: object = self.document
        for word in path.split("."):
            assert isinstance(found, Mapping), f"no {path} in {self.document}"
            found = found[word]
        assert isinstance(found, Mapping), f"no {path} in {self.document}"
        return {str(reason): int(count) for reason, count in found.items()}

    def others(self, part: str = "measured") -> float:
        """Return how many CPUs everybody else used during a part of the load."""
        section = self.document[part]
        assert isinstance(section, Mapping)
        busy = sum(float(cpu["busy"]) for cpu in section["cpus"])
        ours = dig(section, "relay.share") + dig(section, "generator.share")
        return max(busy - ours, 0.0)


class Run:
    """A load that is under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def event(self, within: float) -> Report:
        """Wait for the next thing that it tells.

        Raises:
            AssertionError: It ended without a word.
            queue.Empty: It told nothing in so many seconds.
        """
        line = self._lines.get(timeout=within)
        if line is None:
            errors = self._process.stderr.read() if self._process.stderr else ""
            message = f"derpload exited with {self._process.wait()}: {errors}"
            raise AssertionError(message)
        return Report(json.loads(line))

    def finish(self) -> Report:
        """End its input, wait for its end, and return what it has to say."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        last = self.event(LIMIT)
        while (line := self._lines.get(timeout=LIMIT)) is not None:
            last = Report(json.loads(line))
        return last


class Generator:
    """The load generator; tests run one load at a time, or two small ones."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    @contextlib.contextmanager
    def start(self, node: Node, *words: object) -> Iterator[Run]:
        """Begin a load on a node; it is ended with the block."""
        watched = [word for cpu in cpus() for word in ("--watch-cpu", cpu)]
        options = ["--addr", node.address, "--relay-pid", node.pid, *watched]
        with subprocess.Popen(
            [str(word) for word in (self._binary, *words, *options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Run(process)
            finally:
                process.kill()

    def run(self, node: Node, *words: object) -> Report:
        """Put a load on a node, and wait for its end."""
        with self.start(node, *words) as run:
            return run.finish()


def cpus() -> Sequence[int]:
    """Return the numbers of all CPUs."""
    return range(os.cpu_count() or 1)


def allowed(ratio: float, reports: Sequence[Report], part: str = "measured") -> float:
    """Return how many times its baseline a tail may be, as others use the machine."""
    quiet = any(report.others(part) <= DISTURBED for report in reports)
    return ratio if quiet else ratio * BUSY_FACTOR


def tail_ratio(reports: Sequence[Report], part: str) -> float:
    """Compare the tail under load with that alone, over some rounds of both.

    Other users of the machine can only lengthen a tail, so the shortest under load
    counts, and the longest alone.
    """
    loaded = min(report.number(f"{part}.latency_us.p99") for report in reports)
    return loaded / max(report.number("alone.latency_us.p99") for report in reports)
