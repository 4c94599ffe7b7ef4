"""Forwarders: newest change first, old news last, and nobody twice."""

import pytest

from derpnode.relay.forwarders import Forwarders
from derpnode.wire.keys import NodeKey


A = NodeKey(b"\xa1" * 32)
B = NodeKey(b"\xb2" * 32)
C = NodeKey(b"\xc3" * 32)


@pytest.fixture
def forwarders():
    return Forwarders()


def order(forwarders: Forwarders, key: NodeKey) -> list[int]:
    """Give the links of a key, by removing the preferred one until none is left."""
    links = []
    while (link := forwarders.preferred(key)) is not None:
        links.append(link)
        forwarders.remove(key, link)
    return links


def test_unknown_key_has_no_link(forwarders):
    """A key that nobody announced has no way."""
    assert forwarders.preferred(A) is None
    assert forwarders.count(A) == 0
    assert A not in forwarders


def test_first_announcement_is_preferred(forwarders):
    """The only link is the one to take."""
    assert forwarders.add(A, 7, in_flood=False)
    assert forwarders.preferred(A) == 7
    assert A in forwarders


def test_newest_announcement_is_preferred(forwarders):
    """Unlike derper, a key is where it was seen last, not where first."""
    forwarders.add(A, 7, in_flood=False)
    assert forwarders.add(A, 8, in_flood=False)
    assert forwarders.add(A, 9, in_flood=False)
    assert order(forwarders, A) == [9, 8, 7]


def test_flood_ranks_last(forwarders):
    """What a link tells at its start may be older than what others told since."""
    forwarders.add(A, 7, in_flood=False)
    assert not forwarders.add(A, 8, in_flood=True)
    assert not forwarders.add(A, 9, in_flood=True)
    assert order(forwarders, A) == [7, 8, 9]


def test_flood_is_better_than_nothing(forwarders):
    """Old news of a key that nobody knows is the way to take."""
    assert forwarders.add(A, 7, in_flood=True)
    assert forwarders.preferred(A) == 7


def test_change_outranks_every_flood(forwarders):
    """A change after several floods goes first."""
    forwarders.add(A, 7, in_flood=True)
    forwarders.add(A, 8, in_flood=True)
    assert forwarders.add(A, 9, in_flood=False)
    assert order(forwarders, A) == [9, 7, 8]


@pytest.mark.parametrize("in_flood", [False, True])
@pytest.mark.parametrize("link", [7, 8])
def test_repeat_changes_nothing(forwarders, link, in_flood):
    """A link that says again what it said does not move, up or down."""
    forwarders.add(A, 7, in_flood=False)
    forwarders.add(A, 8, in_flood=False)
    assert not forwarders.add(A, link, in_flood=in_flood)
    assert forwarders.count(A) == 2
    assert order(forwarders, A) == [8, 7]


def test_removing_the_preferred_link_shows_the_next(forwarders):
    """The next newest takes over."""
    for link in (7, 8, 9):
        forwarders.add(A, link, in_flood=False)
    assert forwarders.remove(A, 9)
    assert forwarders.preferred(A) == 8


def test_removing_another_link_moves_nothing(forwarders):
    """The preferred link stays, and the removed one does not come back."""
    forwarders.add(A, 7, in_flood=False)
    forwarders.add(A, 8, in_flood=False)
    assert not forwarders.remove(A, 7)
    assert order(forwarders, A) == [8]


def test_removing_the_last_link_is_a_change(forwarders):
    """A key without links is not known, and leaves nothing behind."""
    forwarders.add(A, 7, in_flood=False)
    assert forwarders.remove(A, 7)
    assert A not in forwarders
    assert not forwarders._links
    assert not forwarders._keys


@pytest.mark.parametrize(("key", "link"), [(A, 8), (B, 7), (B, 8)])
def test_removing_an_unknown_pair_changes_nothing(forwarders, key, link):
    """A link may withdraw what it never announced."""
    forwarders.add(A, 7, in_flood=False)
    assert not forwarders.remove(key, link)
    assert order(forwarders, A) == [7]


def test_returning_link_is_new(forwarders):
    """A link that withdrew a key and announces it again goes first."""
    forwarders.add(A, 7, in_flood=False)
    forwarders.add(A, 8, in_flood=False)
    forwarders.remove(A, 7)
    assert forwarders.add(A, 7, in_flood=False)
    assert order(forwarders, A) == [7, 8]


def test_keys_of_a_link_have_an_order(forwarders):
    """They come sorted, so that two runs of the same events do the same."""
    for key in (C, A, B):
        forwarders.add(key, 7, in_flood=True)
    forwarders.add(A, 8, in_flood=True)
    assert forwarders.keys_of(7) == [A, B, C]


def test_keys_of_a_link_shrink(forwarders):
    """A withdrawn key is not the link's any more, the others are."""
    forwarders.add(A, 7, in_flood=False)
    forwarders.add(B, 7, in_flood=False)
    forwarders.remove(A, 7)
    assert forwarders.keys_of(7) == [B]


def test_unknown_link_has_no_keys(forwarders):
    """A link that announced nothing has nothing to lose."""
    forwarders.add(A, 7, in_flood=False)
    assert forwarders.keys_of(8) == []


def test_keys_count_once_however_many_links(forwarders):
    """Two ways to a key are one key."""
    forwarders.add(A, 7, in_flood=False)
    forwarders.add(A, 8, in_flood=False)
    forwarders.add(B, 8, in_flood=False)
    assert forwarders.keys() == {A, B}
    assert len(forwarders) == 2
