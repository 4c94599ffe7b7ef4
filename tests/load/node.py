"""A node under load, seen from outside: by its metrics, its log and the kernel."""

import contextlib
import math
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop.region import LOOPBACK, ask, demo


LAG = "derpmesh_event_loop_lag_seconds"
HANDSHAKES = "derpmesh_handshakes_in_flight"


def refused(reason: str) -> str:
    """Name the count of connections that were closed at once, for one reason."""
    return f'derpmesh_refused_connections_total{{reason="{reason}"}}'


@dataclass(frozen=True)
class Node:
    """One node of ours that is running."""

    address: str
    """IP address and port of its relay."""
    admin: str
    pin: str
    pid: int
    log_file: Path

    def metrics(self) -> Mapping[str, float]:
        """Read all metrics, each by its name with its labels."""
        text = ask({"admin": self.admin}, "/metrics") or ""
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return {name: float(value) for name, value in pairs}

    def metric(self, name: str) -> float:
        """Read one metric."""
        return self.metrics()[name]

    def rss(self) -> int:
        """Bytes of memory that it has now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def descriptors(self) -> int:
        """Descriptors that it has open now."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def log(self) -> Sequence[str]:
        """Read the lines that it has logged."""
        return self.log_file.read_text().splitlines()

    def allow_descriptors(self, most: int) -> None:
        """Have the kernel give it no descriptor beyond the first so many."""
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def running(
    folder: Path, settings: Sequence[str] = (), address: str | None = None
) -> Iterator[Node]:
    """Run a node until the block ends.

    Args:
        folder: Where it keeps its files.
        settings: `KEY=VALUE` for its configuration.
        address: IP address and port of its relay; else on loopback.
    """
    if address is not None:
        listen = f'derp.listen=["{address}"]'
        settings = [*settings, listen, "admission.i_know_this_is_public=true"]
    with demo(folder, "pinned", settings) as region:
        found = region.demo["nodes"][0]
        where = address or f"{LOOPBACK}:{found['derp_port']}"
        log_file = folder / f"{found['name']}.log"
        yield Node(where, found["admin"], found["pin"], found["pid"], log_file)


@contextlib.contextmanager
def watching(look: Callable[[], float], every: float = 0.25) -> Iterator[list[float]]:
    """Look at something while the block runs; what was seen is in the list.

    A look that gets no answer is left out: the node has better things to do.
    """
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every):
            with contextlib.suppress(OSError):
                seen.append(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def becomes(holds: Callable[[], bool], within: float) -> bool:
    """Wait until something holds; tell whether it did in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return holds()


def lag(
    before: Mapping[str, float], after: Mapping[str, float], share: float
) -> tuple[float, int]:
    """How late the event loop was between two looks at the metrics.

    Returns:
        An upper bound in seconds of so large a share, and how often it was measured.
    """
    start = f'{LAG}_bucket{{le="'
    counts = {
        float(name.removeprefix(start).removesuffix('"}')): count - before[name]
        for name, count in after.items()
        if name.startswith(start)
    }
    total = counts[math.inf]
    bound = min(bound for bound, count in counts.items() if count >= share * total)
    return bound, int(total)
