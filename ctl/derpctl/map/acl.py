"""A map as the `derpMap` of a Tailscale policy file (HuJSON).

Clients get it through Tailscale's control server, so that region scores, which
policy files do not know, cannot be said here.
"""

import json
from collections.abc import Sequence

from derpctl.map.canonical import revision, tree_of
from derpctl.map.model import PIN_PREFIX, DerpMap, Region
from derpctl.map.policy import refuse_scores


def acl(derp_map: DerpMap, removed: Sequence[int] = ()) -> str:
    """Write a whole policy object with nothing but the map in it.

    Args:
        derp_map: What to write.
        removed: Regions of Tailscale's that clients shall not have.

    Raises:
        CannotCarry: The map has region scores.
    """
    member = "".join(f"\t{line}\n" for line in _member(derp_map, removed))
    ids = ", ".join(str(number) for number in sorted(derp_map.regions))
    return (
        f"// DERP map of region {ids or 'none'}, revision {revision(derp_map)}.\n"
        f"// The member below belongs at the top level of the policy file.\n"
        f"{{\n{member}}}\n"
    )


def acl_fragment(derp_map: DerpMap, removed: Sequence[int] = ()) -> str:
    """Write the `derpMap` member alone, to paste between others.

    Raises:
        CannotCarry: The map has region scores.
    """
    return "".join(f"{line}\n" for line in _member(derp_map, removed))


def acl_region(region: Region) -> str:
    """Write a region alone, as the value of a member of `Regions`."""
    lines = (f"\t{line}" for line in _region(region))
    return "\n".join(["{", *lines, "}"])


def _member(derp_map: DerpMap, removed: Sequence[int]) -> list[str]:
    refuse_scores(derp_map, "a policy file")
    lines = [
        '"derpMap": {',
        f'\t"OmitDefaultRegions": {_text(derp_map.omit_default_regions)},',
        '\t"Regions": {',
    ]
    for number in sorted({*derp_map.regions, *removed}):
        if number not in derp_map.regions:
            lines.append(f'\t\t"{number}": null,  // one of Tailscale\'s, taken away')
            continue
        region = _region(derp_map.regions[number])
        lines += [
            f'\t\t"{number}": {{',
            *(f"\t\t\t{line}" for line in region),
            "\t\t},",
        ]
    return [*lines, "\t},", "},"]


def _region(region: Region) -> list[str]:
    tree = tree_of(region)
    del tree["Nodes"]
    width = max(map(len, tree)) + len('"":')
    lines = [
        f"{f'{_text(key)}:':<{width}} {_text(value)}," for key, value in tree.items()
    ]
    lines.append('"Nodes": [')
    for node in region.nodes:
        if node.cert_name.startswith(PIN_PREFIX):
            lines.append("\t// pinned: another certificate needs another map")
        lines.append(f"\t{_text(tree_of(node))},")
    return [*lines, "],"]


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
