"""A map as a policy has it: an object whose regions may be null."""

import json
from collections.abc import Sequence

from derpctl.map.canonical import Tree, tree_of
from derpctl.map.errors import CannotCarry
from derpctl.map.model import DerpMap


def refuse_scores(derp_map: DerpMap, form: str) -> None:
    """Refuse a map whose scores would be lost.

    Raises:
        CannotCarry: It has some.
    """
    if derp_map.home_params is not None:
        raise CannotCarry("HomeParams.RegionScore", form)


def policy_tree(derp_map: DerpMap, removed: Sequence[int] = ()) -> Tree:
    """Give the value of `derpMap`.

    Args:
        derp_map: What to write.
        removed: Regions of Tailscale's that clients shall not have. What the map has
            itself stays.

    Raises:
        CannotCarry: The map has region scores.
    """
    refuse_scores(derp_map, "a policy file")
    regions: dict[int, object] = dict.fromkeys(removed)
    for number, region in derp_map.regions.items():
        regions[number] = tree_of(region)
    return {
        "OmitDefaultRegions": derp_map.omit_default_regions,
        "Regions": {str(number): regions[number] for number in sorted(regions)},
    }


def policy_json(
    derp_map: DerpMap, removed: Sequence[int] = (), *, fragment: bool = False
) -> str:
    """Write a policy as plain JSON, for programs that know no comments.

    Args:
        derp_map: What to write.
        removed: Regions of Tailscale's that clients shall not have.
        fragment: The member alone, without the braces around it.

    Raises:
        CannotCarry: The map has region scores.
    """
    policy = {"derpMap": policy_tree(derp_map, removed)}
    text = json.dumps(policy, indent="\t", ensure_ascii=False) + "\n"
    if not fragment:
        return text
    return "".join(f"{line[1:]}\n" for line in text.split("\n")[1:-2])
