"""The relay's decisions, one by one: what it commands, whom it tells, what it counts.

Source of the facts: tailscale ``derp/derpserver/derpserver.go``, and our deviations.
"""

from ipaddress import ip_address

import pytest

from derpnode.relay.relay import HOME_SETTLES, Client, Relay
from derpnode.wire.frames import FrameType
from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import GoneReason, Present, PresentFlags
from tests.node.relay import recorder
from tests.node.relay.recorder import Gone, Link, Recorder


A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)
C = NodeKey(b"\xc3" * 32)
M = NodeKey(b"\x3e" * 32)  # a mesh peer's
OWN = NodeKey(b"\x00" * 31 + b"\x01")

WATCHER = 90
MESH = PresentFlags.MESH_PEER
REGULAR = PresentFlags.REGULAR

ADDRESS = {"host": "127.0.0.1", "port": 0xA8EA}
ADDRESS_ON_WIRE = bytes.fromhex(
    "00000000000000000000ffff7f000001"  # address, v4-mapped
    "a8ea"  # port
)


@pytest.fixture
def world():
    return Recorder()


@pytest.fixture
def relay(world):
    return Relay(world, OWN)


@pytest.fixture
def watcher(relay, world):
    """A mesh peer that watches, has read its flood, and was told nothing else."""
    join(relay, WATCHER, M, mesh=True)
    watch(relay, WATCHER)
    relay.drained(WATCHER)
    world.told(WATCHER)
    return WATCHER


def join(relay: Relay, connection: int, key: NodeKey, **about) -> None:
    relay.register(Client(connection=connection, key=key, **about))


def watch(relay: Relay, connection: int) -> None:
    relay.frame(connection, FrameType.WATCH_CONNS, b"", now=0.0)


def here(connection: int) -> recorder.Client:
    """Say in a word that a route leads to a client of this node."""
    return recorder.Client(connection)


def present(key: NodeKey, flags: PresentFlags = REGULAR) -> Present:
    return Present(key, flags=flags)


# Connections of one key.


def test_newest_connection_is_active(relay, world):
    """A login takes the packets of its key at once, and the older stays open."""
    join(relay, 1, A)
    join(relay, 2, A)
    assert world.routes == {A: here(2)}
    assert (relay.is_active(1), relay.is_active(2)) == (False, True)
    assert world.closed == []


def test_older_takes_over_when_it_speaks(relay, world):
    """Any frame from an older connection takes the packets back."""
    join(relay, 1, A)
    join(relay, 2, A)
    relay.spoke(1)
    assert world.routes == {A: here(1)}
    assert relay.connections_of(A) == [2, 1]


def test_active_one_speaks_and_nothing_happens(relay, world):
    """Who has the packets already gets no second route."""
    join(relay, 1, A)
    join(relay, 2, A)
    world.commands.clear()
    relay.spoke(2)
    assert world.commands == []


def test_stranger_speaks_and_nothing_happens(relay, world):
    """A connection that is gone, or not yet here, moves nothing."""
    join(relay, 1, A)
    relay.spoke(2)
    assert world.routes == {A: here(1)}


def test_survivor_takes_over_without_a_frame(relay, world):
    """When the active one leaves, the other gets packets again by itself."""
    join(relay, 1, A)
    join(relay, 2, A)
    relay.unregister(2)
    assert world.routes == {A: here(1)}
    assert relay.is_active(1)


@pytest.mark.parametrize(
    ("speakers", "order"),
    [([1], [1, 3, 2]), ([2], [2, 3, 1]), ([1, 2, 1], [1, 2, 3]), ([1, 2], [2, 1, 3])],
)
def test_most_recent_speaker_is_active(relay, world, speakers, order):
    """Whenever the active one leaves, who spoke last before it takes over."""
    for connection in (1, 2, 3):
        join(relay, connection, A)
    for connection in speakers:
        relay.spoke(connection)
    for connection in order:
        assert world.routes == {A: here(connection)}
        relay.unregister(connection)


def test_of_the_silent_the_newest_takes_over(relay, world):
    """Unlike derper, whose history lacks the second of three: it takes the first."""
    for connection in (1, 2, 3):
        join(relay, connection, A)
    relay.unregister(3)
    assert world.routes == {A: here(2)}


