"""Writes down what happens on a day, for whoever must find out why it went wrong."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path


LAST = 100
"""Entries that are told when something went wrong."""


class Diary:
    """The last things that happened, and how often each did.

    Args:
        seed: What the day is drawn from.
        file: Where all of it is written.
    """

    def __init__(self, seed: int, file: Path) -> None:
        self.counts: Counter[str] = Counter()
        """Things that were done, by what they are."""

        self._seed = seed
        self._file = file
        self._began = time.monotonic()
        self._entries: deque[str] = deque(maxlen=LAST)

    def note(self, who: str, what: str) -> None:
        """Write something down."""
        entry = f"{time.monotonic() - self._began:8.2f} {who} {what}"
        self._entries.append(entry)
        with self._file.open("a") as file:
            file.write(f"{entry}\n")

    def told(self) -> Iterator[str]:
        """Yield the seed, and the last entries."""
        yield f"DERPMESH_SEED={self._seed} draws the same day; the last {LAST} entries:"
        yield from self._entries

    @contextlib.contextmanager
    def open(self, say: Callable[[str], None]) -> Iterator[None]:
        """Tell what happened last if the block fails."""
        say(f"DERPMESH_SEED={self._seed}")
        try:
            yield
        except BaseException:
            for line in self.told():
                say(line)
            raise
