"""The configuration file that a migration prints."""

import json
from collections.abc import Mapping

import yaml


_HEAD = """\
# derpd.yaml, made by derpctl migrate env.
# node.name (900a) and region (900) are the defaults: make them those of your map.
"""
_UNKNOWN = """\
# Its place in the DERP map has the pin of its certificate: derpd --print-node says it.
"""


def page(tree: Mapping[str, object], entry: Mapping[str, object] | None) -> str:
    """Write the file, with the node's place in the map as a comment."""
    body = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    place = f"# In the DERP map: {json.dumps(entry)}\n" if entry else _UNKNOWN
    return f"{_HEAD}{place}{body}"
