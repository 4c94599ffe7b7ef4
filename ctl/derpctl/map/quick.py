"""Judges a large map while somebody waits: plain JSON in which nothing is wrong.

Python's own parser is thirty times as fast as ours, and knows no lines. Nobody needs
them where there is nothing to say, which is what is mostly there to be said.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from derpctl.map.errors import BadMap
from derpctl.map.judged import Judged
from derpctl.map.lint import Target, Terms, lint
from derpctl.map.model import LARGEST
from derpctl.map.read import read_derp_map


def judge_quickly(text: str, terms: Terms) -> Judged | None:
    """Say that nothing is wrong, as `derpctl.map.source.judge` would; else give None.

    Args:
        text: All of a file that is not YAML by its name.
        terms: What the operator says of it.
    """
    try:
        tree: object = json.loads(
            text, parse_constant=_refuse, object_pairs_hook=_each_once
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return None
    member = next((key for key in tree if key.lower() == "derpmap"), None)
    value = tree if member is None else tree[member]
    if not _has_regions(value) or len(text.encode("utf-8", "replace")) > LARGEST:
        return None
    terms = replace(terms, target=terms.target or Target.TAILSCALE)
    try:
        derp_map = read_derp_map(value)
    except BadMap:
        return None
    if lint(derp_map, terms) or (member is None and not derp_map.regions):
        return None
    return Judged("derpmap" if member is None else "acl", [], derp_map, text)


def _has_regions(value: object) -> bool:
    """Tell a map whose regions are all there; a null one has a rule of its own."""
    if not isinstance(value, Mapping):
        return False
    found = [regions for key, regions in value.items() if key.lower() == "regions"]
    return bool(found) and all(
        isinstance(regions, Mapping) and None not in regions.values()
        for regions in found
    )


def _each_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Make an object, if no key is there twice; Go knows no case.

    Raises:
        ValueError: One is.
    """
    found = dict(pairs)
    if len({key.lower() for key in found}) != len(pairs):
        raise ValueError(pairs)
    return found


def _refuse(word: str) -> NoReturn:
    """Refuse what Python takes for a number, and JSON does not.

    Raises:
        ValueError: Always.
    """
    raise ValueError(word)
