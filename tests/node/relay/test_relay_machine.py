"""Whatever happens in whatever order: the relay and the whiteboard agree."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from derpnode.relay import presence as presence_module
from derpnode.relay.relay import ANSWER_TIMEOUT, Client, Relay
from derpnode.wire.frames import FrameType
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import GoneReason, Present
from tests.node.relay.model import Pair, Region
from tests.node.relay.recorder import Gone, Recorder, news
from tests.node.relay.scene import OWN, A, B, M, announce, watch


pytestmark = pytest.mark.timeout(7200)  # the deep profile takes its time

KEYS = [A, B, M, OWN]
PIECE = presence_module.PIECE

keys = st.sampled_from(KEYS)
links = st.sampled_from([7, 8])


class RelayMachine(RuleBasedStateMachine):
    """Random events for a relay, and for a model of it.

    Connections that were closed as ghosts go on to cause events: those that were
    under way when they were closed.
    """

    connections = Bundle("connections")

    def __init__(self):
        super().__init__()
        self.world = Recorder()
        self.relay = Relay(self.world, OWN)
        self.region = Region()
        self.now = 0.0
        self.newest = 0
        self.mesh: set[int] = set()
        self.deaf: set[int] = set()  # they never read what they are sent
        self.unread: set[int] = set()  # they were sent something since they drained
        self.busy: set[int] = set()  # the same, of presence
        self.seen: set[Pair] = set()  # what the plane remembers
        self.view: dict[int, set[NodeKey]] = {}  # who is here, by all that was sent
        self.believed: dict[int, set[NodeKey]] = {}  # the same by presence alone

    @initialize(target=connections, deaf=st.booleans(), piece=st.integers(1, 3))
    def begin(self, deaf, piece):
        """Two clients talk and somebody watches: what happens is news to all."""
        presence_module.PIECE = piece
        watcher = self.connect(M, mesh=True, acks=False, deaf=deaf)
        self.ask_to_watch(watcher)
        clients = [
            self.connect(key, mesh=False, acks=True, deaf=False) for key in (A, B)
        ]
        self.receive(clients[0], B)
        self.receive(clients[1], A)
        return multiple(watcher, *clients)

    # Clients.

    @rule(
        target=connections,
        key=keys,
        mesh=st.booleans(),
        acks=st.booleans(),
        deaf=st.booleans(),
    )
    def connect(self, key, mesh, acks, deaf):
        self.newest += 1
        connection = self.newest
        self.mesh |= {connection} if mesh else set()
        self.deaf |= {connection} if deaf else set()
        self.region.answering |= {connection} if acks and not mesh else set()
        self.region.connected.append((connection, key))
        client = Client(connection=connection, key=key, mesh=mesh, can_ack_pings=acks)
        self.relay.register(client)
        self.check_told()
        return connection

    @rule(connection=consumes(connections))
    def leave(self, connection):
        told = self.region.leave(connection)
        self.forget(connection)
        self.relay.unregister(connection)
        self.check_told(told)

    @rule(connection=connections, key=keys, acks=st.booleans())
    def visit(self, connection, key, acks):
        """Come, send something, and leave."""
        visitor = self.connect(key, mesh=False, acks=acks, deaf=False)
        self.receive(connection, key)
        self.leave(visitor)

    @rule(connection=connections)
    def speak(self, connection):
        self.region.speak(connection)
        self.relay.spoke(connection)
        self.check_told()

    @rule(connection=connections, key=keys)
    def receive(self, connection, key):
        """Receive a packet; also from a key that is not known, or not any more."""
        if (connection, key) not in self.seen:
            if self.region.knows(connection):
                self.seen.add((connection, key))
                self.region.received.add((connection, key))
            self.relay.received_from(connection, key)
        self.check_told()

    @rule(connection=connections, key=keys)
    def ask_in_vain(self, connection, key):
        self.relay.no_route(connection, key)
        if key in self.region.local():
            self.check_told()
        else:
            self.check_told({(connection, key)}, GoneReason.NOT_HERE)

    # Mesh peers.

    @rule(connection=connections)
    def ask_to_watch(self, connection):
        watch(self.relay, connection)
        if not self.region.knows(connection):
            self.check_closed([])
        elif connection not in self.mesh:
            self.check_closed([connection])
        elif self.region.key_of(connection) != OWN:
            self.region.watching.add(connection)
            self.view.setdefault(connection, set())
            self.believed.setdefault(connection, set())
        self.check_told()

    @rule(connection=connections)
    def drain(self, connection):
        """What a connection was sent has left, or it is said twice."""
        if connection not in self.deaf:
            self.drained(connection)
        self.check_told()

    @rule(connection=connections)
    def catch_up(self, connection):
        if connection not in self.deaf:
            self.read_all(connection)

    @rule()
    def everybody_catches_up(self):
        """Even those who never read until now."""
        for connection in self.region.watching:
            self.read_all(connection)

    @rule(connection=connections, key=keys)
    def close_peer(self, connection, key):
        self.relay.frame(connection, FrameType.CLOSE_PEER, key, now=self.now)
        if not self.region.knows(connection):
            self.check_closed([])
        elif connection in self.mesh:
            self.check_closed(self.region.connections(key))
        else:
            self.check_closed([connection])
        self.check_told()

    # Links.

    @rule(link=links, key=keys, in_flood=st.booleans())
    def announce(self, link, key, in_flood):
        until = self.now + ANSWER_TIMEOUT
        self.region.announce(link, key, in_flood=in_flood, until=until)
        announce(self.relay, key, link, in_flood=in_flood, now=self.now)
        self.check_told()

    @rule(link=links, key=keys)
    def withdraw(self, link, key):
        told = self.region.withdraw(link, key)
        self.relay.withdrawn(key, link)
        self.check_told(told)

    @rule(link=links)
    def lose(self, link):
        told = self.region.lose(link)
        self.relay.link_lost(link)
        self.check_told(told)

    @rule(seconds=st.sampled_from([ANSWER_TIMEOUT / 2, ANSWER_TIMEOUT]))
    def wait(self, seconds):
        """Time passes; those who were asked and said nothing are gone."""
        self.now += seconds
        ghosts = self.region.late(self.now)
        told: set[Pair] = set()
        for ghost in ghosts:
            told |= self.region.leave(ghost)
        self.relay.tick(self.now)
        for ghost in ghosts:
            self.forget(ghost)
        self.check_closed(ghosts)
        self.check_told(told)

    # What must be true of each step.

    def forget(self, connection):
        """Do what the plane does when a connection ends."""
        self.seen = {pair for pair in self.seen if pair[0] != connection}
        self.busy.discard(connection)
        self.world.duplicates.discard(connection)
        self.world.questioned.discard(connection)

    def drained(self, connection):
        self.unread.discard(connection)
        self.busy.discard(connection)
        self.relay.drained(connection)

    def read_all(self, connection):
        """Whoever has read everything knows everything."""
        while connection in self.unread:
            self.drained(connection)
            self.check_told()
        if connection in self.region.watching:
            assert self.view[connection] == self.region.local()

    def check_told(self, owed=frozenset(), reason=GoneReason.DISCONNECTED):
        """Each is told once what it is owed, and watchers alone are told more."""
        expected = Counter((to, Gone(key, reason)) for to, key in owed)
        sent = Counter(self.take_news())
        presence = sent - expected
        assert expected <= sent
        watchers = {to for to, _ in presence}
        assert watchers <= self.region.watching - self.busy
        self.busy |= watchers
        for to, item in presence.elements():
            self.note(self.believed[to], item)
        batches = Counter(to for to, _ in {(to, item.key) for to, item in presence})
        assert all(size <= presence_module.PIECE for size in batches.values())
        if reason == GoneReason.DISCONNECTED:
            assert sorted(self.world.forgotten) == sorted(owed)
        self.seen -= set(self.world.forgotten)
        self.world.forgotten.clear()

    def take_news(self):
        """Yield every record that was sent, to whom, in order."""
        for to, data in self.world.sent:
            self.unread.add(to)
            for item in news(data):
                self.note(self.view.get(to, set()), item)
                yield to, item
        self.world.sent.clear()

    @staticmethod
    def note(known: set[NodeKey], item: Present | Gone) -> None:
        if isinstance(item, Present):
            known.add(item.key)
        else:
            known.discard(item.key)

    def check_closed(self, expected):
        assert sorted(closed for closed, _ in self.world.closed) == sorted(expected)
        self.world.closed.clear()

    def teardown(self):
        """Put back what is not this machine's own."""
        presence_module.PIECE = PIECE

    # What must be true at any time.

    @invariant()
    def packets_take_the_right_way(self):
        """What the relay commanded last for a key is where the key is."""
        for key in KEYS:
            assert self.world.routes.get(key) == self.region.route(key)
            assert self.relay.connections_of(key) == self.region.connections(key)
        for connection, key in self.region.connected:
            active = self.region.connections(key)[-1] == connection
            assert self.relay.is_active(connection) == active

    @invariant()
    def nothing_is_closed_unasked(self):
        assert self.world.closed == []

    @invariant()
    def those_who_share_a_key_are_marked(self):
        duplicates = self.region.duplicates()
        shared = {self.region.key_of(connection) for connection in duplicates}
        assert self.world.duplicates == duplicates
        assert self.relay.duplicate_connections == len(duplicates)
        assert self.relay.duplicate_keys == len(shared)

    @invariant()
    def those_in_doubt_are_asked(self):
        assert self.world.questioned == self.region.asked.keys()
        assert self.relay._questioned == self.region.asked

    @invariant()
    def watchers_know_who_is_here(self):
        """Unless something they were sent has not left yet."""
        assert self.relay.watchers == len(self.region.watching)
        for connection, watcher in self.relay.presence._watchers.items():
            assert connection in self.region.watching
            assert watcher.busy == (connection in self.busy)
            if not watcher.busy:
                assert len(watcher) == 0
                assert self.view[connection] == self.region.local()
                assert self.believed[connection] == self.region.local()

    @invariant()
    def a_lagging_watcher_costs_one_entry_per_client(self):
        """One that is here, or one that the watcher believes to be."""
        for connection, watcher in self.relay.presence._watchers.items():
            believed = self.believed[connection]
            assert watcher._owed.keys() <= self.region.local() | believed
            assert watcher._unheard == watcher._owed.keys() - believed
            assert watcher._left.keys() <= watcher._owed.keys() & believed

    @invariant()
    def clients_are_those_connected(self):
        connected = sorted(connection for connection, _ in self.region.connected)
        assert [found.connection for found in self.relay.clients()] == connected
        assert self.relay._keys.keys() == self.region.local()
        assert self.relay.local_keys == len(self.region.local())

    @invariant()
    def contacts_are_those_who_received(self):
        """The plane remembers them as well, so that none is told twice, or never."""
        contacts = self.relay._contacts
        receivers, sources = contacts._receivers, contacts._sources
        assert {(to, key) for key in receivers for to in receivers[key]} == self.seen
        assert {(to, key) for to in sources for key in sources[to]} == self.seen
        assert self.seen == self.region.received
        assert all(receivers.values())
        assert all(sources.values())
        assert len(contacts) == len(self.seen)

    @invariant()
    def forwarders_are_those_announced(self):
        forwarders = self.relay._forwarders
        known = {key: self.region.links(key) for key in self.region.remote()}
        pairs = {
            (link, key) for link, found in forwarders._keys.items() for key in found
        }
        assert forwarders._links == known
        assert pairs == set(self.region.ways)
        assert all(forwarders._keys.values())
        assert self.relay.known_keys == len(self.region.local() | known.keys())

    @invariant()
    def keys_with_several_links_are_counted(self):
        created = self.relay.counters.multiforwarder_created
        deleted = self.relay.counters.multiforwarder_deleted
        several = sum(len(self.region.links(key)) > 1 for key in KEYS)
        assert created - deleted == several


TestRelay = RelayMachine.TestCase
TestRelay.settings = settings(stateful_step_count=100)
