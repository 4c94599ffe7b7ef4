"""What an operator may have done to the map of a region before it is written."""

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

from derpctl.map.errors import Collides
from derpctl.map.model import DerpMap, HomeParams


class Preset(StrEnum):
    """What the regions are for."""

    PREFER = "prefer"
    """The home of whoever is anywhere near."""
    FALLBACK_ONLY = "fallback-only"
    """The home of those for whom every other region is far."""
    OBSERVE_ONLY = "observe-only"
    """Nobody's home; dialled where a peer says that it lives there."""


PREFERRED = 0.25
FALLBACK = 4.0
"""Scores: factors on the latencies that clients measure."""

_SCORES = {Preset.PREFER: PREFERRED, Preset.FALLBACK_ONLY: FALLBACK}


def with_preset(derp_map: DerpMap, preset: Preset) -> DerpMap:
    """Give every region of a map the same purpose."""
    if preset is Preset.OBSERVE_ONLY:
        regions = {
            number: replace(region, no_measure_no_home=True)
            for number, region in derp_map.regions.items()
        }
        return replace(derp_map, regions=regions)
    scores = dict.fromkeys(derp_map.regions, _SCORES[preset])
    return replace(derp_map, home_params=HomeParams(region_score=scores))


def over(ours: DerpMap, base: DerpMap, removed: Collection[int] = ()) -> DerpMap:
    """Lay our regions over another map.

    Args:
        ours: What must be in it, as it is.
        base: The other map, Tailscale's own say.
        removed: Regions of the other map to leave out.

    Raises:
        Collides: The same number or the same name of a node is in both.
    """
    regions = {n: one for n, one in base.regions.items() if n not in removed}
    for number in sorted(ours.regions):
        if number in regions:
            raise Collides("region", number)
    names = {node.name for region in ours.regions.values() for node in region.nodes}
    for _, region in sorted(regions.items()):
        for node in region.nodes:
            if node.name in names:
                raise Collides("node", node.name)
    return replace(
        ours,
        regions={**regions, **ours.regions},
        home_params=_scores_over(ours.home_params, base.home_params, regions),
    )


def _scores_over(
    ours: HomeParams | None, base: HomeParams | None, regions: Collection[int]
) -> HomeParams | None:
    if base is None:
        return ours
    kept = {n: score for n, score in base.region_score.items() if n in regions}
    return HomeParams(region_score={**kept, **(ours.region_score if ours else {})})
