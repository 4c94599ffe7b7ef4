"""Waiting until nobody else uses the CPUs that a run needs."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path


# A CPU that is busy for less than this share of a look is quiet.
QUIET = 0.1

# Seconds of a look.
LOOK = 0.5


def wait_for_quiet(cpus: Sequence[int], limit: float) -> bool:
    """Return as soon as these CPUs are quiet, or after the limit; tell which.

    Args:
        cpus: Numbers of CPUs.
        limit: Seconds; with 0 nobody looks.
    """
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = [_busy(cpu) for cpu in cpus]
        time.sleep(LOOK)
        spent = (_busy(cpu) - then for cpu, then in zip(cpus, before, strict=True))
        if max(spent) < QUIET * LOOK:
            return True
    return False


def prefer(niceness: int, pid: int = 0) -> None:
    """Give a process, by default this one and all that it starts, another priority.

    Where the kernel groups processes by session, only the group's niceness counts
    against other sessions, so both are set. Source: sched(7), the autogroup feature.
    """
    os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(niceness))


def _busy(cpu: int) -> float:
    """Return the seconds that a CPU has not idled since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
            return (user + nice + system + irq + softirq) / 100
    message = f"no CPU {cpu} in /proc/stat"
    raise ValueError(message)
