"""Logins that were seen before."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

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
    """And no longer than two: whoever kept it that long may have it."""
    guard = ReplayGuard()
    assert guard.is_new(BOB, b"n" * 24, 0)
    assert guard.is_new(ALICE, b"n" * 24, 86_399)
    assert not guard.is_new(ALICE, b"n" * 24, 86_400)
    assert not guard.is_new(ALICE, b"n" * 24, 2 * 86_400 - 2)
    assert guard.is_new(ALICE, b"n" * 24, 3 * 86_400)


def test_a_replay_does_not_renew():
    """The day begins with the login."""
    guard = ReplayGuard(lifetime=10)
    assert guard.is_new(ALICE, b"n" * 24, 0)
    assert not guard.is_new(ALICE, b"n" * 24, 9)
    assert not guard.is_new(ALICE, b"n" * 24, 11)
    assert guard.is_new(ALICE, b"n" * 24, 21)


def test_nobody_came_for_long():
    """Then nothing is remembered, whenever the last one came."""
    guard = ReplayGuard(lifetime=10)
    assert guard.is_new(ALICE, b"n" * 24, 0)
    assert guard.is_new(ALICE, b"n" * 24, 20)


def test_so_many_at_most():
    """Beyond that the older half is forgotten, so that memory is bounded."""
    guard = ReplayGuard(capacity=10)
    for number in range(100):
        assert guard.is_new(ALICE, number.to_bytes(24), 0)
        assert len(guard) <= 10
    assert guard.is_new(ALICE, (0).to_bytes(24), 0)
    for number in range(96, 100):
        assert not guard.is_new(ALICE, number.to_bytes(24), 0)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 4)), max_size=200),
    st.integers(2, 30),
)
def test_none_of_the_last_is_taken_twice(logins, capacity):
    """Whatever comes: as long as it lasts, and as far as there is room."""
    guard, now = ReplayGuard(lifetime=10, capacity=capacity), 0.0
    noted: dict[int, float] = {}  # when each was taken, the last one last
    for number, seconds in logins:
        now += seconds
        before = noted.pop(number, None)
        later = sum(at >= (before or 0.0) for at in noted.values())
        if guard.is_new(ALICE, number.to_bytes(24), now):
            is_old = before is not None and now - before >= 10
            assert before is None or is_old or later + 1 >= capacity // 2
            noted[number] = now
        else:
            assert before is not None
            noted = {number: before, **noted}


def test_memory():
    """A login costs little: there may be half a million of them."""
    guard = ReplayGuard()
    tracemalloc.start()
    try:
        for number in range(20_000):
            guard.is_new(ALICE, number.to_bytes(24), 0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 40 * 20_000
