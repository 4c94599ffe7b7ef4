"""The relay: connections by key, duplicates, routes, presence, and who is told.

Synchronous and without I/O: events come in as calls, commands go out through the
port it was given. Routes follow from two facts: who is connected here, and which
links announce a key. Local beats mesh.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from derpnode.relay.contacts import Contacts
from derpnode.relay.forwarders import Forwarders
from derpnode.relay.ports import Connections
from derpnode.relay.presence import Presence
from derpnode.wire.frames import NEEDS_MESH, FrameType
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import GoneReason, Present, PresentFlags, peer_gone


HOME_SETTLES = 5.0
"""Seconds after login for which a change of home is no move.
Source: derpserver.go, setPreferred."""


ANSWER_TIMEOUT = 1.0
"""Seconds without a frame that make a questioned connection a ghost."""


@dataclass(slots=True, kw_only=True)
class Client:
    """One connection that has logged in."""

    connection: int
    key: NodeKey
    host: str = ""
    """IP literal of the client; empty where it is not known."""

    port: int = 0
    since: float = 0.0
    """When it logged in, on the relay's clock."""

    mesh: bool = False
    prober: bool = False
    ideal: str = ""
    """Name of the node that its map prefers; empty: it is on that one."""

    app_name: str = ""
    version: int = 0
    can_ack_pings: bool = False
    home: bool = False
    """Whether the client calls this node its home."""

    @property
    def not_ideal(self) -> bool:
        """Whether it would rather be on another node."""
        return self.ideal != ""

    @property
    def present(self) -> Present:
        """What watchers are told of it. Bit 0 stands alone, as in derper."""
        flags = (
            (PresentFlags.MESH_PEER if self.mesh else 0)
            | (PresentFlags.PROBER if self.prober else 0)
            | (PresentFlags.NOT_IDEAL if self.not_ideal else 0)
        )
        return Present(
            self.key,
            ipaddress.ip_address(self.host) if self.host else None,
            self.port,
            PresentFlags(flags) if flags else PresentFlags.REGULAR,
            self.app_name,
        )


@dataclass
class RelayCounters:
    """What the relay did since it began. Only grows."""

    accepts: int = 0
    duplicate_accepts: int = 0
    """Connections that came while their key was already connected."""

    peer_gone_disconnected: int = 0
    """PeerGone frames of this kind, those to watchers included."""

    peer_gone_not_here: int = 0
    home_moves_in: int = 0
    home_moves_out: int = 0
    multiforwarder_created: int = 0
    multiforwarder_deleted: int = 0
    questions: int = 0
    """Connections that were asked whether they live, as their key came up elsewhere."""

    ghosts: int = 0
    """Those that did not answer, and were closed."""

    forwarder_delete_other: int = 0
    """Removals of a forwarder that was not the one in use."""


@dataclass(slots=True)
class _Key:
    """The connections of one key, the one that is active last."""

    connections: list[int] = field(default_factory=list)

    @property
    def active(self) -> int:
        return self.connections[-1]


