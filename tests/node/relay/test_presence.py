"""Presence: what each watcher is owed, and when it is sent."""

import pytest

from derpnode.relay import presence as presence_module
from derpnode.relay.presence import Presence
from derpnode.wire.payloads import Present
from tests.node.relay.recorder import Gone, news
from tests.node.relay.scene import A, B, C
from tests.node.relay.scene import M as D


W, X = 90, 91  # watchers


@pytest.fixture
def presence():
    return Presence()


@pytest.fixture
def pieces_of_two(monkeypatch):
    """At most two records are sent at once."""
    monkeypatch.setattr(presence_module, "PIECE", 2)


@pytest.fixture
def lagging(presence):
    """A presence with one watcher, which knows of A, and has not read that yet."""
    presence.watch(W, [Present(A)])
    list(presence.ready())
    return presence


def ready(presence: Presence) -> dict[int, list[Present | Gone]]:
    """Take what can be sent now, by watcher."""
    return {connection: news(frames) for connection, frames in presence.ready()}


def test_nobody_watches(presence):
    """Changes cost nothing."""
    presence.came(Present(A), first=True)
    assert presence.went(A) == 0
    assert ready(presence) == {}


def test_watcher_is_owed_everybody(presence):
    """In the order in which they were given."""
    presence.watch(W, map(Present, [B, A, C]))
    assert ready(presence) == {W: [Present(B), Present(A), Present(C)]}


def test_changes_come_in_order(lagging):
    """Each after those before it."""
    lagging.came(Present(B), first=True)
    lagging.went(A)
    lagging.came(Present(C), first=True)
    lagging.drained(W)
    assert ready(lagging) == {W: [Present(B), Gone(A), Present(C)]}


def test_what_was_taken_is_not_owed_again(lagging):
    """A change is sent once."""
    lagging.came(Present(B), first=True)
    lagging.drained(W)
    ready(lagging)
    lagging.drained(W)
    assert ready(lagging) == {}


def test_busy_watcher_waits(lagging):
    """Until what was sent has left."""
    lagging.came(Present(B), first=True)
    assert ready(lagging) == {}
    lagging.drained(W)
    assert ready(lagging) == {W: [Present(B)]}


def test_watchers_do_not_wait_for_each_other(lagging):
    """One that reads is served while another lags."""
    lagging.watch(X, [])
    lagging.came(Present(B), first=True)
    assert ready(lagging) == {X: [Present(B)]}


def test_last_state_of_a_key_is_enough(lagging):
    """It takes the place in the order that its last change has."""
    lagging.went(A)
    lagging.came(Present(B), first=True)
    lagging.came(Present(A, port=1), first=True)
    lagging.came(Present(A, port=2), first=False)
    lagging.drained(W)
    assert ready(lagging) == {W: [Present(B), Gone(A), Present(A, port=2)]}


def test_key_that_left_and_came_is_told_to_have_done_so(lagging):
    """Regression: it may have been at another node meanwhile, and be back.

    To a watcher that has heard that, a coming without a going is no news.
    """
    for port in (1, 2):
        lagging.went(A)
        lagging.came(Present(A, port=port), first=True)
    lagging.drained(W)
    assert ready(lagging) == {W: [Gone(A), Present(A, port=2)]}
    lagging.drained(W)
    assert ready(lagging) == {}


def test_known_key_that_flapped_and_left_is_told(lagging):
    """The watcher believes that it is here, however often it came meanwhile."""
    lagging.went(A)
    lagging.came(Present(A), first=True)
    assert lagging.went(A) == 1
    lagging.drained(W)
    assert ready(lagging) == {W: [Gone(A)]}


def test_key_that_came_and_went_unheard_is_not_told(lagging):
    """The watcher never knew of it, with one connection or two."""
    lagging.came(Present(B), first=True)
    lagging.came(Present(B), first=False)
    assert lagging.went(B) == 0
    lagging.drained(W)
    assert ready(lagging) == {}


def test_second_connection_of_a_known_key_is_no_reason_to_forget_it(lagging):
    """What is owed then is news of a key that the watcher knows already."""
    lagging.came(Present(A, port=2), first=False)
    assert lagging.went(A) == 1
    lagging.drained(W)
    assert ready(lagging) == {W: [Gone(A)]}


def test_key_told_in_an_earlier_batch_is_known(lagging):
    """Once it is sent, its departure is owed."""
    lagging.came(Present(B), first=True)
    lagging.drained(W)
    ready(lagging)
    assert lagging.went(B) == 1
    lagging.drained(W)
    assert ready(lagging) == {W: [Gone(B)]}


def test_watching_again_floods_again(lagging):
    """Also what it was told before; what is owed comes with it, once."""
    lagging.came(Present(B), first=True)
    lagging.watch(W, [Present(A), Present(B)])
    assert len(lagging) == 1
    lagging.drained(W)
    assert ready(lagging) == {W: [Present(A), Present(B)]}


def test_watching_again_does_not_make_known_keys_unheard(lagging):
    """A key that leaves before the second flood is sent is still told."""
    lagging.watch(W, [Present(A)])
    assert lagging.went(A) == 1
    lagging.drained(W)
    assert ready(lagging) == {W: [Gone(A)]}


def test_watching_again_while_busy_waits(lagging):
    """Asking often does not make the batches overlap."""
    lagging.watch(W, [Present(A)])
    assert ready(lagging) == {}


def test_key_of_the_flood_that_left_before_it_was_sent_is_not_told(presence):
    """The flood says who is here when it goes."""
    presence.watch(W, [Present(A), Present(B)])
    assert presence.went(A) == 0
    assert ready(presence) == {W: [Present(B)]}


def test_flood_goes_in_pieces(presence, pieces_of_two):
    """The next one when the one before has left, so that a plane holds one."""
    presence.watch(W, map(Present, [A, B, C]))
    assert ready(presence) == {W: [Present(A), Present(B)]}
    assert ready(presence) == {}
    presence.drained(W)
    assert ready(presence) == {W: [Present(C)]}
    assert (presence.batches, presence.records) == (2, 3)


def test_changes_go_behind_the_rest_of_the_flood(presence, pieces_of_two):
    """What was sent and changed is told; what was not sent yet is told as it is."""
    presence.watch(W, map(Present, [A, B, C, D]))
    ready(presence)
    assert (presence.went(A), presence.went(C)) == (1, 0)
    presence.came(Present(D, port=2), first=False)
    presence.drained(W)
    assert ready(presence) == {W: [Gone(A), Present(D, port=2)]}


def test_unwatched_is_owed_nothing(lagging):
    """And may be told twice."""
    lagging.unwatch(W)
    lagging.unwatch(W)
    lagging.drained(W)
    assert lagging.went(A) == 0
    assert ready(lagging) == {}
    assert W not in lagging


def test_gone_is_counted_by_watchers_that_are_owed_it(lagging):
    """Those who never heard of the key are not."""
    lagging.came(Present(B), first=True)
    lagging.watch(X, [Present(B)])
    ready(lagging)
    assert lagging.went(B) == 1


def test_watchers_are_counted(lagging):
    """And found."""
    lagging.watch(X, [])
    assert len(lagging) == 2
    assert X in lagging


def test_batches_and_records_are_counted(lagging):
    """As they are sent, to each watcher."""
    lagging.watch(X, map(Present, [A, B]))
    lagging.went(C)
    lagging.drained(W)
    ready(lagging)
    assert (lagging.batches, lagging.records) == (3, 5)
