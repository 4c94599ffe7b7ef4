"""JSON: what Go takes we take, and no input costs more than its size."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire.errors import BadPayload
from derpnode.wire.gojson import MAX_BRACKETS, MAX_NESTING, parse_object


def nested(depth: int, *, width: int = 1) -> bytes:
    """An object with lists in it, ``depth`` brackets open at once in all."""
    lists = b"[" * (depth - 1) + b"]" * (depth - 1)
    return b'{"x":[' + b",".join([lists[1:-1]] * width) + b"]}"


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b"{}", ()),
        (b"null", ()),
        (b" \t\r\n{ } ", ()),
        (b'{"a":1,"a":2}', (("a", 1), ("a", 2))),
        (b'{"a":{"b":null}}', (("a", (("b", None),)),)),
        (b'{"a":[true,1.5,"x"]}', (("a", [True, 1.5, "x"]),)),
        (b'{"\\u0061":"\\/"}', (("a", "/"),)),
        (b'{"a":"\xff"}', (("a", "\N{REPLACEMENT CHARACTER}"),)),
        (b'{"a":-0}', (("a", 0),)),
    ],
)
def test_accepted(body, members):
    """Members come in order, repeated ones too, and null is an empty object."""
    assert parse_object(body) == members


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}x",
        b"{}{}",
        b"{a:1}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":"\n"}',
        b'{"a":"\\x"}',
        b"\xef\xbb\xbf{}",
        b"{}\x00",
    ],
)
def test_not_json(body):
    """What Go's scanner refuses is refused, Python's own additions included."""
    with pytest.raises(BadPayload, match=r"^JSON: cannot be parsed$"):
        parse_object(body)


@pytest.mark.parametrize("body", [b"[]", b"true", b"1", b'"x"', b'[["version",2]]'])
def test_not_an_object(body):
    """Other values are well-formed, but say nothing."""
    with pytest.raises(BadPayload, match=r"^JSON: not an object$"):
        parse_object(body)


def test_nesting_limit():
    """The limit is on brackets open at once, and is itself allowed."""
    assert parse_object(nested(MAX_NESTING))
    with pytest.raises(BadPayload, match=r"^JSON: nested deeper than 256$"):
        parse_object(nested(MAX_NESTING + 1))


def test_many_brackets_are_not_deep():
    """Brackets side by side, or inside strings, do not nest."""
    assert parse_object(nested(3, width=1000))
    assert parse_object(b'{"x":"' + b'[\\"' * 1000 + b'"}')


def test_many_brackets_are_too_many():
    """Well-formed, but dear: as many as fit one frame would take 50 ms."""
    lists = b'{"x":[' + b"[]," * (MAX_BRACKETS // 2)
    with pytest.raises(BadPayload, match=r"^JSON: more than 8192 brackets$"):
        parse_object(lists + b"1]}")
    assert parse_object(lists[: -3 * 2] + b"1]}")


def test_brackets_after_a_broken_string_still_count():
    """A quote hides brackets from the count only where it hides them from JSON."""
    with pytest.raises(BadPayload, match="nested"):
        parse_object(b'{"x":"\\"",' + b"[" * MAX_NESTING)
    with pytest.raises(BadPayload, match="parsed"):
        parse_object(b'{"x":"' + b"[" * 100_000)


@pytest.mark.parametrize("bomb", [b"[" * 262_000, b'{"a":' * 52_000, b'["' * 131_000])
def test_nesting_bomb(bomb):
    """A body of nothing but brackets is refused without recursion."""
    with pytest.raises(BadPayload):
        parse_object(bomb)


def test_integers_keep_64_bits():
    """Integers are exact as far as Go's are; beyond, they are floats."""
    low, high = -(2**63), 2**63 - 1
    assert parse_object(b'{"a":%d,"b":%d}' % (low, high)) == (("a", low), ("b", high))
    ((_, huge),) = parse_object(b'{"a":' + b"9" * 200_000 + b"}")
    assert isinstance(huge, float)


@given(st.binary(max_size=100) | st.text('[]{}":,\\truefalsn0 ').map(str.encode))
def test_arbitrary_bytes(body):
    """Whatever comes, it is an object or BadPayload."""
    with suppress(BadPayload):
        assert isinstance(parse_object(body), tuple)
