"""Our node beside Go's derper: rounds, interleaved, one table."""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.bench.build import CrateNotBuilt, derpload
from tests.bench.quiet import prefer, wait_for_quiet
from tests.bench.relays import (
    DEMO,
    Demo,
    Derper,
    Endpoint,
    Meshed,
    Relay,
    RelayNotStarted,
)
from tests.bench.rows import BY_NAME, ROWS, Row
from tests.bench.table import DISTURBED, Cell, Table
from tests.interop.region import Server
from tests.support.peers import BuildFailed, MissingTool, peer


ANCHOR: Server = "derper-1.104"

# Seconds that any single load may take.
LOAD_LIMIT = 180.0

# Times that a disturbed run is repeated, when there is patience.
REPEATS = 2

OURS, THEIRS = "ours", "derper"


@dataclass(eq=False)
class LoadFailed(Exception):
    """A load gave no report, or one that says that packets were harmed."""

    load: str
    reason: str

    def __str__(self) -> str:
        return f"{self.load}: {self.reason}"


@dataclass(frozen=True)
class Side:
    """What is measured of one maker."""

    alone: Relay
    """One node."""
    meshed: Relay
    """Two, for the rows of the mesh."""


@dataclass(frozen=True)
class Bench:
    """Where things run, and for how long."""

    generator: Path
    relay_cpu: int
    generator_cpu: int
    seconds: float
    patience: float = 0.0
    niceness: int | None = None

    def measure(self, row: Row, relay: Relay) -> Cell:
        """Start a relay, load it, stop it; with patience, again if others disturbed it.

        Raises:
            RelayNotStarted: There was nothing to load.
            LoadFailed: The load gave no report, or harm was done.
        """
        cell = self._once(row, relay)
        for _ in range(REPEATS if self.patience else 0):
            if cell.disturbed <= DISTURBED:
                break
            cell = min(cell, self._once(row, relay), key=lambda one: one.disturbed)
        return cell

    def _once(self, row: Row, relay: Relay) -> Cell:
        wait_for_quiet((self.relay_cpu, self.generator_cpu), self.patience)
        with relay.up(self.relay_cpu) as endpoint:
            if self.niceness is not None:
                for pid in pids(endpoint):
                    prefer(self.niceness, pid)  # it may have a session of its own
            return Cell(row, self.load(row, endpoint))

    def load(self, row: Row, endpoint: Endpoint) -> dict[str, object]:
        """Run one load against a relay; return the generator's report."""
        words = [word.format(seconds=self.seconds) for word in row.load]
        port = endpoint.stun_port if row.port == "stun" else endpoint.derp_port
        command = [
            *(str(self.generator), *words),
            *("--addr", f"{endpoint.address}:{port}", "--host", endpoint.host),
            *(word for pid in pids(endpoint) for word in ("--relay-pid", str(pid))),
            *("--cpu", str(self.generator_cpu)),
            *("--watch-cpu", str(self.relay_cpu)),
            *("--watch-cpu", str(self.generator_cpu)),
        ]
        if endpoint.other is not None:
            other = endpoint.other
            command += ["--addr-b", f"{other.address}:{other.derp_port}"]
        return report(row.name, command)


def pids(endpoint: Endpoint) -> list[int]:
    """Return the processes of all nodes."""
    other = endpoint.other
    return [endpoint.pid, *(pids(other) if other is not None else [])]


def report(name: str, command: Sequence[str]) -> dict[str, object]:
    """Run the generator; return the last document that it prints.

    Raises:
        LoadFailed: It printed none, or one whose ``ok`` is not true.
    """
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(name, f"no report within {LOAD_LIMIT:.0f} s") from error
    lines = result.stdout.splitlines()
    if result.returncode not in {0, 1} or not lines:
        raise LoadFailed(name, result.stderr.strip() or f"exit {result.returncode}")
    document: dict[str, object] = json.loads(lines[-1])
    if document.get("ok") is not True:
        raise LoadFailed(name, f"not ok: {lines[-1]}")
    return document


