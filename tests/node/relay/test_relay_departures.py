"""PeerGone of both kinds: who is told that a key left, or was never here."""

from derpnode.wire.payloads import GoneReason
from tests.node.relay.recorder import Gone
from tests.node.relay.scene import A, B, C, announce, join, present


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
    announce(relay, A, 7)
    relay.no_route(watcher, A)
    assert world.told(watcher) == [Gone(A, GoneReason.NOT_HERE)]
