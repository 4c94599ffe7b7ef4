"""No input may take long: strangers choose it."""

import time
from collections.abc import Callable
from dataclasses import dataclass


LIMIT = 0.5
"""Seconds of the processor for one input.

Far above what one costs a node: a target says it in hundreds of pieces, and what it
runs is instrumented. The cost of single inputs has tests of its own.
"""

_TRIES = 3  # a collection of garbage is not the input's fault


@dataclass(eq=False)
class TooSlow(Exception):
    """An input takes more time than any may."""

    seconds: float
    size: int

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s for {self.size} bytes, limit is {LIMIT:g} s"


def bounded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Have a target fail on inputs that take long, each time."""

    def run(data: bytes) -> None:
        took = 0.0
        for _ in range(_TRIES):
            started = time.thread_time()
            target(data)
            took = time.thread_time() - started
            if took < LIMIT:
                return
        raise TooSlow(took, len(data))

    return run
