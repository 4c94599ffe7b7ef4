"""Telling watchers who is here: a flood at first, then every change.

What a watcher was not sent yet is kept as the last state of each key, and a key that
came and went meanwhile is not told at all. So one that does not read costs one entry
per client, here now or told before, and no more. One that went and came is told both:
it may have been elsewhere in between, and only a coming that is news counts as one.
"""

import itertools
from collections.abc import Iterable

from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import GoneReason, Present, peer_gone, peer_present


PIECE = 4096
"""Records sent at once, 230 kB or so; the rest follows when they have left."""


class Watcher:
    """One connection that watches, and what it is still to be told."""

    def __init__(self) -> None:
        self._owed: dict[NodeKey, bytes] = {}
        self._unheard: set[NodeKey] = set()  # owed, and not known to the watcher
        self._left: dict[NodeKey, bytes] = {}  # owed before what is owed
        self.busy = False
        """Whether what was sent before has not left yet."""

    def __len__(self) -> int:
        return len(self._owed)

    def owe_present(self, key: NodeKey, frame: bytes, *, first: bool) -> None:
        """Add that a key is here; an older state of it is forgotten.

        Args:
            key: Who is here.
            frame: What says so.
            first: Whether the key was not here before, or nobody was told.
        """
        if first:
            if key not in self._owed:
                self._unheard.add(key)
            else:  # that it left is owed
                self._left[key] = self._owed[key]
        self._owe(key, frame)

    def owe_gone(self, key: NodeKey, frame: bytes) -> bool:
        """Add that a key left; nothing, if its coming was not told yet.

        Returns:
            Whether it is owed.
        """
        if key in self._unheard:
            self._unheard.remove(key)
            del self._owed[key]
            return False
        self._left.pop(key, None)
        self._owe(key, frame)
        return True

    def _owe(self, key: NodeKey, frame: bytes) -> None:
        self._owed.pop(key, None)
        self._owed[key] = frame

    def take(self) -> list[bytes]:
        """Remove and return a piece of what is owed, in the order of change."""
        taken: list[bytes] = []
        for key in list(itertools.islice(self._owed, PIECE)):
            taken.append(self._left.pop(key, b"") + self._owed.pop(key))
            self._unheard.discard(key)
        return taken


class Presence:
    """The watchers of this node's clients."""

    def __init__(self) -> None:
        self._watchers: dict[int, Watcher] = {}
        self.batches = 0
        """Batches of presence records sent."""

        self.records = 0
        """Presence records sent."""

    def __len__(self) -> int:
        return len(self._watchers)

    def __contains__(self, connection: int) -> bool:
        return connection in self._watchers

    def watch(self, connection: int, present: Iterable[Present]) -> None:
        """Begin to tell a connection, or begin again: it is owed everybody."""
        first = connection not in self._watchers
        watcher = self._watchers.setdefault(connection, Watcher())
        for record in present:
            watcher.owe_present(record.key, peer_present(record), first=first)

    def unwatch(self, connection: int) -> None:
        """Stop telling a connection."""
        self._watchers.pop(connection, None)

    def came(self, record: Present, *, first: bool) -> None:
        """Owe every watcher that a connection came.

        Args:
            record: What they are told of it.
            first: Whether its key had no other connection.
        """
        frame = peer_present(record)
        for watcher in self._watchers.values():
            watcher.owe_present(record.key, frame, first=first)

    def went(self, key: NodeKey) -> int:
        """Owe every watcher that a key has no connection here; say to how many."""
        frame = peer_gone(key, GoneReason.DISCONNECTED)
        return sum(
            [watcher.owe_gone(key, frame) for watcher in self._watchers.values()]
        )

    def ready(self) -> Iterable[tuple[int, bytes]]:
        """Take what can be sent now: a piece for each watcher that is not busy."""
        for connection, watcher in self._watchers.items():
            if len(watcher) and not watcher.busy:
                frames = watcher.take()
                self.batches += 1
                self.records += len(frames)
                watcher.busy = True
                yield connection, b"".join(frames)

    def drained(self, connection: int) -> None:
        """Note that what was sent to a watcher has left."""
        watcher = self._watchers.get(connection)
        if watcher is not None:
            watcher.busy = False
