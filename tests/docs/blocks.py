"""Finds the fenced blocks of the documentation that are more than words.

The second word of a fence says what a block is; people who read the page see only the
first, its language:

``yaml derpd``
    a whole configuration of ``derpd``
``yaml derpd part``
    keys to lay over the page's first whole configuration, or over the README's
``yaml derpctl``
    a whole configuration of ``derpctl``
``sh start``
    starts the node of the page, and goes on once it is ready
``sh test``
    commands that must succeed
``sh node``
    the same, with the node running
``yaml headscale``
    what headscale's configuration says of maps; it is started anew by that
``sh headscale``
    commands that must succeed, with that headscale running
``sh serve``
    a command that runs on beside what follows
``sh compose STEP``, ``sh swap``
    commands that must succeed in the folder `compose`, or where camllia/derper ran; see
    ``tests/install``
``sh etcd``
    the same, with the etcd running that the page's configuration names
``sh systemd``, ``ini systemd``
    commands that must succeed, and files, on a machine that systemd runs, where the
    package is installed; see ``tests/install/test_systemd.py``
``sh clone``
    commands that must succeed there, in a clone of the repository
``sh packages``
    commands that build and install packages; see ``tests/install/test_packages.py``
``sh docker``, ``yaml docker``
    commands that must succeed with Docker, and files; see
    ``tests/install/test_howto_docker.py``
``sh helm``
    commands that must succeed with Helm, and without a cluster
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.support.docs import ROOT, pages


_FENCE = re.compile(r"^```([^`\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

COMPOSE_STEPS = (
    *("up", "status", "map", "clients", "kill"),
    *("prod", "monitoring", "regions", "down"),
)

MARKS = {
    "yaml derpd",
    "yaml derpd part",
    "yaml derpctl",
    "yaml derpctl region",
    "sh start",
    "sh test",
    "sh node",
    "sh etcd",
    "sh serve",
    "yaml headscale",
    "sh headscale",
    "sh swap",
    *(f"sh compose {step}" for step in COMPOSE_STEPS),
    "sh systemd",
    "ini systemd",
    "sh clone",
    "sh packages",
    "sh docker",
    "yaml docker",
    "sh helm",
}


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    line: int
    mark: str
    """All that stands behind the backticks."""

    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order; those in lists are only shown."""
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[1], found[2])


def blocks(*marks: str) -> list[Block]:
    """List the blocks of all pages that have one of these marks."""
    return [one for page in pages() for one in blocks_of(page) if one.mark in marks]


def configuration(block: Block) -> str:
    """Give a whole configuration as it is printed, and a part laid over its whole."""
    if block.mark == "yaml derpd":
        return block.text
    tree = yaml.safe_load(whole(block.page).text)
    _lay_over(tree, yaml.safe_load(block.text))
    return yaml.safe_dump(tree, sort_keys=False)


def whole(page: Path) -> Block:
    """Find the configuration that a page is about: its first, or the README's."""
    candidates = [*blocks_of(page), *blocks_of(ROOT / "README.md")]
    return next(block for block in candidates if block.mark == "yaml derpd")


def _lay_over(tree: dict[str, object], part: dict[str, object]) -> None:
    for key, value in part.items():
        below = tree.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _lay_over(below, value)
        else:
            tree[key] = value
