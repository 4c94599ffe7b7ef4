"""Who has received from whom: those who are told when a key leaves the region."""

from derpnode.wire.keys import NodeKey


class Contacts:
    """Pairs of a receiving connection and a source key, found from either side."""

    def __init__(self) -> None:
        self._receivers: dict[NodeKey, dict[int, None]] = {}
        self._sources: dict[int, set[NodeKey]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._receivers.values()))

    def add(self, receiver: int, source: NodeKey) -> None:
        """Note that a connection was sent a packet from this key."""
        self._receivers.setdefault(source, {})[receiver] = None
        self._sources.setdefault(receiver, set()).add(source)

    def take(self, source: NodeKey) -> list[int]:
        """Remove and return the connections that received from a key, in order."""
        receivers = list(self._receivers.pop(source, ()))
        for receiver in receivers:
            sources = self._sources[receiver]
            sources.discard(source)
            if not sources:
                del self._sources[receiver]
        return receivers

    def remove(self, receiver: int) -> None:
        """Forget a connection that is gone."""
        for source in self._sources.pop(receiver, ()):
            receivers = self._receivers[source]
            del receivers[receiver]
            if not receivers:
                del self._receivers[source]