def rounds(
    bench: Bench, rows: Sequence[Row], sides: Sequence[Side], count: int
) -> Iterator[tuple[int, Row, str, Cell | Exception]]:
    """Measure every row on every relay, so often, in random order within a round."""
    order = random.SystemRandom()
    for number in range(count):
        for row in order.sample(rows, len(rows)):
            for side in order.sample(sides, len(sides)):
                relay = side.meshed if row.meshed else side.alone
                try:
                    yield number, row, relay.name, bench.measure(row, relay)
                except (RelayNotStarted, LoadFailed) as error:
                    yield number, row, relay.name, error


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=positive(int), default=5)
    parser.add_argument("--seconds", type=positive(float), default=4.0, help="a load")
    parser.add_argument(
        "--rows", type=row_names, default=list(ROWS), help=f"of {','.join(BY_NAME)}"
    )
    parser.add_argument(
        "--ours",
        metavar="CMD",
        help="a command that prints the document of derpctl demo and holds; {dir} is"
        " a folder for it; the word derper measures derper twice",
    )
    parser.add_argument("--derper", type=Path, help="a binary [built, of 1.104.5]")
    parser.add_argument(
        "--patience",
        type=positive(float),
        default=0.0,
        metavar="SECONDS",
        help="on a shared machine: wait so long for quiet CPUs, repeat disturbed runs",
    )
    parser.add_argument(
        "--nice", type=int, metavar="N", help="priority of both sides; below 0 for root"
    )
    parser.add_argument("--relay-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser.parse_args(arguments)


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return a reader of numbers above zero."""

    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            message = f"{text} is not above 0"
            raise argparse.ArgumentTypeError(message)
        return value

    return read


def row_names(text: str) -> list[Row]:
    """Read a list of rows, comma-separated."""
    names = text.split(",")
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        message = f"{', '.join(unknown)}: not a row; there are {', '.join(BY_NAME)}"
        raise argparse.ArgumentTypeError(message)
    return [BY_NAME[name] for name in names]


def sides_of(options: argparse.Namespace) -> tuple[Side, Side]:
    """Return our relays and theirs."""
    derper = options.derper or peer(ANCHOR)
    theirs = Side(Derper(derper, THEIRS), Meshed(ANCHOR, THEIRS))
    if options.ours == "derper":
        return Side(Derper(derper, OURS), Meshed(ANCHOR, OURS)), theirs
    ours = Demo.parse(options.ours) if options.ours else Demo(DEMO)
    return Side(ours, Meshed("ours", OURS)), theirs


def run(options: argparse.Namespace) -> int:
    """Measure, print, and say by the exit status whether every figure is there."""
    cpus = os.sched_getaffinity(0)
    if not {options.relay_cpu, options.generator_cpu} <= cpus or len(cpus) == 1:
        return complain(f"needs two CPUs of its own, may use {sorted(cpus)}")
    bench = Bench(
        derpload(),
        options.relay_cpu,
        options.generator_cpu,
        options.seconds,
        options.patience,
        options.nice,
    )
    sides = sides_of(options)
    if options.nice is not None:
        prefer(options.nice)
    allow_many_files()
    table = Table(options.rows, (OURS, THEIRS))
    for number, row, name, cell in rounds(bench, options.rows, sides, options.rounds):
        told = cell if isinstance(cell, Exception) else cell.brief()
        print(
            f"{number + 1}/{options.rounds} {row.name} {name}: {told}", file=sys.stderr
        )
        table.add(number, row, name, cell)
    print(json.dumps(table.document()) if options.output == "json" else table.text())
    missing = table.missing()
    return complain("\n".join(missing)) if missing else 0


def _leave(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that relays end with us."""
    sys.exit(128 + number)


def allow_many_files() -> None:
    """Let relays have as many connections as the system allows us to let them."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def complain(text: str) -> int:
    """Print what is wrong; return the exit status that says so."""
    print(f"bench: {text}", file=sys.stderr)
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        return run(options)
    except (MissingTool, BuildFailed, CrateNotBuilt) as error:
        return complain(str(error))
