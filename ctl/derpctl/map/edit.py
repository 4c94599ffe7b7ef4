"""Changes a text of JSON or HuJSON in places, and not one byte beside them. Pure.

What is put in is laid out as the text around it: its line ending, its indentation, a
comma at the end where the text has one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from derpctl.map.hujson import skip_space
from derpctl.map.spot import Spot


_REST_OF_LINE = re.compile(r"[ \t]*(?:/\*[^\n]*?\*/[ \t]*)*(?://[^\n]*|\r)?\n")
_BLANKS = re.compile(r"[ \t]*")
_TAB = "\t"


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of text in place of what is between two offsets."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Make the changes; of two at one place the first given comes first.

    Raises:
        ValueError: Two of them change the same characters.
    """
    pieces: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        if edit.start < at:
            message = f"two changes of what is at {edit.start}"
            raise ValueError(message)
        pieces += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*pieces, text[at:]])


def replace(text: str, spot: Spot, lines: str) -> Edit:
    """Put another value in the place of one.

    Args:
        text: All of the text.
        spot: The value.
        lines: The new one; its lines end in a line feed, but for the last, and begin
            with a tab for each level that they are deeper than the first.
    """
    at = spot.start if spot.key is None else spot.key[0]
    return Edit(spot.start, spot.end, _laid_out(text, lines, _indent_at(text, at)))


def insert(text: str, spot: Spot, member: str) -> list[Edit]:
    """Put a member into an object, behind all others and what is said of them.

    Args:
        text: All of the text.
        spot: The object.
        member: Key, colon and value, in lines as for `replace`, without a comma.
    """
    if not spot.members:
        return [_first(text, spot, member)]
    last = spot.members[-1][1]
    close = spot.end - 1
    comma = _comma_after(text, last)
    line = _line_of(text, close)
    inner = _indent_of_members(text, spot)
    if not text[line:close].strip(" \t"):
        body = inner + _laid_out(text, member, inner)
        end = "" if comma is None else ","
        added = Edit(line, line, f"{body}{end}{_newline(text)}")
    elif "\n" in member:
        gap, outer = _newline(text), _indent_at(text, spot.start)
        body = f"{gap}{inner}{_laid_out(text, member, inner)}"
        tail = gap + outer if comma is None else f",{gap}{outer}"
        added = Edit(close, close, body + tail)
    elif comma is not None:
        return [Edit(comma + 1, comma + 1, f" {member},")]
    else:
        return [Edit(last.end, last.end, f", {member}")]
    return [added] if comma is not None else [Edit(last.end, last.end, ","), added]


def insert_after(text: str, spot: Spot, before: Spot, member: str) -> list[Edit]:
    """Put a member of one line into an object, next to another one.

    Args:
        text: All of the text.
        spot: The object.
        before: One of its members; what is said of it in its line stays with it.
        member: Key, colon and value, without a comma.
    """
    comma = _comma_after(text, before)
    after = before.end if comma is None else comma + 1
    rest = _REST_OF_LINE.match(text, after)
    if rest and before.key is not None and _begins_line(text, before.key[0]):
        indent = _indent_at(text, before.key[0])
        end = "" if comma is None else ","
        line = Edit(rest.end(), rest.end(), f"{indent}{member}{end}{_newline(text)}")
        return [line] if comma is not None else [Edit(after, after, ","), line]
    if comma is None:
        return insert(text, spot, member)
    return [Edit(after, after, f" {member},")]


def insert_first(text: str, spot: Spot, member: str) -> Edit:
    """Put a member of one line into an object, in front of all others."""
    if not spot.members:
        return _first(text, spot, member)
    key = spot.members[0][1].key
    at = key[0] if key is not None else spot.start + 1
    if not _begins_line(text, at):
        return Edit(at, at, f"{member}, ")
    return Edit(at, at, f"{member},{_newline(text)}{_indent_at(text, at)}")


def remove(text: str, spot: Spot, member: Spot) -> list[Edit]:
    """Take a member out of an object, and its lines, if nothing else is in them.

    Args:
        text: All of the text.
        spot: The object.
        member: One of its members; what is said of it in lines of its own stays.
    """
    comma = _comma_after(text, member)
    start = member.start if member.key is None else member.key[0]
    if comma is None:
        return _remove_last(text, spot, start, member.end)
    rest = _REST_OF_LINE.match(text, comma + 1)
    if rest and _begins_line(text, start):
        return [Edit(_line_of(text, start), rest.end(), "")]
    return [Edit(start, _after_blanks(text, comma + 1), "")]


def _remove_last(text: str, spot: Spot, start: int, end: int) -> list[Edit]:
    """Take the last member out, and the comma before it: plain JSON has none there."""
    rest = _REST_OF_LINE.match(text, end)
    if rest and _begins_line(text, start):
        start, end = _line_of(text, start), rest.end()
    if len(spot.members) == 1:
        return [Edit(start, end, "")]
    before = skip_space(text, spot.members[-2][1].end)
    if _after_blanks(text, before + 1) == start:
        return [Edit(before, end, "")]
    return [Edit(before, before + 1, ""), Edit(start, end, "")]


def _first(text: str, spot: Spot, member: str) -> Edit:
    """Put the only member into an object that has none, behind its comments."""
    close = spot.end - 1
    inner = _indent_of_members(text, spot)
    body = _laid_out(text, member, inner)
    line = _line_of(text, close)
    gap, outer = _newline(text), _indent_at(text, spot.start)
    if line > spot.start and not text[line:close].strip(" \t"):
        return Edit(line, line, f"{inner}{body}{gap}")
    if "\n" in member:
        return Edit(close, close, f"{gap}{inner}{body}{gap}{outer}")
    return Edit(close, close, body)


def _comma_after(text: str, spot: Spot) -> int | None:
    """Find the comma behind a value."""
    at = skip_space(text, spot.end)
    return at if text[at : at + 1] == "," else None


def _newline(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _line_of(text: str, at: int) -> int:
    """Find where the line begins that an offset is in."""
    return text.rfind("\n", 0, at) + 1


def _begins_line(text: str, at: int) -> bool:
    return not text[_line_of(text, at) : at].strip(" \t")


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _indent_at(text: str, at: int) -> str:
    """Give the indentation of the line that an offset is in."""
    line = _line_of(text, at)
    return text[line : _after_blanks(text, line)]


def _indent_of_members(text: str, spot: Spot) -> str:
    """Give the indentation of members: that of the last one which has a line."""
    for _, member in reversed(spot.members):
        if member.key is not None and _begins_line(text, member.key[0]):
            return _indent_at(text, member.key[0])
    return _indent_at(text, spot.start) + _unit(text)


def _unit(text: str) -> str:
    """Give what one level is indented by: as in the first line that is."""
    found = re.search(r'^([ \t]+)["\]}]', text, re.MULTILINE)
    return found[1] if found else _TAB


def _laid_out(text: str, lines: str, indent: str) -> str:
    """Write lines as the text has its own."""
    first, *rest = lines.split("\n")
    unit, gap = _unit(text), _newline(text)
    return gap.join([first, *(indent + _deeper(line, unit) for line in rest)])


def _deeper(line: str, unit: str) -> str:
    bare = line.lstrip(_TAB)
    return unit * (len(line) - len(bare)) + bare
