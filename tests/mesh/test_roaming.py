"""Clients roam, links break, and in the end every node knows where everybody is."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from derpmesh.link import peering as peering_module
from derpnode.relay import presence as presence_module
from derpnode.wire.keys import NodeKey
from tests.mesh.roaming import Connection, Link, Region
from tests.node.relay.scene import A, B, C


pytestmark = pytest.mark.timeout(7200)  # the deep profile takes its time

NODES = "xyz"
BARE = C  # its client does not answer pings, as Go's bare ones
KEYS = [A, B, BARE]
PIECE = presence_module.PIECE

keys = st.sampled_from(KEYS)
places = st.integers(0, len(NODES) - 1)
LINKS = len(NODES) * (len(NODES) - 1)
ways = st.integers(0, LINKS - 1)
heard = st.lists(st.integers(0, 6), min_size=LINKS, max_size=LINKS)
"""How much arrives over each link."""


class RoamingMachine(RuleBasedStateMachine):
    """Random life of three clients in a region of three nodes."""

    def __init__(self):
        super().__init__()
        self.region = Region(NODES)
        self.unknowable: set[NodeKey] = set()
        """Keys with a ghost that nobody gave its node reason to doubt."""

    @initialize(piece=st.integers(1, 3), up=st.booleans())
    def begin(self, piece, up):
        """Small pieces: a flood of two clients comes in several."""
        presence_module.PIECE = peering_module.PIECE = piece
        if up:
            self.region.settle()

    def live(self, key: NodeKey) -> list[Connection]:
        return [found for found in self.region.connections(key) if found.lives]

    def ghosts(self, key: NodeKey) -> list[Connection]:
        return [found for found in self.region.connections(key) if not found.lives]

    # Clients.

    @rule(key=keys, place=places)
    def connect(self, key, place):
        """A client comes, or comes a second time: of both, neither is wrong."""
        self.region.nodes[place].connect(key, acks=key != BARE)
        self.unknowable.discard(key)

    @rule(key=keys, place=places)
    def move(self, key, place):
        """A client goes elsewhere, or comes back, and where it was hears nothing."""
        for found in self.live(key):
            found.lives = False
        self.connect(key, place)

    @rule(key=keys, path=st.lists(places, min_size=2, max_size=4), heard=heard)
    def hop(self, key, path, heard):
        """A client goes from node to node, faster than a question takes."""
        for place in path:
            self.move(key, place)
            for link, count in zip(self.region.links, heard, strict=True):
                link.deliver_some(count)

    @rule(key=keys, place=places)
    def move_in_good_order(self, key, place):
        """It closes the old connections once it has the new one."""
        before = self.live(key)
        self.connect(key, place)
        for found in before:
            found.node.end(found)

    @rule(key=keys)
    def leave(self, key):
        for found in self.live(key)[:1]:
            found.node.end(found)

    @rule(key=keys)
    def vanish(self, key):
        """One connection dies, and nobody hears of it.

        If the client has another one, that was announced before: no reason to ask.
        """
        for found in self.live(key)[:1]:
            found.lives = False
        if self.live(key):
            self.unknowable.add(key)

    @rule(key=keys)
    def time_out(self, key):
        """TCP gives a ghost up."""
        for found in self.ghosts(key)[:1]:
            found.node.end(found)

    @rule(key=keys)
    def speak(self, key):
        for found in self.live(key)[:1]:
            found.node.hear(found)

    @rule(place=places)
    def answer(self, place):
        self.region.answer(self.region.nodes[place])

    @rule(place=places)
    def notice_closed(self, place):
        self.region.nodes[place].notice_closed()

    # Links.

    @rule(heard=heard)
    def deliver(self, heard):
        """What is on one link arrives in order, and when it likes."""
        for link, count in zip(self.region.links, heard, strict=True):
            link.deliver_some(count)

    @rule(way=ways)
    def drain(self, way):
        self.region.links[way].drain()

    @rule(way=ways, noticed=st.booleans())
    def fail(self, way, noticed):
        link = self.region.links[way]
        if link.is_up:
            link.fail()
        if noticed:
            link.notice()

    @rule(way=ways)
    def heal(self, way):
        link = self.region.links[way]
        if not link.is_up:
            link.heal()

    @rule(way=ways)
    def notice(self, way):
        self.region.links[way].notice()

    # Packets and time.

    @rule(place=places, key=keys)
    def send(self, place, key):
        """A packet goes over one link at most; where it ends, its key was once."""
        node = self.region.nodes[place]
        route = node.route(key)
        end = self.region.send(node, key)
        assert end is None or end.key == key
        assert end is None or end.node is (
            route.watched if isinstance(route, Link) else node
        )

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def wait(self, seconds):
        self.region.wait(seconds)

    # What must be true of a region at rest.

    @precondition(lambda self: self.unknowable != set(KEYS))
    @rule()
    def rest(self):
        """Everything has arrived: every node agrees on where everybody is."""
        self.region.settle()
        for key in KEYS:
            sure = key not in self.unknowable and key != BARE
            if sure or not self.ghosts(key):
                self.check(key)

    def check(self, key: NodeKey) -> None:
        """Every node reaches the live client; who has it, by itself."""
        live = self.live(key)
        for node in self.region.nodes:
            end = self.region.send(node, key)
            here = [found for found in live if found.node is node]
            assert end in here if here else end in live or not live
            if not live and not self.ghosts(key):
                assert node.route(key) is None

    def teardown(self):
        """In the end TCP has given every ghost up, and nothing of them is left."""
        try:
            self.rest()
            for key in KEYS:
                for found in self.ghosts(key):
                    found.node.end(found)
            self.region.settle()
            for key in KEYS:
                self.check(key)
            self.nothing_is_left_over()
        finally:
            presence_module.PIECE = peering_module.PIECE = PIECE

    def nothing_is_left_over(self) -> None:
        """Neither connections nor questions nor keys of those who are gone."""
        everybody = {node.identity.public for node in self.region.nodes}
        known = everybody | {key for key in KEYS if self.live(key)}
        for node in self.region.nodes:
            relay = node.relay
            assert set(node.routes) <= known
            assert relay._questioned == {}
            assert relay.known_keys == len(node.routes)
            assert relay.watchers == len(NODES) - 1
            open_here = sum(found.is_open for found in node.connections.values())
            assert len(list(relay.clients())) == open_here + relay.watchers


TestRoaming = RoamingMachine.TestCase
TestRoaming.settings = settings(stateful_step_count=80)


# Single stories, of which the machine finds others.


@pytest.fixture
def region():
    """Three nodes that know each other."""
    found = Region(NODES)
    found.settle()
    return found


def test_client_that_roams(region):
    """Its old node asks the connection it had, and lets it go after a second."""
    x, y, z = region.nodes
    old = x.connect(A, acks=True)
    region.settle()
    old.lives = False
    new = y.connect(A, acks=True)
    for link in region.links:
        link.deliver_all()
    assert [region.send(node, A) for node in (x, y, z)] == [old, new, new]
    region.wait(1.0)
    assert [region.send(node, A) for node in (x, y, z)] == [new, new, new]
    assert not old.is_open


def test_client_that_roams_while_a_link_is_down(region):
    """It is asked when the link is back."""
    x, y, _ = region.nodes
    old = x.connect(A, acks=True)
    region.settle()
    for link in region.links:
        if link.watcher is x:
            link.fail()
    old.lives = False
    new = y.connect(A, acks=True)
    region.wait(5.0)
    assert region.send(x, A) is old
    region.settle()
    assert region.send(x, A) is new


def test_two_connections_that_live(region):
    """Each node has its own, and nobody is closed: as in Go."""
    x, y, _ = region.nodes
    first, second = x.connect(A, acks=True), y.connect(A, acks=True)
    region.settle()
    region.wait(5.0)
    region.settle()
    assert (region.send(x, A), region.send(y, A)) == (first, second)
    assert first.is_open
    assert second.is_open


def test_packet_that_would_be_forwarded_twice(region):
    """It is not, and the link that brought it is told that the key is not here."""
    x, y, z = region.nodes
    client = y.connect(A, acks=True)
    region.settle()
    client.node.end(client)
    z.connect(A, acks=True)
    for link in region.links:
        if link.watched is z and link.watcher is y:
            link.deliver_all()
    assert isinstance(y.route(A), Link)
    assert isinstance(x.route(A), Link)
    assert region.send(x, A) is None
    region.settle()
    assert region.send(x, A) is not None
