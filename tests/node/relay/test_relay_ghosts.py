"""Ghosts: a key that comes up elsewhere, and a connection here that may be dead."""

import pytest

from tests.node.relay.recorder import Gone, Link
from tests.node.relay.scene import A, B, announce, here, join, present


NOW = 1000.0
IN_TIME = NOW + 0.99
LATE = NOW + 1.0


@pytest.fixture
def asked(relay):
    """A client whose key another node announced just now."""
    join(relay, 1, A, can_ack_pings=True)
    announce(relay, A, 7, now=NOW)
    return 1


@pytest.mark.parametrize("in_flood", [False, True])
def test_key_that_comes_up_elsewhere_is_asked(relay, world, in_flood):
    """Until it answers or not, its packets come here."""
    join(relay, 1, A, can_ack_pings=True)
    announce(relay, A, 7, now=NOW, in_flood=in_flood)
    assert world.questioned == {1}
    assert world.routes == {A: here(1)}
    assert relay.counters.questions == 1


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"can_ack_pings": True, "mesh": True},
        {"can_ack_pings": True, "prober": True},
    ],
)
def test_who_does_not_answer_pings_is_not_asked(relay, world, about):
    """Go's links and probers, and whoever did not say that it does, live on."""
    join(relay, 1, A, **about)
    announce(relay, A, 7, now=NOW)
    relay.tick(LATE)
    assert (world.questioned, world.closed) == (set(), [])
    assert relay.counters.questions == 0


def test_others_are_not_asked(relay, world):
    """Only the key that came up elsewhere is in doubt."""
    join(relay, 1, A, can_ack_pings=True)
    announce(relay, B, 7, now=NOW)
    assert world.questioned == set()


def test_new_connection_is_not_asked(relay, world):
    """Who comes here after it was elsewhere is here."""
    announce(relay, A, 7, now=NOW)
    join(relay, 1, A, can_ack_pings=True)
    assert world.questioned == set()


def test_answer_ends_the_question(relay, world, asked):
    """Any frame is one; the plane need not report the next."""
    relay.spoke(asked)
    relay.tick(LATE)
    assert (world.questioned, world.closed) == (set(), [])
    assert world.routes == {A: here(asked)}
    assert relay.counters.ghosts == 0


def test_time_to_answer(relay, world, asked):
    """A second, and not less."""
    relay.tick(IN_TIME)
    assert world.closed == []
    relay.tick(LATE)
    assert world.closed == [(asked, "it moved to another node")]
    assert relay.counters.ghosts == 1


def test_packets_of_a_ghost_take_the_mesh(relay, world, asked):
    """Before it is closed, and once; that it closed is no news later."""
    world.commands.clear()
    relay.tick(LATE)
    relay.tick(LATE)
    relay.unregister(asked)
    assert world.commands == ["set_forward", "close"]
    assert world.routes == {A: Link(7)}


def test_presence_of_a_ghost_is_withdrawn(relay, world, watcher, asked):
    """Watchers are told; who received from it is not, since a way is left."""
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.tick(LATE)
    relay.drained(watcher)
    assert world.told(watcher) == [present(A), present(B), Gone(A)]
    assert world.told(2) == []


def test_asked_once_at_a_time(relay, world, asked):
    """A second announcement gives no more time, and no second question."""
    announce(relay, A, 8, now=IN_TIME)
    assert relay.counters.questions == 1
    relay.tick(LATE)
    assert world.routes == {A: Link(8)}


def test_asked_again_after_an_answer(relay, world, asked):
    """The next announcement is a new doubt, a repeated one too."""
    relay.spoke(asked)
    announce(relay, A, 7, now=NOW + 5)
    relay.tick(NOW + 5)
    assert world.questioned == {asked}
    assert relay.counters.questions == 2


def test_every_connection_of_the_key_is_asked(relay, world):
    """Of several, those that answer stay and have the packets."""
    join(relay, 1, A, can_ack_pings=True)
    join(relay, 2, A, can_ack_pings=True)
    announce(relay, A, 7, now=NOW)
    relay.spoke(1)
    relay.tick(LATE)
    assert [connection for connection, _ in world.closed] == [2]
    assert world.routes == {A: here(1)}


def test_asked_one_leaves(relay, world, asked):
    """Nothing is kept of the question."""
    relay.unregister(asked)
    relay.tick(LATE)
    assert (world.closed, relay.counters.ghosts) == ([], 0)
    assert relay._questioned == {}


def test_ghost_whose_other_way_is_gone_as_well(relay, world, asked):
    """It is one all the same, and who received from it is told."""
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.withdrawn(A, 7)
    relay.tick(LATE)
    assert [connection for connection, _ in world.closed] == [asked]
    assert world.told(2) == [Gone(A)]
