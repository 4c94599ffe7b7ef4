"""What of a change is believed."""

import dataclasses
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.membership.hold import WINDOW, Hold
from derpmesh.membership.model import Drain, Membership, Region, Rule
from derpnode.wire.keys import NodeKey
from tests.mesh.membership.scene import (
    REGION,
    A,
    B,
    C,
    D,
    content,
    member,
    membership,
)


E = member("e")


class Told:
    """A hold that is told of memberships, at times that the test says."""

    def __init__(self, *members) -> None:
        self.now = 100.0
        self.hold = Hold(lambda: self.now)
        self.is_(*members)

    def is_(self, *members, struck: Collection[str] = (), region: Region = REGION):
        """Tell of a membership; give the names in force."""
        found = dataclasses.replace(
            membership(1, *members, region=region), struck=frozenset(struck)
        )
        return self.judge(found)

    def judge(self, found: Membership) -> list[str]:
        """Tell of a membership; give the letters in force, in their order."""
        self.force = self.hold.judge(found)
        return [name[-1] for name in self.force.members]

    @property
    def held(self) -> str:
        """The letters that are held."""
        return "".join(name[-1] for name in self.hold.held)


def test_the_first_membership_is_believed():
    """There is nothing that it could be held against."""
    told = Told()
    assert told.is_(A, B, C) == ["a", "b", "c"]
    assert told.held == ""


def test_one_of_three_is_believed():
    """It is a third of them, and no more."""
    told = Told(A, B, C)
    assert told.is_(A, C) == ["a", "c"]
    assert told.held == ""


def test_one_of_two_is_held():
    """A region of two never drops its last sibling by itself."""
    told = Told(A, B)
    assert told.is_(A) == ["a", "b"]
    assert told.held == "b"


def test_the_only_one_is_held():
    """An empty registry is no region; nor does it say what that is called."""
    told = Told(A)
    assert told.is_(region=Region(id=950)) == ["a"]
    assert told.force.region == REGION


def test_two_at_once_are_held():
    """However many there are; they stay where they were in the map."""
    told = Told(A, B, C, D, E)
    assert told.is_(A, C, E) == ["a", "b", "c", "d", "e"]
    assert told.held == "bd"


def test_second_one_in_a_while_is_held():
    """The first one, which was believed, is not brought back."""
    told = Told(A, B, C, D)
    assert told.is_(B, C, D) == ["b", "c", "d"]
    told.now += WINDOW
    assert told.is_(C, D) == ["b", "c", "d"]
    assert told.held == "b"


def test_second_one_after_a_while_is_believed():
    """They were not lost together."""
    told = Told(A, B, C, D)
    told.is_(B, C, D)
    told.now += WINDOW + 0.1
    assert told.is_(C, D) == ["c", "d"]


def test_another_one_beside_those_that_are_held():
    """It is held as well, however late."""
    told = Told(A, B, C, D, E)
    told.is_(C, D, E)
    told.now += 10 * WINDOW
    assert told.is_(D, E) == ["a", "b", "c", "d", "e"]
    assert told.held == "abc"


def test_time_alone_lets_nobody_go():
    """Those that are held stay until they are back, or somebody confirms."""
    told = Told(A, B, C, D)
    told.is_(C, D)
    told.now += 1e6
    assert told.is_(C, D) == ["a", "b", "c", "d"]


def test_whoever_was_taken_out_is_let_go():
    """In any number: an operator said so."""
    told = Told(A, B, C)
    assert told.is_(C, struck=["901a", "901b"]) == ["c"]
    assert told.held == ""


def test_whoever_is_held_and_then_taken_out():
    """That is a confirmation; the other ones are still held."""
    told = Told(A, B, C, D)
    told.is_(D)
    assert told.held == "abc"
    assert told.is_(D, struck=["901a"]) == ["b", "c", "d"]
    assert told.held == "bc"


def test_those_that_are_back_are_not_held():
    """They are as they are now, and nothing is remembered of it."""
    told = Told(A, B, C, D)
    told.is_(C, D)
    moved = member("a", host="elsewhere.example.com")
    assert told.is_(moved, C, D) == ["a", "b", "c", "d"]
    assert (told.held, told.force.members["901a"]) == ("b", moved)
    assert told.is_(moved, B, C, D) == ["a", "b", "c", "d"]
    assert told.held == ""
    assert told.is_(moved, B, C) == ["a", "b", "c"]


def test_one_that_was_believed_and_is_back():
    """It is not counted any more."""
    told = Told(A, B, C, D)
    told.is_(B, C, D)
    told.is_(A, B, C, D)
    assert told.is_(A, B, C) == ["a", "b", "c"]


