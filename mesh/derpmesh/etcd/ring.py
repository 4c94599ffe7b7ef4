"""Which endpoint to ask: one until it fails, then the next. No I/O."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar


AWAY = (5.0, 10.0)
"""Seconds for which an endpoint that failed is not asked, least and most."""

T = TypeVar("T")


class Ring(Generic[T]):
    """Holds endpoints in order, and which of them is asked.

    Args:
        endpoints: At least one.
        clock: Seconds, monotonic.
        uniform: Draws a number between two.
    """

    def __init__(
        self,
        endpoints: Sequence[T],
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._clock = clock
        self._uniform = uniform
        self._index = 0
        self._bad = [0.0] * len(self.endpoints)  # until when each is not asked

    @property
    def current(self) -> T:
        """The endpoint to ask."""
        return self.endpoints[self._index]

    def leave(self, endpoint: T) -> bool:
        """Note that one failed; ask the next one that has not, if there is one.

        Where all have failed, it is the one that failed first.

        Returns:
            Whether another one is asked from now on.
        """
        left = self.endpoints.index(endpoint)
        now = self._clock()
        self._bad[left] = now + self._uniform(*AWAY)
        if left != self._index:
            return False
        count = len(self.endpoints)
        order = [(left + step) % count for step in range(1, count + 1)]
        good = [index for index in order if self._bad[index] <= now]
        self._index = good[0] if good else min(order, key=self._bad.__getitem__)
        return self._index != left
