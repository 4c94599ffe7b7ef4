"""Texts as people write them, with comments everywhere, as hypothesis draws them."""

import itertools
import json
from collections.abc import Callable

from hypothesis import strategies as st


KEYS = st.sampled_from(
    ["acls", "derpmap", "Regions", "1", '"{', "}//", "/*", "é\n", ""]
)
LEAVES = st.none() | st.booleans() | st.integers(-9, 999) | st.floats(-9, 9) | KEYS
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, TREES, max_size=5)


@st.composite
def written(draw: st.DrawFn, value: object) -> str:
    """Write a value with blanks and comments between, each with its own number."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    comments = draw(st.booleans())
    numbers = itertools.count()

    def space() -> str:
        kinds = ["", "", " ", "\t", newline, f"{newline}  "]
        if comments:
            number = next(numbers)
            kinds += [f"/*c{number};*/", f' // {{c{number}; "x{newline}']
            kinds += [f"/* {newline} c{number}; */{newline}"]
        return "".join(draw(st.lists(st.sampled_from(kinds), max_size=2)))

    def pieces(found: object) -> str:
        if isinstance(found, dict):
            parts = [
                f"{space()}{json.dumps(key)}{space()}:{pieces(item)}{space()}"
                for key, item in found.items()
            ]
            return _enclosed(parts, "{}", draw, space, comments=comments)
        if isinstance(found, list):
            parts = [f"{pieces(item)}{space()}" for item in found]
            return _enclosed(parts, "[]", draw, space, comments=comments)
        return space() + json.dumps(found)

    return f"{pieces(value)}{space()}"


def _enclosed(
    parts: list[str],
    brackets: str,
    draw: st.DrawFn,
    space: Callable[[], str],
    *,
    comments: bool,
) -> str:
    trailing = "," if parts and comments and draw(st.booleans()) else ""
    return f"{brackets[0]}{','.join(parts)}{trailing}{space()}{brackets[1]}"
