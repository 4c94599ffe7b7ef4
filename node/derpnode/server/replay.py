"""Refusing a login that was seen before: the proof of a client has no freshness."""

from collections import OrderedDict

from derpnode.wire.keys import NodeKey


class ReplayGuard:
    """Remembers nonces of logins, bounded in time and number.

    Args:
        lifetime: Seconds for which a nonce is remembered.
        capacity: Nonces remembered; beyond it the oldest are forgotten.
    """

    def __init__(self, lifetime: float = 86_400.0, capacity: int = 500_000) -> None:
        self._lifetime = lifetime
        self._capacity = capacity
        self._seen: OrderedDict[int, float] = OrderedDict()
        self.refused = 0
        """Logins that were seen before."""

    def is_new(self, key: NodeKey, nonce: bytes, now: float) -> bool:
        """Note a login; say whether it had not been seen."""
        # A nonce is random and 24 bytes long, so 8 bytes of it with 8 of the key
        # collide by accident once in far more logins than are remembered.
        mark = int.from_bytes(key[:4] + nonce[:8])
        while self._seen:
            oldest = next(iter(self._seen))
            if now - self._seen[oldest] < self._lifetime:
                break
            del self._seen[oldest]
        if mark in self._seen:
            self.refused += 1
            return False
        self._seen[mark] = now
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return True