def test_inactive_one_leaves_and_no_route_changes(relay, world):
    """The active connection stays it, and is not commanded again."""
    for connection in (1, 2, 3):
        join(relay, connection, A)
    world.commands.clear()
    relay.unregister(1)
    assert world.commands == []
    assert relay.connections_of(A) == [2, 3]


def test_connections_that_share_a_key_are_marked(relay, world):
    """The plane reports the turns of those, and of nobody else."""
    join(relay, 1, A)
    join(relay, 9, B)
    assert world.duplicates == set()
    join(relay, 2, A)
    assert world.duplicates == {1, 2}
    join(relay, 3, A)
    assert world.duplicates == {1, 2, 3}


@pytest.mark.parametrize("leaver", [1, 2])
def test_last_one_of_a_key_is_not_marked_any_more(relay, world, leaver):
    """A connection that shares its key with nobody costs no report."""
    join(relay, 1, A)
    join(relay, 2, A)
    relay.unregister(leaver)
    assert world.duplicates == {leaver}


def test_two_of_three_stay_marked(relay, world):
    """They still share their key."""
    for connection in (1, 2, 3):
        join(relay, connection, A)
    relay.unregister(2)
    assert world.duplicates >= {1, 3}


def test_key_without_connection_has_no_route(relay, world):
    """The last one takes its route along."""
    join(relay, 1, A)
    relay.unregister(1)
    assert world.routes == {}
    assert relay.connections_of(A) == []
    assert not relay.is_active(1)


def test_leaving_twice_is_leaving_once(relay, world, watcher):
    """A connection that is not here cannot leave."""
    join(relay, 1, A)
    relay.unregister(1)
    world.commands.clear()
    relay.unregister(1)
    assert world.commands == []


def test_connections_are_found(relay):
    """By id, and all of them, oldest first, whoever spoke."""
    join(relay, 1, A)
    join(relay, 2, B)
    join(relay, 3, A)
    relay.spoke(1)
    assert [client.connection for client in relay.clients()] == [1, 2, 3]
    assert relay.client(2) == Client(connection=2, key=B)
    assert relay.client(4) is None


def test_keys_and_connections_are_counted(relay):
    """Keys once, duplicates by key and by connection, links' keys as known."""
    for connection, key in [(1, A), (2, A), (3, A), (4, B)]:
        join(relay, connection, key)
    relay.announced(B, 7, in_flood=False)
    relay.announced(C, 7, in_flood=False)
    assert (relay.local_keys, relay.known_keys) == (2, 3)
    assert (relay.duplicate_keys, relay.duplicate_connections) == (1, 3)


def test_logins_are_counted(relay):
    """Each of them; those that met another of their key a second time."""
    for connection, key in [(1, A), (2, A), (3, A), (4, B)]:
        join(relay, connection, key)
    assert (relay.counters.accepts, relay.counters.duplicate_accepts) == (4, 2)


# Watchers.


def test_present_is_told_per_connection_and_gone_for_the_last(relay, world, watcher):
    """Two logins are two PeerPresent, two departures one PeerGone."""
    for step in (
        lambda: join(relay, 1, A),
        lambda: join(relay, 2, A),
        lambda: relay.unregister(2),
        lambda: relay.unregister(1),
    ):
        step()
        relay.drained(watcher)
    assert world.told(watcher) == [present(A), present(A), Gone(A)]


def test_speaking_is_no_news(relay, world, watcher):
    """Watchers learn who is here, not which connection has the packets."""
    join(relay, 1, A)
    join(relay, 2, A)
    relay.drained(watcher)
    world.told(watcher)
    relay.spoke(1)
    assert world.told(watcher) == []


def test_reachable_before_anybody_is_told(relay, world, watcher):
    """A packet that a watcher sends on the news finds its route."""
    world.commands.clear()
    join(relay, 1, A)
    assert world.commands == ["set_route", "send"]