class Relay:
    """Decides for one node.

    Args:
        connections: Carries out what is decided.
        own_key: The node's own key; a watcher with it is this node itself.
    """

    def __init__(self, connections: Connections, own_key: NodeKey) -> None:
        self._port = connections
        self._own_key = own_key
        self._clients: dict[int, Client] = {}
        self._keys: dict[NodeKey, _Key] = {}
        self._contacts = Contacts()
        self._forwarders = Forwarders()
        self._presence = Presence()
        self._questioned: dict[int, float] = {}
        self.counters = RelayCounters()

    # Looking.

    def clients(self) -> Iterator[Client]:
        """Yield every connection that has logged in, oldest first."""
        yield from self._clients.values()

    def client(self, connection: int) -> Client | None:
        """Find one connection."""
        return self._clients.get(connection)

    def connections_of(self, key: NodeKey) -> list[int]:
        """The connections of a key, the active one last."""
        found = self._keys.get(key)
        return list(found.connections) if found else []

    def is_active(self, connection: int) -> bool:
        """Whether packets for its key go to this connection."""
        client = self._clients.get(connection)
        return client is not None and self._keys[client.key].active == connection

    @property
    def local_keys(self) -> int:
        """How many keys are connected here."""
        return len(self._keys)

    @property
    def known_keys(self) -> int:
        """How many keys are connected here or known by a link."""
        return len(self._forwarders.keys() | self._keys.keys())

    def announced_by(self, link: int) -> frozenset[NodeKey]:
        """The keys that a link knows a way to."""
        return self._forwarders.announced(link)

    @property
    def duplicate_keys(self) -> int:
        """How many keys have more than one connection."""
        return sum(len(key.connections) > 1 for key in self._keys.values())

    @property
    def duplicate_connections(self) -> int:
        """How many connections share their key."""
        sizes = (len(key.connections) for key in self._keys.values())
        return sum(size for size in sizes if size > 1)

    @property
    def watchers(self) -> int:
        """How many connections watch."""
        return len(self._presence)

    @property
    def presence(self) -> Presence:
        """What watchers were told; to be counted, not changed."""
        return self._presence

    # Clients come, speak and go.

    def register(self, client: Client) -> None:
        """Make a connection that has logged in reachable, at once and before others.

        Every other connection of its key stays open and gets no packets until it
        speaks. Watchers are told of every connection.
        """
        self.counters.accepts += 1
        self._clients[client.connection] = client
        key = self._keys.setdefault(client.key, _Key())
        key.connections.append(client.connection)
        first = len(key.connections) == 1
        if not first:
            self.counters.duplicate_accepts += 1
            for connection in key.connections[-2:]:
                self._port.mark_duplicate(connection, duplicate=True)
        self._port.set_route(client.key, client.connection)
        self._presence.came(client.present, first=first)
        self._tell_watchers()

    def unregister(self, connection: int) -> None:
        """Forget a connection that is gone, and tell who must know."""
        client = self._clients.pop(connection, None)
        if client is None:
            return
        self._questioned.pop(connection, None)
        self._contacts.remove(connection)
        self._presence.unwatch(connection)
        key = self._keys[client.key]
        was_active = key.active == connection
        key.connections.remove(connection)
        if not key.connections:
            del self._keys[client.key]
            self._left(client.key)
            return
        if len(key.connections) == 1:
            self._port.mark_duplicate(key.active, duplicate=False)
        if was_active:
            self._port.set_route(client.key, key.active)

    def _left(self, key: NodeKey) -> None:
        """Act on the loss of the last local connection of a key."""
        link = self._forwarders.preferred(key)
        if link is None:
            self._port.clear_route(key)
            self._gone_from_region(key)
        else:
            self._port.set_forward(key, link)
        self.counters.peer_gone_disconnected += self._presence.went(key)
        self._tell_watchers()

    def spoke(self, connection: int) -> None:
        """Give a duplicate that sent something the packets of its key.

        A connection that was questioned has answered by that.
        """
        client = self._clients.get(connection)
        if client is None:
            return
        if self._questioned.pop(connection, None) is not None:
            self._port.unquestion(connection)
        key = self._keys[client.key]
        if key.active != connection:
            key.connections.remove(connection)
            key.connections.append(connection)
            self._port.set_route(client.key, connection)

    # Frames that are not packets.

    def frame(self, connection: int, kind: int, payload: bytes, now: float) -> None:
        """Act on a frame whose size was checked below; unknown ones mean nothing."""
        client = self._clients.get(connection)
        if client is None:
            return
        if kind == FrameType.NOTE_PREFERRED:
            self._prefer(client, home=payload != b"\0", now=now)
        elif kind in NEEDS_MESH and not client.mesh:
            self._port.close(connection, f"frame 0x{kind:02x} needs the mesh right")
        elif kind == FrameType.WATCH_CONNS:
            self._watch(client)
        elif kind == FrameType.CLOSE_PEER:
            for other in self.connections_of(NodeKey(payload)):
                self._port.close(other, "closed by a mesh peer")

    def _prefer(self, client: Client, *, home: bool, now: float) -> None:
        if client.home == home:
            return
        client.home = home
        if now - client.since > HOME_SETTLES:
            self.counters.home_moves_in += home
            self.counters.home_moves_out += not home

    def _watch(self, client: Client) -> None:
        if client.key == self._own_key:
            return  # derper lists itself among its peers, and so may we
        active = (self._clients[key.active] for key in self._keys.values())
        self._presence.watch(client.connection, (found.present for found in active))
        self._tell_watchers()

    # What the plane noticed.

    def received_from(self, receiver: int, source: NodeKey) -> None:
        """Note that a connection was sent its first packet of a key."""
        if receiver in self._clients:
            self._contacts.add(receiver, source)

    def no_route(self, connection: int, destination: NodeKey) -> None:
        """Tell a sender that the receiver of its disco packet is not here.

        Unless it has come since: the report is as old as the turn, and a watcher
        that hears of the login first would believe that the key left again.
        """
        if destination in self._keys:
            return
        self.counters.peer_gone_not_here += 1
        self._port.send(connection, peer_gone(destination, GoneReason.NOT_HERE))

    def drained(self, connection: int) -> None:
        """Go on with a watcher whose last batch has left."""
        self._presence.drained(connection)
        self._tell_watchers()

    # Links announce keys of other nodes.

    def announced(self, key: NodeKey, link: int, now: float, *, in_flood: bool) -> None:
        """Note that a link knows a way to a key.

        Unlike derper, a key that is also connected here makes us ask whether that
        connection still lives: its client may have moved without our hearing of it.
        """
        before = self._forwarders.count(key)
        changed = self._forwarders.add(key, link, in_flood=in_flood)
        after = self._forwarders.count(key)
        self.counters.multiforwarder_created += (before, after) == (1, 2)
        if key in self._keys:
            self._question(key, now)
        elif changed:
            self._port.set_forward(key, link)

    def _question(self, key: NodeKey, now: float) -> None:
        """Ask the connections of a key that said they answer.

        Links of the mesh and probers, Go's among them, never answer a Ping.
        """
        for connection in self._keys[key].connections:
            client = self._clients[connection]
            asked = connection in self._questioned
            if asked or client.mesh or client.prober or not client.can_ack_pings:
                continue
            self.counters.questions += 1
            self._questioned[connection] = now + ANSWER_TIMEOUT
            self._port.question(connection)

    def tick(self, now: float) -> None:
        """Close the questioned connections whose time to answer is up."""
        late = [c for c, until in self._questioned.items() if until <= now]
        for connection in late:
            self.counters.ghosts += 1
            self.unregister(connection)
            self._port.close(connection, "it moved to another node")

    def withdrawn(self, key: NodeKey, link: int) -> None:
        """Note that a link knows a key no more."""
        before = self._forwarders.count(key)
        changed = self._forwarders.remove(key, link)
        after = self._forwarders.count(key)
        if after == before:
            self.counters.forwarder_delete_other += before > 0
            return
        self.counters.multiforwarder_deleted += (before, after) == (2, 1)
        if not changed or key in self._keys:
            return
        preferred = self._forwarders.preferred(key)
        if preferred is not None:
            self._port.set_forward(key, preferred)
            return
        self._port.clear_route(key)
        self._gone_from_region(key)

    def link_lost(self, link: int) -> None:
        """Forget every key that a broken link announced."""
        for key in self._forwarders.keys_of(link):
            self.withdrawn(key, link)

    # Telling.

    def _gone_from_region(self, key: NodeKey) -> None:
        """Tell those who received from a key that it left, and arm them again."""
        for receiver in self._contacts.take(key):
            self.counters.peer_gone_disconnected += 1
            self._port.forget(receiver, key)
            self._port.send(receiver, peer_gone(key, GoneReason.DISCONNECTED))

    def _tell_watchers(self) -> None:
        for connection, frames in self._presence.ready():
            self._port.send(connection, frames)
