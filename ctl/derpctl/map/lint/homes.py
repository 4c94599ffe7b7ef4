"""How clients choose their home among regions, and what they have if it is lost."""

import math
from collections.abc import Iterator

from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.lint.names import OURS
from derpctl.map.lint.place import Place, World


_LEAST_SCORE, _MOST_SCORE = 0.1, 10
_ENOUGH = 2  # regions; with one, there is no other
_POLE, _DATE_LINE = 90, 180  # degrees


def avoid(place: Place) -> Iterator[Finding]:
    """DM016: nothing deprecated decides."""
    if place.region.avoid:
        message = (
            "true, which is deprecated and not the same to all clients; set"
            " NoMeasureNoHome instead, if nobody shall be at home there"
        )
        yield Finding("DM016", Severity.WARNING, f"{place.path}.Avoid", message)


def coordinates(place: Place) -> Iterator[Finding]:
    """DM026: a region is somewhere on Earth, or nowhere."""
    region = place.region
    found = (
        ("Latitude", region.latitude, _POLE),
        ("Longitude", region.longitude, _DATE_LINE),
    )
    for name, degrees, most in found:
        if not -most <= degrees <= most:
            message = f"{degrees:g} is not in -{most} to {most}; give degrees"
            where = f"{place.path}.{name}"
            yield Finding("DM026", Severity.WARNING, where, message)
    for (name, degrees, _), (other, beside, _) in (found, found[::-1]):
        if not degrees and beside:
            message = (
                f"{other} is {beside:g}, but {name} is not set, and 0 is the same; give"
                " both, if only nearly 0, or none"
            )
            yield Finding("DM026", Severity.WARNING, f"{place.path}.{name}", message)


def scores(world: World) -> Iterator[Finding]:
    """DM017: a score is of a region, and counts."""
    params = world.derp_map.home_params
    for number, score in sorted(params.region_score.items()) if params else ():
        wrong = _wrong_score(world, number, score)
        if wrong:
            where = f"HomeParams.RegionScore.{number}"
            yield Finding("DM017", Severity.WARNING, where, wrong)


def _wrong_score(world: World, number: int, score: float) -> str:
    if number not in world.derp_map.regions and not _may_be_added(world, number):
        return f"{score:g} is for a region that is not in the map; correct the number"
    if math.isnan(score) or score <= 0:
        return f"{score:g} is ignored; give a factor above 0, or take it out"
    if not _LEAST_SCORE <= score <= _MOST_SCORE:
        return (
            f"latencies count times {score:g}, so that measuring hardly matters; keep"
            f" to {_LEAST_SCORE:g} to {_MOST_SCORE:g}"
        )
    return ""


def _may_be_added(world: World, number: int) -> bool:
    """Tell whether the region may be one that Tailscale adds to the map."""
    omitted = world.derp_map.omit_default_regions
    return number not in OURS and not omitted and not world.is_for_headscale


def alone(world: World) -> Iterator[Finding]:
    """DM018: who leaves Tailscale's regions out has two of their own."""
    many = len(world.derp_map.regions)
    if not world.derp_map.omit_default_regions or many >= _ENOUGH:
        return
    if world.is_for_headscale:
        return  # it does not read the member
    message = (
        "true, and clients have one region with none beside it if it is lost; add"
        " another, or keep Tailscale's"
        if many
        else "true without a region, so that it has no effect; add regions, two or more"
    )
    yield Finding("DM018", Severity.WARNING, "omitDefaultRegions", message)