@pytest.mark.parametrize(
    ("about", "flags"),
    [
        ({}, 1),
        ({"mesh": True}, 2),
        ({"prober": True}, 4),
        ({"not_ideal": True}, 8),
        ({"mesh": True, "prober": True, "not_ideal": True}, 14),
    ],
)
def test_flags(relay, world, watcher, about, flags):
    """Bit 0 is set only when no other is."""
    join(relay, 1, A, **about)
    assert world.told(watcher) == [present(A, PresentFlags(flags))]


def test_present_bytes(relay, world, watcher):
    """IPv4 is v4-mapped, and a name of no length has its length byte."""
    join(relay, 1, A, **ADDRESS)
    frame = bytes.fromhex("09 00000034") + A + ADDRESS_ON_WIRE + b"\x01" + b"\x00"
    assert world.sent == [(watcher, frame)]


def test_present_bytes_with_app_name(relay, world, watcher):
    """The name of the program follows its length."""
    join(relay, 1, A, **ADDRESS, app_name="test-app")
    name = b"\x08" + b"test-app"
    frame = bytes.fromhex("09 0000003c") + A + ADDRESS_ON_WIRE + b"\x01" + name
    assert world.sent == [(watcher, frame)]


def test_present_has_an_ipv6_address(relay, world, watcher):
    """It goes as it is."""
    join(relay, 1, A, host="2001:db8::1", port=443)
    expected = Present(A, ip_address("2001:db8::1"), 443, REGULAR)
    assert world.told(watcher) == [expected]


def test_flood_contains_everybody(relay, world):
    """Clients, other mesh peers, and the watcher itself; gone ones not."""
    join(relay, 1, A)
    join(relay, 2, B)
    join(relay, 3, C, mesh=True)
    join(relay, WATCHER, M, mesh=True)
    relay.unregister(2)
    watch(relay, WATCHER)
    assert world.told(WATCHER) == [present(A), present(C, MESH), present(M, MESH)]


def test_flood_tells_of_the_active_connection(relay, world):
    """One PeerPresent for each key, with what is true of where its packets go."""
    join(relay, 1, A, app_name="old", prober=True)
    join(relay, 2, A, app_name="new")
    relay.spoke(1)
    join(relay, WATCHER, M, mesh=True)
    watch(relay, WATCHER)
    expected = Present(A, flags=PresentFlags.PROBER, app_name="old")
    assert world.told(WATCHER) == [expected, present(M, MESH)]


def test_flood_has_no_keys_of_other_nodes(relay, world):
    """A mesh is not transitive: who hears of a key from us finds it here."""
    relay.announced(A, 7, in_flood=False)
    join(relay, WATCHER, M, mesh=True)
    watch(relay, WATCHER)
    assert world.told(WATCHER) == [present(M, MESH)]


def test_keys_of_other_nodes_are_no_news(relay, world, watcher):
    """Watchers hear nothing of what links announce and withdraw."""
    relay.announced(A, 7, in_flood=False)
    relay.withdrawn(A, 7)
    relay.drained(watcher)
    assert world.told(watcher) == []


def test_second_watch_floods_again(relay, world, watcher):
    """It repeats who is here, and later changes still come once."""
    watch(relay, watcher)
    assert world.told(watcher) == [present(M, MESH)]
    relay.drained(watcher)
    join(relay, 1, A)
    assert world.told(watcher) == [present(A)]
    assert relay.watchers == 1


def test_own_key_watches_nothing(relay, world):
    """A node that dialled itself is told nothing, and not closed either."""
    join(relay, 1, OWN, mesh=True)
    watch(relay, 1)
    join(relay, 2, A)
    assert (world.sent, world.closed) == ([], [])
    assert relay.watchers == 0


def test_every_watcher_is_told(relay, world, watcher):
    """The news go to all of them, at their own pace."""
    join(relay, 91, C, mesh=True)
    watch(relay, 91)
    relay.drained(watcher)
    world.told(watcher)
    join(relay, 1, A)
    assert world.told(watcher) == [present(A)]
    assert world.told(91) == [present(M, MESH), present(C, MESH)]


def test_watcher_that_left_is_told_nothing(relay, world, watcher):
    """Not even of its own departure, as the other watchers are."""
    join(relay, 91, C, mesh=True)
    watch(relay, 91)
    relay.drained(91)
    world.told(91)
    relay.unregister(watcher)
    assert Gone(M) in world.told(91)
    assert world.told(watcher) == [present(C, MESH)]
    assert relay.watchers == 1


