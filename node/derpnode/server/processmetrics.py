"""The metrics of a process that every Prometheus client has, and what they rest on.

The client library counts open files by listing them, which with ten thousand
connections stops the relay for 20 ms at each scrape. Linux knows the number.
Source of the names: prometheus client libraries, "process metrics".
"""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric

from derpnode.server.exposition import counter, gauge


_PAGE: Final = resource.getpagesize()
_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second

# Fields of /proc/PID/stat after the name in brackets; proc(5) counts from 3 there.
_UTIME, _STIME, _STARTTIME, _VSIZE, _RSS = 11, 12, 19, 20, 21


@dataclass(frozen=True)
class ProcessFacts:
    """What the system says of this process and its machine; 0 where it does not."""

    cpu: float = 0.0
    """Seconds of user and system time."""

    resident: int = 0
    """Bytes."""

    virtual: int = 0
    """Bytes."""

    started: float = 0.0
    """Seconds since the Unix epoch."""

    booted: float = 0.0
    """When the machine started, in the same."""

    open_files: int = 0
    open_files_limit: int = 0


def process_facts(proc: Path = Path("/proc")) -> ProcessFacts:
    """Read what there is to know now."""
    booted = _booted(proc / "stat")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        text = (proc / "self/stat").read_text()
        open_files = _entries(proc / "self/fd")
    except OSError:
        return ProcessFacts(booted=booted, open_files_limit=limit)
    fields = [int(field) for field in text.rpartition(") ")[2].split()[1:]]
    at = dict(enumerate(fields, start=1))
    return ProcessFacts(
        cpu=(at[_UTIME] + at[_STIME]) / _TICKS,
        resident=at[_RSS] * _PAGE,
        virtual=at[_VSIZE],
        started=booted + at[_STARTTIME] / _TICKS,
        booted=booted,
        open_files=open_files,
        open_files_limit=limit,
    )


def process_metrics(facts: ProcessFacts) -> Iterator[Metric]:
    """Yield the families that Prometheus's own libraries have."""
    yield counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        facts.cpu,
    )
    yield gauge("process_open_fds", "Open file descriptors.", facts.open_files)
    yield gauge(
        "process_max_fds",
        "Most file descriptors that may be open.",
        facts.open_files_limit,
    )
    yield gauge("process_virtual_memory_bytes", "Virtual memory size.", facts.virtual)
    yield gauge(
        "process_resident_memory_bytes", "Resident memory size.", facts.resident
    )
    yield gauge(
        "process_start_time_seconds",
        "Start of the process, in seconds since the Unix epoch.",
        facts.started,
    )


def _entries(directory: Path) -> int:
    """Count open files. Linux 6.2 and later give the number as the size."""
    return directory.stat().st_size or sum(1 for _ in directory.iterdir())


def _booted(stat: Path) -> float:
    with suppress(OSError):
        for line in stat.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "btime":
                return float(value)
    return 0.0
