"""Reads JSON as people write it, with comments and trailing commas, and keeps lines.

Source: github.com/tailscale/hujson, the format of Tailscale's policy files. Plain JSON
is a part of it.
"""

import bisect
import json
import re
from dataclasses import dataclass
from typing import NoReturn

from derpctl.map.errors import BadMap


_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}
_MOST_DEEP = 100
_MOST_DIGITS = 400  # Python refuses to make an integer of some thousands


@dataclass(frozen=True, slots=True)
class Located:
    """A value, the lines of all that is in it, by path."""

    value: object
    lines: dict[str, int]
    """`regions.900.nodes[0].derpport` to its line, from 1. In lower case, as Go and
    headscale differ in theirs."""


def parse_hujson(text: str) -> Located:
    """Read one value.

    Raises:
        BadMap: It is none; the path is the place, `line 3`.
    """
    parser = _Parser(text)
    value = parser.value("", 0)
    parser.space()
    if parser.at < len(text):
        parser.expected("nothing more")
    return Located(value, parser.lines)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[str, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def value(self, path: str, depth: int) -> object:
        """Read the value at which the text stands, and note its line."""
        self.space()
        if depth > _MOST_DEEP:
            self.expected(f"at most {_MOST_DEEP} levels")
        self.lines[path.lower()] = self._line()
        match self.text[self.at : self.at + 1]:
            case "{":
                return self._object(path, depth)
            case "[":
                return self._list(path, depth)
            case '"':
                return self._string()
            case _:
                return self._scalar()

    def space(self) -> None:
        """Go to what is neither blank nor comment."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

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

    def _object(self, path: str, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        self.at += 1
        while not self._ends("}"):
            if self.text[self.at : self.at + 1] != '"':
                self.expected("a key in quotes, or }")
            key = self._string()
            self.space()
            if self.text[self.at : self.at + 1] != ":":
                self.expected(f"a colon after {key!r:.40}")
            self.at += 1
            found[key] = self.value(f"{path}.{key}".lstrip("."), depth + 1)
            self._comma("}")
        return found

    def _list(self, path: str, depth: int) -> list[object]:
        found: list[object] = []
        self.at += 1
        while not self._ends("]"):
            found.append(self.value(f"{path}[{len(found)}]", depth + 1))
            self._comma("]")
        return found

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
