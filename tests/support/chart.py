"""The Helm chart of this tree: its values, as its README has them.

A line of ``values.yaml`` that begins with ``# --`` describes the key below, with the
lines of comment that follow it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml


CHART = Path(__file__).resolve().parents[2] / "helm" / "derp-cluster"
VALUES = CHART / "values.yaml"

_KEY = re.compile(r"( *)([A-Za-z]\w*):")
_FIRST = re.compile(r" *# -- (.*)")
_MORE = re.compile(r" *# (.*)")


@dataclass(frozen=True, slots=True)
class Value:
    """One key that can be set."""

    path: tuple[str, ...]
    default: object
    meaning: str
    """Empty where nothing describes it."""

    @property
    def key(self) -> str:
        """As `--set` takes it."""
        return ".".join(self.path)


def values() -> list[Value]:
    """List the keys that are described, and those that nothing describes."""
    text = VALUES.read_text("utf-8")
    tree = yaml.safe_load(text)
    found = [
        Value(path, _at(tree, path), meaning) for path, meaning in _described(text)
    ]
    return [one for one in found if one.meaning or not _is_section(one.default)]


def table_rows() -> list[tuple[str, str, str]]:
    """Give key, default and meaning of each."""
    return [(f"`{one.key}`", _shown(one.default), one.meaning) for one in values()]


def _described(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path of each key, and what stands above it."""
    parents: list[tuple[int, str]] = []
    words: list[str] = []
    within: int | None = None  # indentation of a value of several lines
    for line in text.splitlines():
        if first := _FIRST.fullmatch(line):
            words = [first[1]]
        elif words and (more := _MORE.fullmatch(line)):
            words.append(more[1])
        elif key := _KEY.match(line):
            depth = len(key[1])
            if within is not None and depth > within:
                continue
            while parents and parents[-1][0] >= depth:
                parents.pop()
            parents.append((depth, key[2]))
            yield tuple(name for _, name in parents), " ".join(words)
            # What is described as a whole is not taken apart.
            within = depth if words else None
            words = []


def _at(tree: object, path: tuple[str, ...]) -> object:
    for name in path:
        if not isinstance(tree, Mapping):
            raise KeyError(path)
        tree = tree[name]
    return tree


def _is_section(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"`{json.dumps(value)}`"
