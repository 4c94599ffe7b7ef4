"""JSON as people write it: what is read, where it stands, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map.errors import BadMap
from derpctl.map.hujson import parse_hujson


TEXT = """\
// before
{
  /* two
     lines */
  "A": [1, -2.5e1, true, null,], // behind
  "b": {"C": "\\u00e9",},
}
"""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_comments_and_commas(ending):
    """Both are skipped, and each value has its line, whatever ends the lines."""
    found = parse_hujson(TEXT.replace("\n", ending))
    assert found.value == {"A": [1, -25.0, True, None], "b": {"C": "é"}}
    assert found.lines["a"] == 5
    assert found.lines["a[3]"] == 5
    assert found.lines["b.c"] == 6


@given(JSON)
def test_json_is_hujson(value: object):
    """What the standard library writes is read as it was."""
    assert parse_hujson(json.dumps(value, indent=1)).value == value


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "expected a value"),
        ("{}\n{}", 2, "expected nothing more"),
        ("{\nA: 1}", 2, "expected a key in quotes, or }"),
        ('{"A"\n1}', 2, "expected a colon after 'A'"),
        ('{"A": 1\n"B": 2}', 2, "expected a comma, or }"),
        ("[1\n2]", 2, "expected a comma, or ]"),
        ('["a\nb"]', 1, "expected a text that ends in a quote"),
        ('["\\x"]', 1, "expected a text that JSON knows"),
        ("[,]", 1, "expected a value"),
        ("9" * 401, 1, "expected a value"),
        ("/* no end", 1, "expected a value"),
        ("[" * 5_000, 1, "expected at most 100 levels"),
    ],
)
def test_what_is_none(text, line, reason):
    """Refused, with the line."""
    with pytest.raises(BadMap) as found:
        parse_hujson(text)
    assert (found.value.path, found.value.reason) == (f"line {line}", reason)