def test_key_of_a_watcher_that_left_can_return(relay, world, watcher):
    """A new connection of a watching key watches when it asks, not before."""
    join(relay, 91, M, mesh=True)
    relay.drained(watcher)
    relay.unregister(watcher)
    world.sent.clear()
    join(relay, 1, A)
    assert world.sent == []


def test_busy_watcher_gets_the_last_states_at_once(relay, world, watcher):
    """What happens until a batch has left waits, the last change of each key last."""
    join(relay, 1, A)
    join(relay, 2, B)
    join(relay, 3, C)
    relay.unregister(1)
    relay.unregister(2)
    join(relay, 4, B, prober=True)
    assert world.told(watcher) == [present(A)]
    relay.drained(watcher)
    assert world.told(watcher) == [present(C), Gone(A), present(B, PresentFlags.PROBER)]


def test_drained_watcher_owed_nothing_waits_for_news(relay, world, watcher):
    """An empty batch is not sent, and the next change goes at once."""
    join(relay, 1, A)
    world.told(watcher)
    relay.drained(watcher)
    assert world.told(watcher) == []
    relay.unregister(1)
    assert world.told(watcher) == [Gone(A)]


def test_client_that_drained_is_told_nothing(relay, world, watcher):
    """Only those who asked are watchers."""
    join(relay, 1, A)
    relay.drained(1)
    assert world.told(1) == []


def test_watcher_that_never_reads_costs_no_more_than_there_are_keys(
    relay, world, watcher
):
    """Strangers who come and go while it does not read leave nothing behind."""
    join(relay, 1, A)
    for number in range(100):
        join(relay, 1000 + number, NodeKey(number.to_bytes(32, "big")))
        relay.unregister(1000 + number)
    assert len(relay.presence._watchers[watcher]) == 0
    relay.drained(watcher)
    assert world.told(watcher) == [present(A)]


def test_batches_and_records_are_counted(relay, watcher):
    """Two changes that waited together are one batch of two records."""
    before = (relay.presence.batches, relay.presence.records)
    join(relay, 1, A)
    join(relay, 2, B)
    join(relay, 3, C)
    relay.drained(watcher)
    assert before == (1, 1)
    assert (relay.presence.batches, relay.presence.records) == (3, 4)


# Who is told that a key left.


def test_receivers_are_told_when_a_key_left(relay, world):
    """Those who received from it, and not those who sent to it."""
    join(relay, 1, A)
    join(relay, 2, B)
    join(relay, 3, C)
    relay.received_from(2, A)
    relay.received_from(1, C)
    relay.unregister(1)
    assert world.told(2) == [Gone(A)]
    assert world.sent == []


def test_gone_bytes(relay, world):
    """The key, then reason 0x00."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.unregister(1)
    assert world.sent == [(2, bytes.fromhex("08 00000021") + A + b"\x00")]


def test_receiver_is_told_once_for_what_it_received(relay, world):
    """A key that returns, sends nothing and leaves again is no news."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.unregister(1)
    join(relay, 3, A)
    relay.unregister(3)
    assert world.told(2) == [Gone(A)]


def test_receiver_is_told_again_when_it_received_again(relay, world):
    """Unlike derper, where the first notice to a connection is the last."""
    join(relay, 2, B)
    for connection in (1, 3):
        join(relay, connection, A)
        relay.received_from(2, A)
        relay.unregister(connection)
    assert world.told(2) == [Gone(A), Gone(A)]
    assert world.forgotten == [(2, A), (2, A)]


def test_receiver_is_told_only_when_the_last_connection_left(relay, world):
    """A key with another connection is still here."""
    join(relay, 1, A)
    join(relay, 2, A)
    join(relay, 3, B)
    relay.received_from(3, A)
    relay.unregister(2)
    assert world.told(3) == []
    relay.unregister(1)
    assert world.told(3) == [Gone(A)]


def test_receivers_are_told_by_connection(relay, world):
    """Of two connections of a key, the one that received is told."""
    join(relay, 1, A)
    join(relay, 2, B)
    join(relay, 3, B)
    relay.received_from(2, A)
    relay.unregister(1)
    assert [connection for connection, _ in world.sent] == [2]


