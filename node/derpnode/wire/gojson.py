"""Read JSON objects as Go's decoder does, at a bounded cost.

Peers decide what we parse before we know who they are, so that depth and
numbers are limited first. Source: Go ``encoding/json``, ``Unmarshal``.
"""

import json
import math
import re
from itertools import accumulate

from derpnode.wire.errors import BadPayload


MAX_NESTING = 256
"""Brackets open at once.

Unlike derper, which goes to 10,000: Python's parser recurses, and a stack of
that depth is not ours to spend. No known client nests at all.
"""

MAX_BRACKETS = 1 << 13
"""Brackets in all.

Unlike derper, which has no such limit: a quarter of a mebibyte of empty lists would
cost as much as a thousand logins. No known client sends more than one pair.
"""

_MAX_DIGITS = 20  # a signed 64-bit integer and its sign
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(set(range(256)) - set(_STEP))
# The closing quote is optional so that the match never backtracks.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def parse_object(body: bytes) -> tuple[tuple[str, object], ...]:
    """Give the members of a JSON object, in order, repeated names included.

    The literal ``null`` is an object without members, and a byte that is not
    UTF-8 reads as U+FFFD: Go takes both. An object inside is a tuple of its
    members too, an array is a list, and an integer beyond 64 bits is a float.

    Raises:
        BadPayload: Not one JSON object, or beyond `MAX_NESTING` or `MAX_BRACKETS`.
    """
    _check_brackets(body)
    try:
        document: object = json.loads(
            body.decode("utf-8", "replace"),
            object_pairs_hook=tuple,
            parse_int=_integer,
            parse_constant=_refuse,
        )
    except ValueError as exc:
        raise BadPayload("JSON", "cannot be parsed") from exc
    if document is None:
        return ()
    if not isinstance(document, tuple):
        raise BadPayload("JSON", "not an object")
    return document


def _check_brackets(body: bytes) -> None:
    """Count brackets, in all and open at once; those in strings are text."""
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:
        return  # the usual case, at the speed of memchr
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if len(brackets) > MAX_BRACKETS:
        raise BadPayload("JSON", f"more than {MAX_BRACKETS} brackets")
    if max(accumulate(_STEP[bracket] for bracket in brackets), default=0) > MAX_NESTING:
        raise BadPayload("JSON", f"nested deeper than {MAX_NESTING}")


def _integer(digits: str) -> int | float:
    """Convert what fits 64 bits; Python's time for more is quadratic."""
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _refuse(constant: str) -> float:
    """Refuse ``NaN`` and ``Infinity``, which are Python's, not JSON's."""
    raise ValueError(constant)
