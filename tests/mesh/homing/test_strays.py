"""Whose turn it is to be moved, and who is left alone."""

from hypothesis import given
from hypothesis import strategies as st

from derpmesh.homing import strays as module
from derpmesh.homing.strays import (
    LEFT_ALONE,
    PAUSE,
    RETURNED_LEAST,
    Guest,
    Strays,
)
from derpnode.wire.keys import NodeKey


class Told(Strays):
    """Strays at times that the test says."""

    def __init__(self) -> None:
        self.now = 1_000.0
        super().__init__(lambda: self.now)

    def after(self, seconds: float, *guests: Guest) -> None:
        """Look again after so many seconds."""
        self.now += seconds
        self.look(guests)


def guest(number: int, packets: int = 0, *, ideal: str = "900a", key: int = 0) -> Guest:
    """Make a stray; its key goes with its number unless another is given."""
    return Guest(number, NodeKey((key or number).to_bytes(32)), ideal, packets)


def test_they_are_counted_by_the_node_they_prefer():
    """All of them, and those that may be moved."""
    told = Told()
    told.after(0, guest(1), guest(2), guest(3, ideal="900b"))
    assert told.counts() == {"900a": 2, "900b": 1}
    assert told.movable() == {"900a": 2, "900b": 1}


def test_idle_ones_go_first():
    """Then those that have been quiet for longest."""
    told = Told()
    told.after(0, guest(1), guest(2), guest(3))
    told.after(10, guest(1, 5), guest(2), guest(3))
    told.after(10, guest(1, 5), guest(2), guest(3, 1))
    told.after(10, guest(1, 6), guest(2), guest(3, 1))
    assert told.take("900a", 2) == [2, 3]
    assert told.take("900a", 9) == [1]
    assert (told.take("900a", 9), told.moved) == ([], 3)


def test_only_those_who_prefer_the_node():
    """Others are not moved there."""
    told = Told()
    told.after(0, guest(1, ideal="900b"), guest(2))
    assert told.take("900a", 9) == [2]


def test_nobody_is_moved_twice():
    """Whoever comes back cannot reach its node; for a day it stays."""
    told = Told()
    told.after(0, guest(1))
    assert told.take("900a", 1) == [1]
    told.after(5, guest(7, key=1))
    assert (told.counts(), told.movable()) == ({"900a": 1}, {})
    assert told.take("900a", 1) == []
    told.after(LEFT_ALONE, guest(7, key=1))
    assert told.take("900a", 1) == [7]


def test_node_that_is_not_reached():
    """When many come back nobody is moved there for a while; elsewhere they are."""
    told = Told()
    crowd = [guest(number) for number in range(1, 31)]
    told.after(0, *crowd, guest(99, ideal="900b"))
    for number in range(RETURNED_LEAST):
        [moved] = told.take("900a", 1)
        assert told.paused() == []
        told.after(1, *crowd[number + 1 :], guest(200 + number, key=moved))
    assert told.paused() == ["900a"]
    assert told.movable().get("900a", 0) == 0
    assert told.take("900a", 9) == []
    told.after(0, *crowd[3:], guest(99, ideal="900b"))
    assert told.take("900b", 9) == [99]
    told.after(PAUSE, *crowd[3:])
    assert len(told.take("900a", 99)) == 27


def test_few_who_come_back_stop_nothing():
    """Three of thirty are no sign."""
    told = Told()
    crowd = [guest(number) for number in range(1, 61)]
    told.after(0, *crowd)
    moved = told.take("900a", 30)
    back = [guest(100 + number, key=number) for number in moved[:3]]
    told.after(1, *(one for one in crowd if one.connection not in moved), *back)
    assert told.paused() == []


def test_memory_of_moves_is_bounded(monkeypatch):
    """The oldest are forgotten."""
    monkeypatch.setattr(module, "MOST_REMEMBERED", 10)
    told = Told()
    told.after(0, *(guest(number) for number in range(1, 21)))
    told.take("900a", 20)
    told.after(1, guest(101, key=1), guest(120, key=20))
    assert told.take("900a", 9) == [101]


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 2), st.floats(0, 50))),
    st.integers(1, 4),
)
def test_no_key_is_moved_twice_in_a_day(steps, count):
    """Whatever comes and goes."""
    told, moved = Told(), []
    for connection, (key, packets, seconds) in enumerate(steps, start=10):
        told.after(seconds, guest(connection, packets, key=key))
        keys = {connection: key}
        moved += [keys[found] for found in told.take("900a", count)]
    assert len(moved) == len(set(moved)) or told.now > 1_000.0 + LEFT_ALONE