def test_receiver_that_left_is_not_told(relay, world):
    """Nor is anything kept about it, even if it is heard of later."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.unregister(2)
    relay.received_from(2, A)
    assert len(relay._contacts) == 0
    relay.unregister(1)
    assert world.sent == []


def test_nobody_is_told_of_itself(relay, world):
    """A key that sent to itself takes its contact along."""
    join(relay, 1, A)
    relay.received_from(1, A)
    relay.unregister(1)
    assert world.sent == []
    assert len(relay._contacts) == 0


def test_gone_frames_are_counted(relay, watcher):
    """Those to receivers and those to watchers."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.drained(watcher)
    relay.unregister(1)
    assert relay.counters.peer_gone_disconnected == 2


def test_gone_frames_that_nobody_was_owed_are_not_counted(relay, watcher):
    """A key whose coming waited when it left is not told at all."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.unregister(2)
    assert relay.counters.peer_gone_disconnected == 0


def test_sender_is_told_that_a_key_is_not_here(relay, world):
    """The key it asked for, with reason 0x01; the plane limits how often."""
    join(relay, 1, A)
    relay.no_route(1, B)
    assert world.sent == [(1, bytes.fromhex("08 00000021") + B + b"\x01")]
    assert relay.counters.peer_gone_not_here == 1
    assert relay.counters.peer_gone_disconnected == 0


def test_not_here_is_not_remembered(relay, world):
    """Asking again is answered again, and asking makes nobody a receiver."""
    join(relay, 1, A)
    relay.no_route(1, B)
    relay.no_route(1, B)
    join(relay, 2, B)
    relay.unregister(2)
    assert world.told(1) == [Gone(B, GoneReason.NOT_HERE)] * 2


def test_not_here_is_not_said_of_a_key_that_has_come(relay, world, watcher):
    """The login may overtake the report; a mesh peer would drop the key for good."""
    join(relay, 1, A)
    relay.no_route(watcher, A)
    assert world.told(watcher) == [present(A)]
    assert relay.counters.peer_gone_not_here == 0


def test_not_here_is_said_of_a_key_on_another_node(relay, world, watcher):
    """A forwarded packet is not forwarded again, so its way ends here."""
    relay.announced(A, 7, in_flood=False)
    relay.no_route(watcher, A)
    assert world.told(watcher) == [Gone(A, GoneReason.NOT_HERE)]


# Frames that are not packets.


def test_close_peer_closes_every_connection_of_a_key(relay, world):
    """And no other; they leave when they are gone."""
    join(relay, WATCHER, M, mesh=True)
    for connection, key in [(1, A), (2, A), (3, B)]:
        join(relay, connection, key)
    relay.frame(WATCHER, FrameType.CLOSE_PEER, A, now=0.0)
    assert world.closed == [(1, "closed by a mesh peer"), (2, "closed by a mesh peer")]
    assert relay.connections_of(A) == [1, 2]


def test_close_peer_of_an_unknown_key_does_nothing(relay, world):
    """Nor of one that another node has: only what is here can be closed."""
    join(relay, WATCHER, M, mesh=True)
    relay.announced(A, 7, in_flood=False)
    world.commands.clear()
    relay.frame(WATCHER, FrameType.CLOSE_PEER, A, now=0.0)
    assert world.commands == []


def test_mesh_peer_may_close_itself(relay, world):
    """Its key is a key like others."""
    join(relay, WATCHER, M, mesh=True)
    relay.frame(WATCHER, FrameType.CLOSE_PEER, M, now=0.0)
    assert world.closed == [(WATCHER, "closed by a mesh peer")]


@pytest.mark.parametrize(
    ("kind", "payload", "detail"),
    [
        (FrameType.WATCH_CONNS, b"", "frame 0x10 needs the mesh right"),
        (FrameType.CLOSE_PEER, B, "frame 0x11 needs the mesh right"),
    ],
)
def test_mesh_right_is_needed(relay, world, kind, payload, detail):
    """Who asks without it is closed, and nothing else happens."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.frame(1, kind, payload, now=0.0)
    assert world.closed == [(1, detail)]
    assert (world.sent, relay.watchers) == ([], 0)


