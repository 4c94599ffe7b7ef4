"""JSON documents out of a byte stream, however the network cut it."""

import base64
import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from derpmesh.etcd.documents import (
    BrokenDocument,
    Documents,
    below,
    data,
    decode,
    each,
    integer,
    text,
)


def cut(*chunks: bytes, max_size: int = 1 << 20) -> list[object]:
    """Feed chunks; give the documents."""
    documents = Documents(max_size=max_size)
    found: list[object] = []
    for chunk in chunks:
        documents.feed(chunk)
        found += documents
    return found


FIELDS = st.dictionaries(
    st.text(max_size=5).map(lambda name: f"_{name}"),  # no name that etcd has
    st.recursive(
        st.text(max_size=8) | st.integers() | st.booleans() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.just("_") | st.just('_"{'), inner, max_size=2)
        ),
        max_leaves=5,
    ),
    max_size=3,
)


@given(
    st.lists(FIELDS, max_size=5),
    st.sampled_from([b"", b"\n", b"\r\n\n", b" \t"]),
    st.lists(st.integers(0, 400)),
    st.booleans(),
)
@example([{'_"': '\\"{'}, {"_": "}\\\\"}], b"", [1, 3, 5, 7, 9, 11], False)
def test_chunking_does_not_matter(
    wanted: list[dict], between: bytes, cuts: list[int], ascii_only: bool
):
    """However documents are parted and split, the same ones come out."""
    stream = b"".join(
        between + json.dumps(one, ensure_ascii=ascii_only).encode() for one in wanted
    )
    edges = [0, *sorted(min(one, len(stream)) for one in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert cut(*chunks) == wanted


def test_every_byte_alone():
    """The worst that a network can do."""
    stream = b'{"a":"\\\\\\"}"}{"b":{"c":[{}]}}\n\n{"d":"\xc3\xa9"}'
    pieces = [bytes([byte]) for byte in stream]
    assert cut(*pieces) == [{"a": '\\"}'}, {"b": {"c": [{}]}}, {"d": "é"}]


def test_bytes_and_integers_are_what_they_stand_for():
    """The gateway writes bytes as base64, and 64-bit integers as text."""
    key = base64.b64encode(b"\x00\xff/").decode()
    document = {"kv": {"key": key, "mod_revision": "9223372036854775807"}, "x": "1"}
    assert decode(json.dumps(document).encode()) == {
        "kv": {"key": b"\x00\xff/", "mod_revision": 2**63 - 1},
        "x": "1",
    }


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>",
        b"[]",
        b"null",
        b'"a"',
        b"}",
        b'{"a"}',
        b"{'a':1}",
        b'{"key":"not base64!"}',
        b'{"revision":"1e9"}',
        b'{"revision":"' + b"9" * 5000 + b'"}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_garbage(garbage):
    """It is told from documents, and nothing else is raised."""
    with pytest.raises(BrokenDocument):
        cut(garbage)
    with pytest.raises(BrokenDocument):
        decode(garbage)


def test_documents_before_garbage_come_out():
    """Only what follows is lost."""
    documents = Documents()
    documents.feed(b'{"a":1}oops')
    found = iter(documents)
    assert next(found) == {"a": 1}
    with pytest.raises(BrokenDocument, match="no JSON object: b'oops'"):
        next(found)


def test_size_limit():
    """The limit is itself allowed; without an end, no more is kept."""
    assert cut(b'{"a":12}', max_size=8) == [{"a": 12}]
    with pytest.raises(BrokenDocument, match=r"^9 bytes, limit is 8$"):
        cut(b'{"a":123}', max_size=8)
    with pytest.raises(BrokenDocument, match=r"^9 bytes, limit is 8$"):
        cut(b'{"a":1234', max_size=8)


def test_many_small_documents_in_a_large_chunk():
    """Time grows with the bytes, not with their square."""
    assert len(cut(b'{"a":1}\n' * 50_000)) == 50_000


@pytest.mark.parametrize("value", ["x", 1.5, True, None, [], {}])
def test_integer_that_is_none(value):
    """True is none, either."""
    with pytest.raises(BrokenDocument, match=r"^n is no integer$"):
        integer({"n": value}, "n")


def test_fields_that_are_left_out():
    """Defaults are not written."""
    assert (integer({}, "n"), data({}, "n"), text({}, "n")) == (0, b"", "")
    assert (below({}, "n"), each({}, "n")) == ({}, [])


@pytest.mark.parametrize("read", [data, text, below, each])
def test_field_of_another_type(read):
    """It is told, with its name."""
    with pytest.raises(BrokenDocument, match=r"^n is no "):
        read({"n": 1}, "n")
    with pytest.raises(BrokenDocument, match=r"^n is no object$"):
        each({"n": [1]}, "n")
