"""Reads JSON as people write it, with comments and trailing commas, and keeps places.

Source: github.com/tailscale/hujson, the format of Tailscale's policy files. Plain JSON
is a part of it.
"""

import bisect
import json
import re
from dataclasses import dataclass
from typing import NoReturn

from derpctl.map.errors import BadMap
from derpctl.map.spot import Spot


_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}
_MOST_DEEP = 100
_MOST_DIGITS = 400  # Python refuses to make an integer of some thousands


@dataclass(frozen=True, slots=True)
class Located:
    """A value, and where all that is in it stands."""

    value: object
    lines: dict[str, int]
    """`regions.900.nodes[0].derpport` to its line, from 1. In lower case, as Go and
    headscale differ in theirs."""
    spot: Spot | None = None
    """Places, as a tree; None where none can be told."""


def parse_hujson(text: str) -> Located:
    """Read one value.

    Raises:
        BadMap: It is none; the path is the place, `line 3`.
    """
    parser = _Parser(text)
    spot = parser.value("", 0)
    parser.space()
    if parser.at < len(text):
        parser.expected("nothing more")
    return Located(spot.value, parser.lines, spot)


def skip_space(text: str, at: int) -> int:
    """Go from one place of a text to the next that is neither blank nor comment."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[str, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def value(self, path: str, depth: int) -> Spot:
        """Read the value at which the text stands, and note its line."""
        self.space()
        if depth > _MOST_DEEP:
            self.expected(f"at most {_MOST_DEEP} levels")
        self.lines[path.lower()] = self._line()
        start = self.at
        match self.text[start : start + 1]:
            case "{":
                return self._object(path, depth)
            case "[":
                return self._list(path, depth)
            case '"':
                return Spot(self._string(), start, self.at)
            case _:
                return Spot(self._scalar(), start, self.at)

    def space(self) -> None:
        """Go to what is neither blank nor comment."""
        self.at = skip_space(self.text, self.at)

    def expected(self, wanted: str) -> NoReturn:
        """Say that something else was expected here.

        Raises:
            BadMap: Always.
        """
        found = self.text[self.at : self.at + 20].split("\n")[0] or "the end"
        where, reason = f"line {self._line()}", f"expected {wanted}"
        raise BadMap(where, found, reason)

    def _line(self) -> int:
        return bisect.bisect_left(self._breaks, self.at) + 1

    def _object(self, path: str, depth: int) -> Spot:
        start = self.at
        members: list[tuple[str, Spot]] = []
        self.at += 1
        while not self._ends("}"):
            if self.text[self.at : self.at + 1] != '"':
                self.expected("a key in quotes, or }")
            at = self.at
            key = self._string()
            place = at, self.at
            self.space()
            if self.text[self.at : self.at + 1] != ":":
                self.expected(f"a colon after {key!r:.40}")
            self.at += 1
            spot = self.value(f"{path}.{key}".lstrip("."), depth + 1)
            spot.key = place
            members.append((key, spot))
            self._comma("}")
        value = {key: spot.value for key, spot in members}
        return Spot(value, start, self.at, members=members)

    def _list(self, path: str, depth: int) -> Spot:
        start = self.at
        items: list[Spot] = []
        self.at += 1
        while not self._ends("]"):
            items.append(self.value(f"{path}[{len(items)}]", depth + 1))
            self._comma("]")
        return Spot([spot.value for spot in items], start, self.at, items=items)

    def _ends(self, bracket: str) -> bool:
        self.space()
        if self.text[self.at : self.at + 1] != bracket:
            return False
        self.at += 1
        return True

    def _comma(self, bracket: str) -> None:
        self.space()
        following = self.text[self.at : self.at + 1]
        if following == ",":
            self.at += 1
        elif following != bracket:
            self.expected(f"a comma, or {bracket}")

    def _string(self) -> str:
        match = _STRING.match(self.text, self.at)
        if match is None:
            self.expected("a text that ends in a quote")
        try:
            found: str = json.loads(match[0])
        except ValueError:
            self.expected("a text that JSON knows")
        self.at = match.end()
        # Go, too, takes half a surrogate pair for U+FFFD; no terminal would show it.
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _scalar(self) -> object:
        for word, value in _WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return value
        match = _NUMBER.match(self.text, self.at)
        if match is None or len(match[0]) > _MOST_DIGITS:
            self.expected("a value")
        self.at = match.end()
        found: object = json.loads(match[0])
        return found
