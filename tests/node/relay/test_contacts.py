"""Contacts: who received from whom, found from either side, with nothing left over."""

import pytest

from derpnode.relay.contacts import Contacts
from derpnode.wire.keys import NodeKey


A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)


@pytest.fixture
def contacts():
    return Contacts()


def is_empty(contacts: Contacts) -> bool:
    """Tell whether neither side holds anything, not even an empty container."""
    return len(contacts) == 0 and not contacts._receivers and not contacts._sources


def test_receivers_are_taken_in_the_order_they_came(contacts):
    """Whoever received first is told first."""
    for receiver in (3, 1, 2):
        contacts.add(receiver, A)
    assert contacts.take(A) == [3, 1, 2]


def test_taken_is_forgotten(contacts):
    """A receiver is handed out once, and leaves nothing behind."""
    contacts.add(1, A)
    contacts.take(A)
    assert contacts.take(A) == []
    assert is_empty(contacts)


def test_taken_receiver_may_come_again(contacts):
    """A pair that was taken is like one never seen."""
    contacts.add(1, A)
    contacts.take(A)
    contacts.add(1, A)
    assert contacts.take(A) == [1]


def test_repeat_is_one_contact(contacts):
    """A pair that is noted twice is there once."""
    contacts.add(1, A)
    contacts.add(1, A)
    assert len(contacts) == 1
    assert contacts.take(A) == [1]


def test_nobody_received_from_an_unknown_source(contacts):
    """Taking a source that never sent gives nobody."""
    contacts.add(1, A)
    assert contacts.take(B) == []
    assert len(contacts) == 1


def test_taking_one_source_keeps_the_others(contacts):
    """What a receiver got from other sources stays noted."""
    contacts.add(1, A)
    contacts.add(1, B)
    contacts.take(A)
    assert len(contacts) == 1
    assert contacts.take(B) == [1]


def test_removed_receiver_is_not_taken(contacts):
    """A connection that is gone is told nothing; the others are."""
    contacts.add(1, A)
    contacts.add(2, A)
    contacts.remove(1)
    assert contacts.take(A) == [2]


def test_last_receiver_leaves_nothing(contacts):
    """A receiver takes all its sources with it."""
    contacts.add(1, A)
    contacts.add(1, B)
    contacts.remove(1)
    assert is_empty(contacts)


def test_removing_a_stranger_changes_nothing(contacts):
    """A connection that received nothing can leave as well."""
    contacts.add(1, A)
    contacts.remove(2)
    assert contacts.take(A) == [1]
