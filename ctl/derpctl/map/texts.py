"""Changes that a map needs, made in the language that its file is written in. Pure.

A change that cannot be made without a guess at the layout is None, and is not made.
"""

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import yaml

from derpctl.map import edit
from derpctl.map.edit import Edit
from derpctl.map.spot import Spot


Edits = list[Edit] | None


@dataclass(frozen=True, slots=True)
class MapText(ABC):
    """A text with a map in it."""

    text: str

    @abstractmethod
    def set(self, spot: Spot, value: int | str) -> Edits:
        """Put another value in the place of a text, a number, or null."""

    @abstractmethod
    def add(self, spot: Spot, beside: Spot | None, name: str, value: int) -> Edits:
        """Put a member into an object, next to another one; with None as the first."""

    @abstractmethod
    def rename(self, spot: Spot, name: str) -> Edits:
        """Give a member another key."""


class JsonText(MapText):
    """JSON, or HuJSON."""

    def set(self, spot: Spot, value: int | str) -> Edits:
        """Write it as JSON."""
        return [edit.replace(self.text, spot, json.dumps(value))]

    def add(self, spot: Spot, beside: Spot | None, name: str, value: int) -> Edits:
        """Lay it out as its neighbours."""
        member = f"{json.dumps(name)}: {value}"
        if beside is None:
            return [edit.insert_first(self.text, spot, member)]
        return edit.insert_after(self.text, spot, beside, member)

    def rename(self, spot: Spot, name: str) -> Edits:
        """Go reads a key in any case."""
        del spot, name
        return None


class YamlText(MapText):
    """YAML, without anchors: what is there once means one thing."""

    def set(self, spot: Spot, value: int | str) -> Edits:
        """Keep its quotes; one without any gets them only if it needs them."""
        if spot.start == spot.end:
            if self.text[spot.start - 1 : spot.start] != ":":
                return None
            return [Edit(spot.start, spot.end, f" {value}")]
        if not self._is_simple(spot):
            return None
        mark = self.text[spot.start]
        quote = mark if mark in _QUOTES else _quote(value)
        return [Edit(spot.start, spot.end, f"{quote}{value}{quote}")]

    def add(self, spot: Spot, beside: Spot | None, name: str, value: int) -> Edits:
        """Write a line, or between braces."""
        key = name.lower()
        if self.text[spot.start : spot.start + 1] == "{":
            return self._add_flow(spot, beside, key, value)
        place = beside or (spot.members[0][1] if spot.members else None)
        if place is None or place.key is None:
            return None
        line = self.text.rfind("\n", 0, place.key[0]) + 1
        before = self.text[line : place.key[0]]
        if not _INDENT.fullmatch(before):
            return None
        member, indent = f"{key}: {value}", " " * len(before)
        if beside is None:
            at, end = place.key[0], self._newline()
            return [Edit(at, at, f"{member}{end}{indent}")]
        return self._add_line(beside, indent + member)

    def rename(self, spot: Spot, name: str) -> Edits:
        """Keep quotes: a key of JSON needs them."""
        if spot.key is None:
            return None
        start, end = spot.key
        quote = self.text[start] if self.text[start] in _QUOTES else ""
        if self.text[start:end].strip(quote or " ").lower() != name:
            return None
        return [Edit(start, end, f"{quote}{name}{quote}")]

    def _add_flow(self, spot: Spot, beside: Spot | None, key: str, value: int) -> Edits:
        if not spot.members:
            return [Edit(spot.start + 1, spot.start + 1, f"{key}: {value}")]
        place = (beside or spot.members[0][1]).key
        if place is None:
            return None
        mark = self.text[place[0]]
        quote = mark if mark in _QUOTES else ""
        member = f"{quote}{key}{quote}: {value}"
        if beside is None:
            if self.text[spot.start + 1 : place[0]].strip():
                return None
            return [Edit(place[0], place[0], f"{member}, ")]
        if not self._is_simple(beside):
            return None
        return [Edit(beside.end, beside.end, f", {member}")]

    def _add_line(self, beside: Spot, line: str) -> Edits:
        """Put a line behind that of a member, and behind the comment in it."""
        rest = _REST_OF_LINE.match(self.text, beside.end)
        if rest is None or not self._is_simple(beside):
            return None
        if rest[0].endswith("\n"):
            return [Edit(rest.end(), rest.end(), f"{line}{self._newline()}")]
        return [Edit(rest.end(), rest.end(), f"{self._newline()}{line}")]

    def _is_simple(self, spot: Spot) -> bool:
        """Tell whether a scalar is no block, and has neither tag nor anchor."""
        written = self.text[spot.start : spot.end]
        return bool(written) and written[0] not in _DECORATED and "\n" not in written

    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"


_QUOTES = ("'", '"')
_DECORATED = "|>&!*{["
_INDENT = re.compile(r"[ -]*")
_REST_OF_LINE = re.compile(r"[ \t]*(?:[ \t]#[^\r\n\x85\u2028\u2029]*)?(?:\r?\n|\Z)")
"""YAML has more line ends than others; a comment with one of them is let be."""


def _quote(value: int | str) -> str:
    """Give the quotes that a value needs so as not to be read as something else."""
    try:
        found: object = yaml.safe_load(f"[{value}]")
    except (yaml.YAMLError, ValueError):
        return '"'
    return "" if found == [value] else '"'
