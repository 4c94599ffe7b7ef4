"""What a relay should believe, as one would explain it at a whiteboard.

Flat lists, searched from end to end; nothing is indexed, so nothing can be left over.
"""

from derpnode.wire.keys import NodeKey
from tests.node.relay.recorder import Client, Link


class Region:
    """The region as one node sees it. Departures return who must be told of them."""

    def __init__(self) -> None:
        self.connected: list[tuple[int, NodeKey]] = []
        """Connections and their keys; whoever came or spoke last is last."""

        self.ways: list[tuple[int, NodeKey]] = []
        """Links and the keys they announce; of one key, the preferred is first."""

        self.received: set[tuple[int, NodeKey]] = set()
        """Connections and the keys they received from, not told since."""

        self.watching: set[int] = set()

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

    def connect(self, connection: int, key: NodeKey) -> None:
        self.connected.append((connection, key))

    def speak(self, connection: int) -> None:
        entry = (connection, self.key_of(connection))
        self.connected.remove(entry)
        self.connected.append(entry)

    def leave(self, connection: int) -> set[tuple[int, NodeKey]]:
        key = self.key_of(connection)
        self.connected.remove((connection, key))
        self.received = {pair for pair in self.received if pair[0] != connection}
        self.watching.discard(connection)
        return self._told_if_gone(key)

    def announce(self, link: int, key: NodeKey, *, in_flood: bool) -> None:
        if (link, key) in self.ways:
            return
        at = len(self.ways) if in_flood else 0
        self.ways.insert(at, (link, key))

    def withdraw(self, link: int, key: NodeKey) -> set[tuple[int, NodeKey]]:
        if (link, key) not in self.ways:
            return set()
        self.ways.remove((link, key))
        return self._told_if_gone(key)

    def lose(self, link: int) -> set[tuple[int, NodeKey]]:
        told = [self.withdraw(link, key) for key in self.remote()]
        return set().union(*told)

    def _told_if_gone(self, key: NodeKey) -> set[tuple[int, NodeKey]]:
        if self.route(key) is not None:
            return set()
        told = {pair for pair in self.received if pair[1] == key}
        self.received -= told
        return told
