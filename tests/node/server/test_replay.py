"""Logins that were seen before."""

from derpnode.server.replay import ReplayGuard
from derpnode.wire.keys import NodeKey


ALICE, BOB = NodeKey(b"a" * 32), NodeKey(b"b" * 32)


def test_once():
    """The second time it is no longer new, and that is counted."""
    guard = ReplayGuard()
    assert guard.is_new(ALICE, b"n" * 24, 0)
    assert not guard.is_new(ALICE, b"n" * 24, 1)
    assert guard.refused == 1


def test_another_key_or_nonce():
    """Either makes another login."""
    guard = ReplayGuard()
    assert guard.is_new(ALICE, b"n" * 24, 0)
    assert guard.is_new(BOB, b"n" * 24, 0)
    assert guard.is_new(ALICE, b"m" * 24, 0)
    assert guard.refused == 0


def test_for_a_day():
    """Then it is forgotten: whoever kept it that long may have it."""
    guard = ReplayGuard()
    assert guard.is_new(ALICE, b"n" * 24, 0)
    assert not guard.is_new(ALICE, b"n" * 24, 86_399)
    assert guard.is_new(ALICE, b"n" * 24, 86_400)


def test_a_replay_does_not_renew():
    """The day begins with the login."""
    guard = ReplayGuard(lifetime=10)
    assert guard.is_new(ALICE, b"n" * 24, 0)
    assert not guard.is_new(ALICE, b"n" * 24, 9)
    assert guard.is_new(ALICE, b"n" * 24, 11)


def test_so_many_at_most():
    """Beyond that the oldest are forgotten, so that memory is bounded."""
    guard = ReplayGuard(capacity=10)
    for number in range(100):
        assert guard.is_new(ALICE, number.to_bytes(24, "little"), 0)
    assert len(guard._seen) == 10
    assert guard.is_new(ALICE, (0).to_bytes(24, "little"), 0)
    assert not guard.is_new(ALICE, (99).to_bytes(24, "little"), 0)
