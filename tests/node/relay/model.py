"""What a relay should believe, as one would explain it at a whiteboard.

Flat lists, searched from end to end; nothing is indexed, so nothing can be left over.
"""

from derpnode.wire.keys import NodeKey
from tests.node.relay.recorder import Client, Link


Pair = tuple[int, NodeKey]
"""A receiver and the key that it received from."""


class Region:
    """The region as one node sees it. Departures return who must be told of them."""

    def __init__(self) -> None:
        self.connected: list[Pair] = []
        """Connections and their keys; whoever came or spoke last is last."""

        self.ways: list[Pair] = []
        """Links and the keys they announce; of one key, the preferred is first."""

        self.received: set[Pair] = set()
        """Connections and the keys they received from, not told since."""

        self.watching: set[int] = set()
        self.answering: set[int] = set()
        """Connections that may be asked whether they live."""

        self.asked: dict[int, float] = {}
        """Those that are asked, and when their time is up."""

    # Looking.

    def knows(self, connection: int) -> bool:
        return any(found == connection for found, _ in self.connected)

    def key_of(self, connection: int) -> NodeKey:
        return next(key for found, key in self.connected if found == connection)

    def connections(self, key: NodeKey) -> list[int]:
        return [connection for connection, found in self.connected if found == key]

    def links(self, key: NodeKey) -> list[int]:
        return [link for link, found in self.ways if found == key]

    def local(self) -> set[NodeKey]:
        return {key for _, key in self.connected}

    def remote(self) -> set[NodeKey]:
        return {key for _, key in self.ways}

    def duplicates(self) -> set[int]:
        return {
            connection
            for connection, key in self.connected
            if len(self.connections(key)) > 1
        }

    def route(self, key: NodeKey) -> Client | Link | None:
        if connections := self.connections(key):
            return Client(connections[-1])
        if links := self.links(key):
            return Link(links[0])
        return None

    # Events.

    def speak(self, connection: int) -> None:
        if self.knows(connection):
            entry = (connection, self.key_of(connection))
            self.connected.remove(entry)
            self.connected.append(entry)
            self.asked.pop(connection, None)

    def leave(self, connection: int) -> set[Pair]:
        if not self.knows(connection):
            return set()
        key = self.key_of(connection)
        self.connected.remove((connection, key))
        self.received = {pair for pair in self.received if pair[0] != connection}
        self.watching.discard(connection)
        self.asked.pop(connection, None)
        return self._told_if_gone(key)

    def announce(
        self, link: int, key: NodeKey, *, in_flood: bool, until: float
    ) -> None:
        for connection in self.connections(key):
            if connection in self.answering:
                self.asked.setdefault(connection, until)
        if (link, key) not in self.ways:
            self.ways.insert(len(self.ways) if in_flood else 0, (link, key))

    def withdraw(self, link: int, key: NodeKey) -> set[Pair]:
        if (link, key) not in self.ways:
            return set()
        self.ways.remove((link, key))
        return self._told_if_gone(key)

    def lose(self, link: int) -> set[Pair]:
        told = [self.withdraw(link, key) for key in self.remote()]
        return set().union(*told)

    def late(self, now: float) -> list[int]:
        return [connection for connection, until in self.asked.items() if until <= now]

    def _told_if_gone(self, key: NodeKey) -> set[Pair]:
        if self.route(key) is not None:
            return set()
        told = {pair for pair in self.received if pair[1] == key}
        self.received -= told
        return told
