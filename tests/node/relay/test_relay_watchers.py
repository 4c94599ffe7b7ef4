"""Watchers: a flood, then every change, in the bytes of 1.104."""

from ipaddress import ip_address

import pytest

from derpnode.wire.keys import NodeKey
from derpnode.wire.payloads import Present, PresentFlags
from tests.node.relay.recorder import Gone
from tests.node.relay.scene import (
    MESH,
    OWN,
    REGULAR,
    WATCHER,
    A,
    B,
    C,
    M,
    announce,
    join,
    present,
    watch,
)


ADDRESS = {"host": "127.0.0.1", "port": 0xA8EA}
ADDRESS_ON_WIRE = bytes.fromhex(
    "00000000000000000000ffff7f000001"  # address, v4-mapped
    "a8ea"  # port
)


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
        ({"ideal": "900b"}, 8),
        ({"mesh": True, "prober": True, "ideal": "900b"}, 14),
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
    announce(relay, A, 7)
    join(relay, WATCHER, M, mesh=True)
    watch(relay, WATCHER)
    assert world.told(WATCHER) == [present(M, MESH)]


def test_keys_of_other_nodes_are_no_news(relay, world, watcher):
    """Watchers hear nothing of what links announce and withdraw."""
    announce(relay, A, 7)
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
    lagging = relay.presence._watchers[watcher]
    assert (len(lagging._owed), len(lagging._unheard)) == (0, 0)
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
