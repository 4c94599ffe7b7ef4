"""What strangers may cost: questions that they cause, and lines in the log."""

import ipaddress
import logging
from collections.abc import Callable

from derpnode.server.admission.memory import Memory
from derpnode.server.admission.verdict import Verdict
from derpnode.wire.keys import NodeKey, short_key


logger = logging.getLogger(__name__)

_MINUTE = 60.0
_HOUR = 3600.0
_REMEMBERED = 16_384  # addresses, and keys
_BURST = 20  # lines at once
_LINES_PER_HOUR = 120  # after them
_PREFIX6 = 64  # bits of an IPv6 address that are one customer


class Bucket:
    """A level that fills up with time and may run into debt.

    Args:
        size: Where it is full, and where it begins.
        per_second: How fast it fills.
        now: The time, in seconds, of any clock that does not jump.
    """

    __slots__ = ("_at", "_level", "_per_second", "_size")

    def __init__(self, size: float, per_second: float, now: float) -> None:
        self._size = self._level = size
        self._per_second = per_second
        self._at = now

    def has(self, now: float) -> bool:
        """Tell whether there is one left to take."""
        gained = (now - self._at) * self._per_second
        self._level = min(self._size, self._level + gained)
        self._at = now
        return self._level >= 1

    def take(self) -> None:
        """Take one, as deep into debt as it was full at most."""
        self._level = max(-self._size, self._level - 1)


class Budget:
    """How many refused keys a minute one address may have us ask about.

    Refusals are charged, not questions: an office behind one address that
    reconnects after a restart must get in at once.

    Args:
        per_minute: 0 turns it off.
        clock: Seconds, monotonic.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: Memory[str, Bucket] = Memory(_REMEMBERED)

    def spent(self, ip: str) -> bool:
        """Tell whether no new key is to be asked about for this address."""
        bucket = self._buckets.get(_customer(ip))
        return bucket is not None and not bucket.has(self._clock())

    def charge(self, ip: str) -> None:
        """Count one refusal. This machine's own addresses are exempt."""
        if self.per_minute == 0 or _is_loopback(ip):
            return
        customer = _customer(ip)
        bucket = self._buckets.get(customer)
        if bucket is None:
            rate = self.per_minute / _MINUTE
            bucket = Bucket(self.per_minute, rate, self._clock())
            self._buckets.put(customer, bucket)
        bucket.take()


class RefusalLog:
    """Logs each refusal once per key and hour, and not without end.

    Whoever comes with a new key each time could fill the disk: some lines
    at once and one every half minute are written; the rest are counted, and
    the next line says how many they were.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged: Memory[NodeKey, float] = Memory(_REMEMBERED)
        self._lines = Bucket(_BURST, _LINES_PER_HOUR / _HOUR, clock())
        self._unlogged = 0

    def refused(self, key: NodeKey, ip: str, verdict: Verdict) -> None:
        """Take note of one refusal."""
        now = self._clock()
        last = self._logged.get(key)
        if last is not None and now - last < _HOUR:
            return
        if not self._lines.has(now):
            self._unlogged += 1
            return
        self._logged.put(key, now)
        self._lines.take()
        more = f" ({self._unlogged} more not logged)" if self._unlogged else ""
        self._unlogged = 0
        logger.info(
            "%s from %s: not admitted: %s (%s); refused%s",
            short_key(key),
            ip or "unknown",
            verdict.reason,
            verdict.source,
            more,
        )


def _customer(ip: str) -> str:
    """Name what one customer of a provider has: an IPv4 address, an IPv6 /64."""
    if ":" not in ip:
        return ip
    return str(
        ipaddress.IPv6Network(f"{ip.partition('%')[0]}/{_PREFIX6}", strict=False)
    )


def _is_loopback(ip: str) -> bool:
    return ip != "" and ipaddress.ip_address(ip).is_loopback
