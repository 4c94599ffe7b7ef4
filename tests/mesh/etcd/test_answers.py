"""Answers as values; what makes no sense is told."""

import pytest

from derpmesh.etcd.answers import Delete, Header, Item, Put, header, items, watch_news
from derpmesh.etcd.documents import BrokenDocument, decode


# What etcd 3.4.23 answered.
RANGE = (
    b'{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437"'
    b',"revision":"12","raft_term":"2"},"kvs":[{"key":"L2EvMQ==","create_revision":"9",'
    b'"mod_revision":"11","version":"2","value":"AP8=","lease":"7587862094873318662"}],'
    b'"count":"1"}'
)
WATCH = (
    b'{"result":{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743'
    b'932975437","revision":"13","raft_term":"2"},"events":[{"kv":{"key":"L2EvMQ==",'
    b'"create_revision":"9","mod_revision":"12","version":"3","value":"eA=="}},'
    b'{"type":"DELETE","kv":{"key":"L2EvMQ==","mod_revision":"13"}}]}}'
)


def test_range():
    """Integers come as text, bytes as base64."""
    found = decode(RANGE)
    assert header(found) == Header(14841639068965178418, 2, 12)
    assert items(found) == (
        Item(b"/a/1", b"\x00\xff", 9, 11, 2, lease=7587862094873318662),
    )


def test_watch():
    """A put has no type, for it is the default."""
    news = watch_news(decode(WATCH))
    assert news.events == (
        Put(b"/a/1", b"x", mod_revision=12, create_revision=9, lease=0),
        Delete(b"/a/1", 13),
    )
    assert (news.created, news.canceled, news.compact_revision) == (False, False, 0)


def test_values_are_not_shown():
    """They may be secret, and long."""
    shown = repr(items(decode(RANGE))) + repr(watch_news(decode(WATCH)))
    assert "value" not in shown


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"header": {}},
        {"header": []},
        {"header": {"cluster_id": "x"}},
    ],
)
def test_answer_without_a_header(document):
    """Nothing else that it says counts."""
    with pytest.raises(BrokenDocument):
        header(document)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"kv": {"key": b"a"}},
        {"kv": {"key": "a", "mod_revision": 1}},
        {"kv": {"key": b"a", "mod_revision": 1}, "type": "MOVE"},
        {"kv": 1},
        1,
    ],
)
def test_event_that_is_none(event):
    """It is not passed over: what it stood for would be missed."""
    head = {"cluster_id": 7, "revision": 1, "raft_term": 1}
    with pytest.raises(BrokenDocument):
        watch_news({"result": {"header": head, "events": [event]}})