@pytest.mark.parametrize("mesh", [False, True])
@pytest.mark.parametrize("kind", [FrameType.PONG, FrameType.CLIENT_INFO, 0xFE])
def test_other_frames_mean_nothing(relay, world, kind, mesh):
    """Unknown frames are skipped, so that old servers survive new clients."""
    join(relay, 1, A, mesh=mesh)
    world.commands.clear()
    relay.frame(1, kind, bytes(8), now=0.0)
    assert world.commands == []


def test_frame_of_a_stranger_means_nothing(relay, world):
    """A connection that is gone asks for nothing more."""
    join(relay, 1, A)
    relay.frame(2, FrameType.WATCH_CONNS, b"", now=0.0)
    relay.frame(2, FrameType.NOTE_PREFERRED, b"\x01", now=9.0)
    assert (world.sent, world.closed) == ([], [])
    assert relay.counters.home_moves_in == 0


@pytest.mark.parametrize(
    ("payload", "home"), [(b"\x00", False), (b"\x01", True), (b"\x02", True)]
)
def test_home(relay, payload, home):
    """Everything that is not zero makes this node the client's home."""
    join(relay, 1, A)
    relay.frame(1, FrameType.NOTE_PREFERRED, payload, now=0.0)
    assert relay.client(1).home == home


@pytest.mark.parametrize(
    ("notes", "moves"),
    [
        ([], (0, 0)),
        ([(HOME_SETTLES, 1)], (0, 0)),
        ([(HOME_SETTLES + 0.1, 1)], (1, 0)),
        ([(1.0, 1), (6.0, 0)], (0, 1)),
        ([(1.0, 1), (2.0, 0), (3.0, 1)], (0, 0)),
        ([(6.0, 1), (7.0, 1), (8.0, 2)], (1, 0)),
        ([(6.0, 0)], (0, 0)),
        ([(6.0, 1), (7.0, 0), (8.0, 1)], (2, 1)),
    ],
)
def test_home_moves(relay, notes, moves):
    """Changes count once the login is 5 s old, repeats and departures never."""
    login = 1000.0
    join(relay, 1, A, since=login)
    for after, value in notes:
        relay.frame(1, FrameType.NOTE_PREFERRED, bytes([value]), now=login + after)
    relay.unregister(1)
    assert (relay.counters.home_moves_in, relay.counters.home_moves_out) == moves


# Keys of other nodes.


def test_announced_key_has_a_route(relay, world):
    """Packets for it take the link, whether it is news or old news."""
    relay.announced(A, 7, in_flood=False)
    relay.announced(B, 8, in_flood=True)
    assert world.routes == {A: Link(7), B: Link(8)}


def test_newest_link_is_used(relay, world):
    """Unlike derper, which keeps the oldest: a client is where it was seen last."""
    relay.announced(A, 7, in_flood=False)
    relay.announced(A, 8, in_flood=False)
    assert world.routes == {A: Link(8)}


def test_flood_takes_no_route_over(relay, world):
    """Keys in a link's first flood rank behind any route there is."""
    relay.announced(A, 7, in_flood=False)
    world.commands.clear()
    relay.announced(A, 8, in_flood=True)
    assert world.commands == []


@pytest.mark.parametrize("in_flood", [False, True])
@pytest.mark.parametrize("link", [7, 8])
def test_repeated_announcement_changes_nothing(relay, world, link, in_flood):
    """A link that repeats itself does not win the key back."""
    relay.announced(A, 7, in_flood=False)
    relay.announced(A, 8, in_flood=False)
    world.commands.clear()
    relay.announced(A, link, in_flood=in_flood)
    assert world.commands == []


@pytest.mark.parametrize("in_flood", [False, True])
def test_local_beats_a_link(relay, world, in_flood):
    """Also one that comes later."""
    join(relay, 1, A)
    relay.announced(A, 7, in_flood=in_flood)
    assert world.routes == {A: here(1)}


def test_local_beats_an_earlier_link(relay, world):
    """A client that comes here is here."""
    relay.announced(A, 7, in_flood=False)
    join(relay, 1, A)
    assert world.routes == {A: here(1)}


