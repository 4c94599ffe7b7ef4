"""How many are moved, from where to where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.homing.budget import budget, plan


@pytest.mark.parametrize(
    ("strays", "most"), [(0, 0), (1, 1), (99, 1), (100, 1), (101, 2), (5_000, 50)]
)
def test_budget(strays, most):
    """One in a hundred, and one at least."""
    assert budget(strays, 0.01) == most


def test_they_go_from_where_most_are():
    """One after the other."""
    movable = {"900b": {"900a": 5}, "900c": {"900a": 2, "900b": 4}}
    assert plan(movable, {"900a", "900b"}, 4) == {
        "900b": {"900a": 2},
        "900c": {"900b": 2},
    }


def test_only_to_nodes_that_are_ready():
    """And never to the node that they are on."""
    movable = {"900b": {"900a": 5, "900c": 1, "900b": 3}}
    assert plan(movable, {"900c", "900b"}, 9) == {"900b": {"900c": 1}}
    assert plan(movable, set(), 9) == {}


names = st.sampled_from(["900a", "900b", "900c"])
counts = st.dictionaries(names, st.integers(0, 9))


@given(st.dictionaries(names, counts), st.sets(names), st.integers(0, 40))
def test_no_more_than_there_are(movable, ready, most):
    """Nor than may be moved, and all that may be if there are so many."""
    found = plan(movable, ready, most)
    moved = [
        (source, ideal, count)
        for source, ideals in found.items()
        for ideal, count in ideals.items()
    ]
    for source, ideal, count in moved:
        assert 0 < count <= movable[source][ideal]
        assert ideal in ready
        assert ideal != source
    possible = sum(
        count
        for source, ideals in movable.items()
        for ideal, count in ideals.items()
        if ideal in ready and ideal != source
    )
    assert sum(count for *_, count in moved) == min(most, possible)
