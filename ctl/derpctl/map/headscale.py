"""A map as headscale reads it from a file of `derp.paths` (YAML)."""

import yaml

from derpctl.map.canonical import revision, tree_of
from derpctl.map.errors import CannotCarry
from derpctl.map.model import DerpMap


class _Dumper(yaml.SafeDumper):
    """Indents the items of a list, as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote line breaks of Unicode: unquoted, they would read as spaces."""
    style = '"' if _BREAKS.intersection(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_BREAKS = frozenset("\x85\u2028\u2029\ufeff")


def headscale(derp_map: DerpMap) -> str:
    """Write a map with lower-case keys, the only ones that headscale reads.

    Raises:
        CannotCarry: The map has region scores; headscale would drop them.
    """
    if derp_map.home_params is not None:
        raise CannotCarry("HomeParams.RegionScore", "a headscale file")
    regions = {
        number: _lower(tree_of(derp_map.regions[number]))
        for number in sorted(derp_map.regions)
    }
    body = yaml.dump(
        {"regions": regions},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=2**16,  # never fold
    )
    head = f"# DERP map, revision {revision(derp_map)}"
    return f"{head}; headscale shuffles the nodes of a region.\n{body}"


def _lower(value: object) -> object:
    if isinstance(value, dict):
        return {str(key).lower(): _lower(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_lower(item) for item in value]
    return value
