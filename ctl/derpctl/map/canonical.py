"""The one form of a map: the same map is the same bytes, whoever wrote it.

Fields in the order of the structs, regions by number, zeros left out, no times.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from derpctl.map.model import DerpMap, Node, Region


_REVISION_SIZE = 12  # hex digits; enough to tell maps apart, short enough to say

Tree = dict[str, object]


def canonical_json(derp_map: DerpMap) -> str:
    """Write a map as plain DERPMap JSON, ending in a newline."""
    return json.dumps(tree_of(derp_map), indent="\t", ensure_ascii=False) + "\n"


def revision(derp_map: DerpMap) -> str:
    """Name the content of a map: equal maps have equal revisions."""
    digest = hashlib.sha256(canonical_json(derp_map).encode())
    return digest.hexdigest()[:_REVISION_SIZE]


def tree_of(value: DerpMap | Region | Node) -> Tree:
    """Give a map, or a part of one, as JSON has it."""
    return _object(value)


def _object(value: object) -> Tree:
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(value)
    tree: Tree = {}
    for item in fields(value):
        found = plain(getattr(value, item.name))
        if item.metadata["always"] or found not in (None, 0, "", {}):
            tree[str(item.metadata["json"])] = found
    return tree


def plain(value: object) -> object:
    """Give any part of a map as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return _object(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # as Go writes it
    return value
