"""Connections of a key: which one has the packets, and who is found and counted."""

import pytest

from derpnode.relay.relay import Client
from tests.node.relay.scene import A, B, C, announce, here, join


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
    announce(relay, B, 7)
    announce(relay, C, 7)
    assert (relay.local_keys, relay.known_keys) == (2, 3)
    assert (relay.duplicate_keys, relay.duplicate_connections) == (1, 3)


def test_logins_are_counted(relay):
    """Each of them; those that met another of their key a second time."""
    for connection, key in [(1, A), (2, A), (3, A), (4, B)]:
        join(relay, connection, key)
    assert (relay.counters.accepts, relay.counters.duplicate_accepts) == (4, 2)
