"""A region of several relays, simulated: links that lag and break, clients that roam.

The relays, what they tell watchers and what links make of it are the real ones; the
network between them is a queue for each link.
"""

import itertools
from collections import deque
from collections.abc import Iterator

from derpmesh.link.peering import LinkFailure, Peering, Stage
from derpnode.relay.relay import Client, Relay
from derpnode.wire.frames import MAX_CLIENT_FRAME, FrameDecoder, FrameType
from derpnode.wire.keys import MeshKey, NodeKey, PrivateKey
from derpnode.wire.payloads import Present, pong
from tests.node.relay import recorder
from tests.node.relay.recorder import news


MESH_KEY = MeshKey(b"\x55" * 32)
DRAINED = (-1, b"")
"""Stands in a queue behind what was sent at once."""


class Connection:
    """One client's connection to a node, as the client knows it."""

    def __init__(self, identity: int, node: "Node", key: NodeKey) -> None:
        self.id = identity
        self.node = node
        self.key = key
        self.lives = True
        """Whether the client is still there: a ghost never says anything."""

        self.is_open = True
        """Whether the node has not closed it."""

    def __repr__(self) -> str:
        state = "live" if self.lives else "ghost"
        return f"<{state} {self.key.hex()[:2]} at {self.node.name}>"


class Node:
    """One relay, and the world below it."""

    def __init__(self, name: str, region: "Region") -> None:
        self.name = name
        self.identity = PrivateKey(name.encode() * 32)
        self.region = region
        self.relay = Relay(self, self.identity.public)
        self.routes: dict[NodeKey, recorder.Client | recorder.Link] = {}
        self.connections: dict[int, Connection] = {}
        self.watchers: dict[int, Link] = {}
        self.questioned: set[int] = set()
        self.duplicates: set[int] = set()
        self.closed: list[int] = []
        """Connections that were closed, which the relay is yet to hear of."""

    # The relay's port.

    def send(self, connection: int, data: bytes) -> None:
        link = self.watchers.get(connection)
        if link is None:
            return
        told = {item.key for item in news(data) if isinstance(item, Present)}
        here = {client.key for client in self.relay.clients()}
        assert told <= here, "a key of another node was announced"
        link.carry(connection, data)

    def set_route(self, key: NodeKey, connection: int) -> None:
        self.routes[key] = recorder.Client(connection)

    def set_forward(self, key: NodeKey, link: int) -> None:
        self.routes[key] = recorder.Link(link)

    def clear_route(self, key: NodeKey) -> None:
        del self.routes[key]

    def mark_duplicate(self, connection: int, *, duplicate: bool) -> None:
        change = self.duplicates.add if duplicate else self.duplicates.discard
        change(connection)

    def question(self, connection: int) -> None:
        self.questioned.add(connection)

    def unquestion(self, connection: int) -> None:
        self.questioned.discard(connection)

    def forget(self, receiver: int, source: NodeKey) -> None:
        pass

    def close(self, connection: int, _detail: str) -> None:
        self.connections[connection].is_open = False
        self.closed.append(connection)

    # What happens to it.

    def connect(self, key: NodeKey, *, acks: bool) -> Connection:
        """Log a client in."""
        found = Connection(self.region.number(), self, key)
        self.connections[found.id] = found
        client = Client(connection=found.id, key=key, can_ack_pings=acks)
        self.relay.register(client)
        return found

    def end(self, connection: Connection) -> None:
        """Notice that a connection is over."""
        connection.is_open = connection.lives = False
        self.forget_connection(connection.id)

    def forget_connection(self, connection: int) -> None:
        """Do what the plane and the relay do at the end of a connection."""
        self.relay.unregister(connection)
        self.questioned.discard(connection)
        self.duplicates.discard(connection)

    def hear(self, connection: Connection) -> None:
        """Receive some frame of a client; the plane reports it only if asked to."""
        if connection.id in self.questioned | self.duplicates:
            self.relay.spoke(connection.id)

    def notice_closed(self) -> None:
        """Hear from the plane of what was closed."""
        while self.closed:
            self.forget_connection(self.closed.pop())

    def route(self, key: NodeKey) -> "Connection | Link | None":
        """Say where packets for a key go to."""
        match self.routes.get(key):
            case recorder.Client(connection):
                return self.connections[connection]
            case recorder.Link(link):
                return self.region.link(link)
            case _:
                return None


