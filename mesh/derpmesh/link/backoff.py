"""Delays between attempts: they grow, and jitter keeps nodes from marching in step."""

import random
from collections.abc import Callable, Iterator


FIRST = 0.25
"""Seconds, at most, before the second attempt."""

MOST = 15.0
"""Seconds, at most, between two attempts."""


def delays(
    uniform: Callable[[float, float], float] = random.uniform,
    *,
    most: float = MOST,
) -> Iterator[float]:
    """Yield delays in seconds, for ever: full jitter below a bound that doubles.

    Args:
        uniform: Draws a number between two.
        most: Seconds that the bound is at most.
    """
    bound = FIRST
    while True:
        yield uniform(0, bound)
        bound = min(most, bound * 2)