def test_new_ones_come_in_while_others_are_held():
    """At the end of the map."""
    told = Told(A, B, C)
    told.is_(A)
    assert told.is_(A, D) == ["a", "b", "c", "d"]
    assert told.held == "bc"


ONE, TWO = NodeKey(b"\x01" * 32), NodeKey(b"\x02" * 32)


def ruled(clients: Mapping[NodeKey, Rule]) -> Membership:
    """Give a membership with rules for clients."""
    return dataclasses.replace(membership(1, A, B, C), clients=clients)


def test_rules_that_vanish_are_held():
    """A client that was denied does not come back because etcd forgot it."""
    told = Told(A, B, C)
    told.judge(ruled({ONE: "deny", TWO: "allow"}))
    told.judge(ruled({}))
    assert told.force.clients == {ONE: "deny", TWO: "allow"}
    assert (told.hold.held_clients, told.held) == (2, "")
    told.judge(ruled({TWO: "deny"}))
    assert told.force.clients == {ONE: "deny", TWO: "deny"}
    assert told.hold.confirm().clients == {TWO: "deny"}
    assert told.hold.held_clients == 0


def test_rule_that_was_taken_back_may_vanish():
    """That was said, and there is nothing to hold."""
    told = Told(A, B, C)
    told.judge(ruled({ONE: "deny", TWO: "deny"}))
    told.judge(ruled({ONE: "none", TWO: "deny"}))
    told.judge(ruled({TWO: "deny"}))
    assert told.force.clients == {TWO: "deny"}
    assert told.hold.held_clients == 0


def test_member_that_is_held_is_still_to_drain():
    """The wish went with its record; those of others are as they are now."""
    told = Told(A, B, C)
    wishes = {A.name: Drain(), C.name: Drain(force=True)}
    told.judge(dataclasses.replace(membership(1, A, B, C), drains=wishes))
    told.judge(membership(1, C))
    assert told.force.drains == {A.name: Drain()}


def test_confirm():
    """What the registry has is in force from then on."""
    told = Told(A, B, C)
    told.is_(C)
    assert content(told.hold.confirm()) == (REGION, [C])
    assert told.held == ""
    assert told.is_(C, D) == ["c", "d"]


def test_confirm_without_need():
    """It changes nothing, before the first membership and after it."""
    assert Hold(lambda: 0.0).confirm() is None
    told = Told(A, B)
    assert told.hold.confirm() is None


LETTERS = {found.name: found for found in map(member, "abcdefg")}
names = st.sets(st.sampled_from(sorted(LETTERS)))
steps = st.lists(st.tuples(names, names, st.floats(0, 40)), min_size=1, max_size=12)


@given(st.sets(st.sampled_from(sorted(LETTERS)), min_size=1), steps)
def test_no_fewer_are_in_force_than_may_be(first, steps):
    """Of those that nobody took out, one leaves at a time, and never of two."""
    told = Told(*(LETTERS[name] for name in sorted(first)))
    left: dict[str, float] = {}
    for there, struck, seconds in steps:
        told.now += seconds
        before = set(told.force.members)
        found = there - struck
        told.is_(*(LETTERS[name] for name in sorted(found)), struck=struck)
        force = set(told.force.members)
        assert found <= force <= found | before
        assert force.isdisjoint(struck)
        assert set(told.hold.held) == force - found
        gone = before - force - struck
        left |= dict.fromkeys(gone, told.now)
        left = {
            name: since
            for name, since in left.items()
            if told.now - since <= WINDOW and name not in found
        }
        assert len(left) <= 1
        assert not gone or len(before) >= 3


@given(st.sets(st.sampled_from(sorted(LETTERS)), min_size=1), steps)
def test_return_of_all_ends_every_doubt(first, steps):
    """Whatever happened; and a confirmation does."""
    told = Told(*(LETTERS[name] for name in sorted(first)))
    for there, struck, seconds in steps:
        told.now += seconds
        told.is_(*(LETTERS[name] for name in sorted(there - struck)), struck=struck)
    last = sorted(there - struck)
    confirmed = told.hold.confirm()
    assert confirmed is None or list(confirmed.members) == last
    assert told.is_(*LETTERS.values()) == [name[-1] for name in LETTERS]
    assert told.held == ""


@pytest.mark.parametrize("held", [[B], [B, C]])
def test_revision_is_that_of_the_registry(held):
    """Though members are in force that it does not have."""
    told = Told(A, *held)
    found = membership(7, A)
    told.judge(found)
    assert told.force.revision == 7