class Link:
    """What one node learns of another, over one connection after the other."""

    def __init__(self, watcher: Node, watched: Node, region: "Region") -> None:
        self.watcher = watcher
        self.watched = watched
        self.region = region
        self.id = 0
        """Of the connection at the watcher; 0 while there is none."""

        self._peer_id = 0  # of the same connection at the watched node
        self._peering: Peering | None = None
        self.queue: deque[tuple[int, bytes]] = deque()
        self.left_behind: list[int] = []
        """Connections at the watched node that it does not know to be over."""

    def __repr__(self) -> str:
        return f"<link {self.watcher.name} to {self.watched.name}>"

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self.id != 0

    def heal(self) -> None:
        """Connect, watch and ask for the end of the flood, all at once."""
        self.id, self._peer_id = self.region.number(), self.region.number()
        peer = self.watched
        peer.watchers[self._peer_id] = self
        key = self.watcher.identity.public
        peer.relay.register(Client(connection=self._peer_id, key=key, mesh=True))
        self._peering = Peering(
            self,
            self,
            identity=self.watcher.identity,
            mesh_key=MESH_KEY,
            host=peer.name,
            pin=None,
        )
        self._peering.stage = Stage.UP
        now = self.region.now
        peer.relay.frame(self._peer_id, FrameType.WATCH_CONNS, b"", now)
        self._peering.tick(now)

    def fail(self) -> None:
        """Lose the connection; the watched node may notice later."""
        link, self.id = self.id, 0
        self._peering = None
        self.queue.clear()
        self.left_behind.append(self._peer_id)
        self.watcher.relay.link_lost(link)

    def notice(self) -> None:
        """Let the watched node know what is over."""
        while self.left_behind:
            connection = self.left_behind.pop()
            del self.watched.watchers[connection]
            self.watched.forget_connection(connection)

    def carry(self, connection: int, data: bytes) -> None:
        """Take what the watched node sends over a connection of the link."""
        if not self.is_up or connection != self._peer_id:
            return
        decoder = FrameDecoder(max_payload=MAX_CLIENT_FRAME)
        decoder.feed(data)
        self.queue.extend([*decoder, DRAINED])

    def drain(self) -> None:
        """Let what was sent first leave the watched node, though it has not arrived."""
        if DRAINED in self.queue:
            self.queue.remove(DRAINED)
            self.watched.relay.drained(self._peer_id)

    def deliver(self) -> None:
        """Let one thing arrive."""
        if not self.queue or self._peering is None:
            return
        item = kind, payload = self.queue.popleft()
        if item == DRAINED:
            self.watched.relay.drained(self._peer_id)
        else:
            self._peering.frame(kind, payload, self.region.now)

    def deliver_some(self, count: int) -> None:
        """Let so many things arrive, if there are as many."""
        for _ in range(count):
            self.deliver()

    def deliver_all(self) -> None:
        """Let everything arrive, and what that brings about."""
        while self.queue:
            self.deliver()

    def forward(self, key: NodeKey) -> Connection | None:
        """Carry a packet; where its key is not, the watcher is told so.

        The watched node never forwards it: that is how loops cannot be.
        """
        found = self.watched.route(key)
        if isinstance(found, Connection):
            return found
        self.watched.relay.no_route(self._peer_id, key)
        return None

    def tick(self) -> None:
        """Ping, or give up."""
        if self._peering is None:
            return
        try:
            self._peering.tick(self.region.now)
        except LinkFailure:
            self.fail()

    # What the peering commands, and learns.

    def send(self, data: bytes) -> None:
        assert data[0] == FrameType.PING
        self.carry(self._peer_id, pong(data[5:]))

    def attach(self, key: NodeKey, offset: int) -> None:
        raise NotImplementedError

    def announced(self, key: NodeKey, *, in_flood: bool) -> None:
        now = self.region.now
        self.watcher.relay.announced(key, self.id, now, in_flood=in_flood)

    def withdrawn(self, key: NodeKey) -> None:
        self.watcher.relay.withdrawn(key, self.id)

    def up(self, server_key: NodeKey) -> None:
        raise NotImplementedError

    def state_of_peer(self, document: bytes) -> None:
        raise NotImplementedError


class Region:
    """Some nodes, each linked to each other, and their clients."""

    def __init__(self, names: str) -> None:
        self._numbers = itertools.count(1)
        self.now = 1000.0
        self.nodes = [Node(name, self) for name in names]
        self.links = [
            Link(watcher, watched, self)
            for watcher, watched in itertools.permutations(self.nodes, 2)
        ]

    def number(self) -> int:
        """Give a number that was never given."""
        return next(self._numbers)

    def link(self, identity: int) -> Link:
        """Find a link by its connection."""
        return next(link for link in self.links if link.id == identity)

    def connections(self, key: NodeKey) -> Iterator[Connection]:
        """Yield the connections of a key that some node holds."""
        for node in self.nodes:
            for found in node.connections.values():
                if found.key == key and found.is_open:
                    yield found

    def send(self, node: Node, key: NodeKey) -> Connection | None:
        """Send a packet from a client of a node; say where it ended."""
        found = node.route(key)
        return found.forward(key) if isinstance(found, Link) else found

    def wait(self, seconds: float) -> None:
        """Let time pass. Whoever lives has answered by then."""
        self.now += seconds
        for node in self.nodes:
            self.answer(node)
            node.relay.tick(self.now)
        for link in self.links:
            link.tick()

    def answer(self, node: Node) -> None:
        """Let those of a node who live answer its questions."""
        for connection in list(node.questioned):
            if node.connections[connection].lives:
                node.hear(node.connections[connection])

    def settle(self) -> None:
        """Heal everything, and let everything arrive, until nothing is left to do."""
        for _ in range(20):
            for link in self.links:
                link.notice()
                if not link.is_up:
                    link.heal()
                link.deliver_all()
            for node in self.nodes:
                node.notice_closed()
            if not any(node.questioned for node in self.nodes):
                break
            self.wait(0.5)
        else:
            message = "the region does not come to rest"
            raise AssertionError(message)
        self._speak()

    def _speak(self) -> None:
        """Let everybody say something: of two connections, the one that lives."""
        for node in self.nodes:
            for found in node.connections.values():
                if found.lives and found.is_open:
                    node.hear(found)
