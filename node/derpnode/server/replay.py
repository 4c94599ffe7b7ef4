"""Refusing a login that was seen before: the proof of a client has no freshness."""

from array import array

from derpnode.wire.keys import NodeKey


_BITS = 64
_SEGMENTS = 256  # each grows by itself, so that no login waits for long
_SMALLEST = 8  # places of a segment that is new
_FULL = 0.7  # part of the places in use at which a segment grows


class ReplayGuard:
    """Remembers logins, bounded in time and number, in 25 bytes or so each.

    They are noted in one set until that is full or old; then it becomes the one
    before, and what was before that is forgotten. So a login is remembered for its
    lifetime at least, and twice that at most, unless more come than there is room for.

    Args:
        lifetime: Seconds for which a login is remembered.
        capacity: Logins remembered; beyond it the older half is forgotten.
    """

    def __init__(self, lifetime: float = 86_400.0, capacity: int = 500_000) -> None:
        self._lifetime = lifetime
        self._half = max(1, capacity // 2)
        self._now = _Marks()
        self._before = _Marks()
        self._since: float | None = None  # when the set that is filled was begun
        self.refused = 0
        """Logins that were seen before."""

    def __len__(self) -> int:
        """How many logins are remembered."""
        return len(self._now) + len(self._before)

    def is_new(self, key: NodeKey, nonce: bytes, now: float) -> bool:
        """Note a login; say whether it had not been seen."""
        # Python's hash of bytes has a key of its own in each process. Two logins have
        # the same by accident once in far more than are remembered.
        mark = hash(key + nonce) % (1 << _BITS)
        self._turn(now)
        if mark in self._now or mark in self._before:
            self.refused += 1
            return False
        self._now.add(mark)
        return True

    def _turn(self, now: float) -> None:
        """Begin a new set when it is time."""
        if self._since is None:
            self._since = now
        age = now - self._since
        if age < self._lifetime and len(self._now) < self._half:
            return
        # After two lifetimes without a login all of them are old.
        self._before = _Marks() if age >= 2 * self._lifetime else self._now
        self._now = _Marks()
        self._since = now


class _Marks:
    """A set of 64-bit numbers: one of Python's own takes four times as much memory."""

    def __init__(self) -> None:
        self._segments = [_Segment() for _ in range(_SEGMENTS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, mark: int) -> bool:
        return self._segments[mark % _SEGMENTS].has(mark // _SEGMENTS + 1)

    def add(self, mark: int) -> None:
        """Add a number that is not in it."""
        self._segments[mark % _SEGMENTS].add(mark // _SEGMENTS + 1)
        self._count += 1


class _Segment:
    """A part of such a set, by open addressing; 0 stands for a place that is free."""

    __slots__ = ("_count", "_places")

    def __init__(self) -> None:
        self._places = array("Q", bytes(8 * _SMALLEST))
        self._count = 0

    def has(self, number: int) -> bool:
        """Tell whether a number is in it; it is not 0."""
        return self._places[self._place(number)] == number

    def add(self, number: int) -> None:
        """Add a number that is not in it."""
        if self._count >= _FULL * len(self._places):
            self._grow()
        self._places[self._place(number)] = number
        self._count += 1

    def _place(self, number: int) -> int:
        """Find where a number is, or would be."""
        places = self._places
        size = len(places)
        place = number % size
        while places[place] not in (number, 0):
            place = (place + 1) % size
        return place

    def _grow(self) -> None:
        before = self._places
        self._places = array("Q", bytes(16 * len(before)))
        for number in before:
            if number:
                self._places[self._place(number)] = number
