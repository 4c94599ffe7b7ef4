"""Older answers are known for what they are."""

import pytest

from derpmesh.etcd.answers import Header
from derpmesh.etcd.errors import StaleAnswer
from derpmesh.etcd.seen import Seen


AT = "http://a:2379"
KNOWN = Seen(cluster_id=7, raft_term=3, revision=20)


@pytest.mark.parametrize(
    "header", [Header(7, 3, 20), Header(7, 4, 20), Header(7, 3, 21)]
)
def test_as_new_or_newer(header):
    """It is taken, and known from then on."""
    KNOWN.check(AT, header)
    assert KNOWN.after(header) == Seen(
        header.cluster_id, header.raft_term, header.revision
    )


@pytest.mark.parametrize(
    ("header", "what", "known", "found"),
    [
        (Header(8, 3, 20), "cluster_id", 7, 8),
        (Header(7, 2, 30), "raft_term", 3, 2),
        (Header(7, 3, 19), "revision", 20, 19),
    ],
)
def test_older(header, what, known, found):
    """It says in what."""
    with pytest.raises(StaleAnswer) as caught:
        KNOWN.check(AT, header)
    assert (caught.value.what, caught.value.known, caught.value.found) == (
        what,
        known,
        found,
    )


def test_nothing_is_known_at_first():
    """Any cluster will do."""
    Seen().check(AT, Header(7, 1, 1))


def test_watch_tells_revisions_and_no_terms():
    """A member that is cut off counts terms of its own."""
    assert KNOWN.after_revision(Header(7, 99, 25)) == Seen(7, 3, 25)


def test_answers_cross():
    """Two requests left together; the older answer came last, and is good."""
    before = KNOWN
    now = before.after(Header(7, 3, 22))
    before.check(AT, Header(7, 3, 21))
    assert now.after(Header(7, 3, 21)) == Seen(7, 3, 22)
