"""A node under load, seen from outside: by its metrics, its log and the kernel."""

import contextlib
import dataclasses
import json
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

    @property
    def name(self) -> str:
        """What its region calls it."""
        return self.log_file.stem

    def ask(self, path: str, method: str = "GET") -> Mapping[str, object]:
        """Ask the admin listener, and have a JSON document for an answer."""
        text = ask({"admin": self.admin}, path, method)
        assert text is not None, f"{method} {path} was refused"
        found: Mapping[str, object] = json.loads(text)
        return found

    def links(self) -> Mapping[str, Mapping[str, object]]:
        """Describe its links, by peer."""
        items = self.ask("/v1/links")["items"]
        assert isinstance(items, list)
        return {link["peer"]: link for link in items}

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
    with region(folder, 1, settings) as (node,):
        yield node if address is None else dataclasses.replace(node, address=address)


@contextlib.contextmanager
def region(
    folder: Path, nodes: int, settings: Sequence[str] = ()
) -> Iterator[Sequence[Node]]:
    """Run nodes that are linked to each other until the block ends.

    Args:
        folder: Where they keep their files.
        nodes: How many.
        settings: `KEY=VALUE` for the configuration of each.
    """
    with demo(folder, "pinned", settings, nodes) as found:
        yield [
            Node(
                f"{LOOPBACK}:{one['derp_port']}",
                one["admin"],
                one["pin"],
                one["pid"],
                folder / f"{one['name']}.log",
            )
            for one in found.demo["nodes"]
        ]


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
