"""Keys of other nodes: which link is used, and what a lost one takes along."""

import pytest

from tests.node.relay.recorder import Gone, Link
from tests.node.relay.scene import A, B, C, M, announce, here, join, present


def test_announced_key_has_a_route(relay, world):
    """Packets for it take the link, whether it is news or old news."""
    announce(relay, A, 7)
    announce(relay, B, 8, in_flood=True)
    assert world.routes == {A: Link(7), B: Link(8)}


def test_newest_link_is_used(relay, world):
    """Unlike derper, which keeps the oldest: a client is where it was seen last."""
    announce(relay, A, 7)
    announce(relay, A, 8)
    assert world.routes == {A: Link(8)}


def test_flood_takes_no_route_over(relay, world):
    """Keys in a link's first flood rank behind any route there is."""
    announce(relay, A, 7)
    world.commands.clear()
    announce(relay, A, 8, in_flood=True)
    assert world.commands == []


@pytest.mark.parametrize("in_flood", [False, True])
@pytest.mark.parametrize("link", [7, 8])
def test_repeated_announcement_changes_nothing(relay, world, link, in_flood):
    """A link that repeats itself does not win the key back."""
    announce(relay, A, 7)
    announce(relay, A, 8)
    world.commands.clear()
    announce(relay, A, link, in_flood=in_flood)
    assert world.commands == []


@pytest.mark.parametrize("in_flood", [False, True])
def test_local_beats_a_link(relay, world, in_flood):
    """Also one that comes later."""
    join(relay, 1, A)
    announce(relay, A, 7, in_flood=in_flood)
    assert world.routes == {A: here(1)}


def test_local_beats_an_earlier_link(relay, world):
    """A client that comes here is here."""
    announce(relay, A, 7)
    join(relay, 1, A)
    assert world.routes == {A: here(1)}


def test_local_departure_with_a_link_left(relay, world, watcher):
    """Watchers are told; those who received are not, since a way is left."""
    announce(relay, A, 7)
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    relay.unregister(1)
    relay.drained(watcher)
    assert world.told(watcher) == [present(A), present(B), Gone(A)]
    assert world.told(2) == []


def test_local_departure_gives_the_route_to_the_newest_link(relay, world):
    """Links are ranked while the key is here, too."""
    announce(relay, A, 7)
    join(relay, 1, A)
    announce(relay, A, 8)
    announce(relay, A, 9, in_flood=True)
    relay.unregister(1)
    assert world.routes == {A: Link(8)}


def test_receiver_is_told_when_the_last_link_withdrew(relay, world):
    """Wherever the key was when it sent: now it is nowhere in the region."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    announce(relay, A, 7)
    relay.unregister(1)
    relay.withdrawn(A, 7)
    assert world.told(2) == [Gone(A)]
    assert world.forgotten == [(2, A)]
    assert A not in world.routes


def test_receiver_is_told_of_a_key_announced_after_its_packet(relay, world):
    """A forwarded packet may overtake the news of its sender."""
    join(relay, 2, B)
    relay.received_from(2, A)
    announce(relay, A, 7)
    relay.withdrawn(A, 7)
    assert world.told(2) == [Gone(A)]


def test_link_withdraws_a_key_that_is_here(relay, world):
    """It is here still: no route changes and nobody is told."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.received_from(2, A)
    announce(relay, A, 7)
    world.commands.clear()
    relay.withdrawn(A, 7)
    assert world.commands == []


def test_used_link_withdraws_and_the_next_newest_is_used(relay, world):
    """Nobody is told, since a way is left."""
    join(relay, 2, B)
    relay.received_from(2, A)
    for link in (7, 8, 9):
        announce(relay, A, link)
    relay.withdrawn(A, 9)
    assert world.routes[A] == Link(8)
    assert world.sent == []


def test_unused_link_withdraws_and_no_route_changes(relay, world):
    """Nor does it take over when the used one withdraws."""
    for link in (7, 8, 9):
        announce(relay, A, link)
    world.commands.clear()
    relay.withdrawn(A, 8)
    assert world.commands == []
    relay.withdrawn(A, 9)
    assert world.routes == {A: Link(7)}


@pytest.mark.parametrize(("key", "link"), [(A, 8), (B, 7)])
def test_link_withdraws_what_it_never_announced(relay, world, key, link):
    """PeerGone may come twice, or for a key that the other side refused."""
    announce(relay, A, 7)
    world.commands.clear()
    relay.withdrawn(key, link)
    assert world.commands == []


def test_lost_link_takes_its_keys_along(relay, world):
    """All at once: other links take over, and receivers of the rest are told."""
    join(relay, 1, M)
    for key in (A, B, C):
        relay.received_from(1, key)
        announce(relay, key, 7, in_flood=True)
    announce(relay, B, 8, in_flood=True)
    relay.link_lost(7)
    assert world.routes == {M: here(1), B: Link(8)}
    assert world.told(1) == [Gone(A), Gone(C)]


def test_lost_link_that_knew_nothing(relay, world):
    """It takes nothing along."""
    announce(relay, A, 7)
    world.commands.clear()
    relay.link_lost(8)
    assert world.commands == []


def test_link_that_returns_brings_its_keys_back(relay, world):
    """Its flood after a loss is as good as the first one."""
    announce(relay, A, 7, in_flood=True)
    relay.link_lost(7)
    announce(relay, A, 8, in_flood=True)
    assert world.routes == {A: Link(8)}


def test_keys_with_several_links_are_counted(relay):
    """When a second link comes, and when the last but one goes."""
    for link in (7, 8, 9, 9):
        announce(relay, A, link)
    assert relay.counters.multiforwarder_created == 1
    relay.withdrawn(A, 7)
    assert relay.counters.multiforwarder_deleted == 0
    relay.withdrawn(A, 8)
    relay.withdrawn(A, 9)
    assert relay.counters.multiforwarder_deleted == 1


def test_withdrawals_of_another_link_are_counted(relay):
    """Of a key that others announce, by a link that does not."""
    announce(relay, A, 7)
    relay.withdrawn(A, 8)
    relay.withdrawn(B, 8)
    relay.withdrawn(A, 7)
    assert relay.counters.forwarder_delete_other == 1