def test_local_departure_with_a_link_left(relay, world, watcher):
    """Packets take the link; watchers are told, those who received are not."""
    relay.announced(A, 7, in_flood=False)
    relay.announced(A, 8, in_flood=False)
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.drained(watcher)
    relay.unregister(1)
    assert world.routes[A] == Link(8)
    assert world.told(watcher)[-1] == Gone(A)
    assert world.told(2) == []


def test_receiver_is_told_when_the_last_link_withdrew(relay, world):
    """Wherever the key was when it sent: now it is nowhere in the region."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.announced(A, 7, in_flood=False)
    relay.unregister(1)
    relay.withdrawn(A, 7)
    assert world.told(2) == [Gone(A)]
    assert world.forgotten == [(2, A)]
    assert A not in world.routes


def test_receiver_is_told_of_a_key_announced_after_its_packet(relay, world):
    """A forwarded packet may overtake the news of its sender."""
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.announced(A, 7, in_flood=False)
    relay.withdrawn(A, 7)
    assert world.told(2) == [Gone(A)]


def test_link_withdraws_a_key_that_is_here(relay, world):
    """It is here still: no route changes and nobody is told."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.announced(A, 7, in_flood=False)
    world.commands.clear()
    relay.withdrawn(A, 7)
    assert world.commands == []


def test_used_link_withdraws_and_the_next_newest_is_used(relay, world):
    """Nobody is told, since a way is left."""
    join(relay, 2, B)
    relay.received_from(2, A)
    for link in (7, 8, 9):
        relay.announced(A, link, in_flood=False)
    relay.withdrawn(A, 9)
    assert world.routes[A] == Link(8)
    assert world.sent == []


def test_unused_link_withdraws_and_no_route_changes(relay, world):
    """Nor does it take over when the used one withdraws."""
    for link in (7, 8, 9):
        relay.announced(A, link, in_flood=False)
    world.commands.clear()
    relay.withdrawn(A, 8)
    assert world.commands == []
    relay.withdrawn(A, 9)
    assert world.routes == {A: Link(7)}


@pytest.mark.parametrize(("key", "link"), [(A, 8), (B, 7)])
def test_link_withdraws_what_it_never_announced(relay, world, key, link):
    """PeerGone may come twice, or for a key that the other side refused."""
    relay.announced(A, 7, in_flood=False)
    world.commands.clear()
    relay.withdrawn(key, link)
    assert world.commands == []


def test_lost_link_takes_its_keys_along(relay, world):
    """All at once: other links take over, and receivers of the rest are told."""
    join(relay, 1, M)
    for key in (A, B, C):
        relay.received_from(1, key)
        relay.announced(key, 7, in_flood=True)
    relay.announced(B, 8, in_flood=True)
    relay.link_lost(7)
    assert world.routes == {M: here(1), B: Link(8)}
    assert world.told(1) == [Gone(A), Gone(C)]


def test_lost_link_that_knew_nothing(relay, world):
    """It takes nothing along."""
    relay.announced(A, 7, in_flood=False)
    world.commands.clear()
    relay.link_lost(8)
    assert world.commands == []


def test_link_that_returns_brings_its_keys_back(relay, world):
    """Its flood after a loss is as good as the first one."""
    relay.announced(A, 7, in_flood=True)
    relay.link_lost(7)
    relay.announced(A, 8, in_flood=True)
    assert world.routes == {A: Link(8)}


def test_keys_with_several_links_are_counted(relay):
    """When a second link comes, and when the last but one goes."""
    for link in (7, 8, 9, 9):
        relay.announced(A, link, in_flood=False)
    assert relay.counters.multiforwarder_created == 1
    relay.withdrawn(A, 7)
    assert relay.counters.multiforwarder_deleted == 0
    relay.withdrawn(A, 8)
    relay.withdrawn(A, 9)
    assert relay.counters.multiforwarder_deleted == 1


def test_withdrawals_of_another_link_are_counted(relay):
    """Of a key that others announce, by a link that does not."""
    relay.announced(A, 7, in_flood=False)
    relay.withdrawn(A, 8)
    relay.withdrawn(B, 8)
    relay.withdrawn(A, 7)
    assert relay.counters.forwarder_delete_other == 1
