"""A map as headscale reads it from a file of `derp.paths` (YAML)."""

from collections.abc import Sequence

import yaml

from derpctl.map.canonical import revision, tree_of
from derpctl.map.model import DerpMap
from derpctl.map.policy import refuse_scores


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


_REMOVED = (
    "# null takes one of Tailscale's regions away in headscale up to 0.29; what came"
    " after skips it.\n"
)
_ONLY_OURS = (
    "# Clients have other regions, too, unless urls is [] in config.yaml:"
    " see map export -f headscale-config --only-ours.\n"
)


def headscale(
    derp_map: DerpMap, removed: Sequence[int] = (), *, only_ours: bool = False
) -> str:
    """Write a map with lower-case keys, the only ones that headscale reads.

    Args:
        derp_map: What to write; headscale has no place for `omit_default_regions`.
        removed: Regions of Tailscale's that clients shall not have.
        only_ours: Say in a comment how clients get no other regions.

    Raises:
        CannotCarry: The map has region scores; headscale would drop them.
    """
    refuse_scores(derp_map, "a headscale file")
    regions = dict.fromkeys(sorted({*derp_map.regions, *removed}))
    for number, region in derp_map.regions.items():
        regions[number] = _lower(tree_of(region))
    body = yaml.dump(
        {"regions": regions},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=2**16,  # never fold
    )
    head = f"# DERP map, revision {revision(derp_map)}"
    notes = (_REMOVED if removed else "") + (_ONLY_OURS if only_ours else "")
    return f"{head}; headscale shuffles the nodes of a region.\n{notes}{body}"


def _lower(value: object) -> object:
    if isinstance(value, dict):
        return {str(key).lower(): _lower(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_lower(item) for item in value]
    return value
