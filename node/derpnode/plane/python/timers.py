"""Keepalives, and the kernel's round-trip estimate."""

import heapq
import struct
from collections.abc import Callable, Iterator

from derpnode.plane.contract import KEEPALIVE_GAP, ConnectionId


_RTT_OFFSET = 68  # of tcpi_rtt in struct tcp_info, linux/tcp.h
_RTT_BOUNDS = (10, 20, 50, 100, 150, 250, 500)


class KeepAlives:
    """When each relayed connection is due its next keepalive."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._due: list[tuple[float, ConnectionId]] = []

    def add(self, connection: ConnectionId, now: float) -> None:
        """Draw the next gap of a connection."""
        due = now + self._uniform(*KEEPALIVE_GAP)
        heapq.heappush(self._due, (due, connection))

    def due(self, now: float) -> Iterator[ConnectionId]:
        """Yield who is due, whether or not it is still there."""
        while self._due and self._due[0][0] <= now:
            yield heapq.heappop(self._due)[1]


def rtt_label(tcp_info: bytes) -> str:
    """Read the round-trip time of `TCP_INFO` as a label of `derp_tcp_rtt`."""
    if len(tcp_info) < _RTT_OFFSET + 4:
        return "error"
    microseconds: int = struct.unpack_from("=I", tcp_info, _RTT_OFFSET)[0]
    for bound in _RTT_BOUNDS:
        if microseconds <= bound * 1000:
            return f"{bound}ms"
    return "inf"
