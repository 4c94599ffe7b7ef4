"""The two lanes of a receiver whose socket is blocked: disco and data.

Pure: time is an argument. A lane never refuses a packet, it drops its oldest.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


LANE_PACKETS = 32
"""Packets a lane holds. Source: derpserver.go, defaultPerClientSendQueueDepth."""

DATA_BYTES = 256 * 1024
"""Bytes the data lane holds besides: it drops only beyond both. Go's packets alone
cost a bulk transfer a large part of its throughput, as one read can hold 180."""

LINK_BYTES = 4 * DATA_BYTES
"""The same for a link to another node, which many clients share."""

DATA_AGE = 1.5
"""Seconds after which a waiting data packet is worth nothing: the sender has sent it
again. A standing queue is cut from its head by this."""


class Waiting(NamedTuple):
    """A whole Recv or Forward frame in a lane, and when it came."""

    frame: bytes
    since: float


class Lanes:
    """What waits for one blocked receiver.

    Args:
        capacity: Bytes that the data lane holds besides its packets.
    """

    __slots__ = ("_capacity", "_data", "_data_size", "_disco", "size")

    def __init__(self, capacity: int = DATA_BYTES) -> None:
        self._capacity = capacity
        self._data: deque[Waiting] = deque()
        self._disco: deque[Waiting] = deque()
        self._data_size = 0
        self.size = 0
        """Bytes in both lanes."""

    def __len__(self) -> int:
        return len(self._data) + len(self._disco)

    def put(self, frame: bytes, now: float, *, disco: bool) -> list[bytes]:
        """Add a frame; return those that it pushed out, oldest first."""
        lane = self._disco if disco else self._data
        lane.append(Waiting(frame, now))
        self.size += len(frame)
        if not disco:
            self._data_size += len(frame)
        pushed_out: list[bytes] = []
        while len(lane) > LANE_PACKETS and (disco or self._data_size > self._capacity):
            pushed_out.append(self._pop(lane))
        return pushed_out

    def drop_head(self) -> tuple[bytes, bool] | None:
        """Drop the oldest data frame, else the oldest disco frame; say if disco."""
        if self._data:
            return self._pop(self._data), False
        return (self._pop(self._disco), True) if self._disco else None

    def expire(self, now: float) -> list[bytes]:
        """Drop the data frames that are too old, and return them."""
        expired: list[bytes] = []
        while self._data and now - self._data[0].since > DATA_AGE:
            expired.append(self._pop(self._data))
        return expired

    def take(self, limit: int) -> list[Waiting]:
        """Remove frames to write now: disco first, until `limit` bytes are passed."""
        taken: list[Waiting] = []
        size = 0
        for lane in (self._disco, self._data):
            while lane and size < limit:
                waiting = lane.popleft()
                size += len(waiting.frame)
                taken.append(waiting)
                if lane is self._data:
                    self._data_size -= len(waiting.frame)
        self.size -= size
        return taken

    def clear(self) -> Iterable[tuple[bytes, bool]]:
        """Empty both lanes; yield each frame and whether it was disco."""
        for lane, disco in ((self._disco, True), (self._data, False)):
            while lane:
                yield self._pop(lane), disco

    def _pop(self, lane: deque[Waiting]) -> bytes:
        frame = lane.popleft().frame
        self.size -= len(frame)
        if lane is self._data:
            self._data_size -= len(frame)
        return frame
