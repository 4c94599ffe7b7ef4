"""Puts a map into a Tailscale policy that people keep by hand. Pure.

Regions that are not in the map stay, and so does each byte outside what changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from derpctl.map import edit
from derpctl.map.acl import acl_fragment, acl_region
from derpctl.map.canonical import tree_of
from derpctl.map.errors import BadMap, CannotCarry
from derpctl.map.hujson import parse_hujson
from derpctl.map.model import DerpMap, Region
from derpctl.map.read import read_derp_map
from derpctl.map.spot import Spot


_MEMBER, _REGIONS, _OMIT = "derpMap", "Regions", "OmitDefaultRegions"
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Spliced:
    """A policy with the map in it."""

    text: str
    before: DerpMap
    """What the policy said until now, as far as it could be read."""
    after: DerpMap
    """What it says now: the regions of the map, and those that were there beside."""


def splice(
    policy: str, derp_map: DerpMap, *, omit_default_regions: bool | None = None
) -> Spliced:
    """Put the regions of a map into a policy, and leave all else as it is.

    A region that is the same already is not touched, with the comments in it.

    Args:
        policy: All of it, as it is kept.
        derp_map: What it shall say.
        omit_default_regions: Whether Tailscale's own regions are left out; None keeps
            what the policy says.

    Raises:
        BadMap: The policy cannot be read, or has something twice.
        CannotCarry: The map has region scores.
    """
    if derp_map.home_params is not None:
        raise CannotCarry("HomeParams.RegionScore", "a policy file")
    text = policy.removeprefix(_BOM)
    top = _top(text)
    before = _readable(_value(top, _MEMBER))
    if _value(top, _MEMBER) is None:
        omit = bool(omit_default_regions)
        text = _with_map(text, top, replace(derp_map, omit_default_regions=omit))
    else:
        for number in sorted(derp_map.regions):
            text = _with_region(text, number, derp_map.regions[number])
        if omit_default_regions is not None:
            text = _with_omission(text, omit=omit_default_regions)
    after = read_derp_map(_value(_top(text), _MEMBER))
    kept = _BOM if policy.startswith(_BOM) else ""
    return Spliced(kept + text, before, after)


def _top(text: str) -> Spot:
    top = parse_hujson(text).spot
    if top is None or not isinstance(top.value, dict):
        raise BadMap("", text[:20], "not a policy, which is an object")
    return top


def _one(spot: Spot, name: str, path: str) -> Spot | None:
    """Find a member.

    Raises:
        BadMap: It is there twice, and readers may take one or the other.
    """
    found = spot.named(name)
    if len(found) > 1:
        raise BadMap(path, name, "it is there more than once; take all but one out")
    return found[0] if found else None


def _value(spot: Spot, name: str) -> object:
    found = _one(spot, name, name)
    return None if found is None else found.value


def _with_map(text: str, top: Spot, derp_map: DerpMap) -> str:
    member = acl_fragment(derp_map).rstrip(",\n")
    old = _one(top, _MEMBER, _MEMBER)
    if old is None:
        return edit.apply(text, edit.insert(text, top, member))
    value = member.removeprefix(f'"{_MEMBER}": ')
    return edit.apply(text, [edit.replace(text, old, value)])


def _map(text: str) -> Spot:
    found = _one(_top(text), _MEMBER, _MEMBER)
    if found is None or not isinstance(found.value, dict):
        raise BadMap(_MEMBER, found and found.value, "not an object")
    return found


def _with_region(text: str, number: int, region: Region) -> str:
    there = _map(text)
    value = acl_region(region)
    regions = _one(there, _REGIONS, f"{_MEMBER}.{_REGIONS}")
    if regions is None or regions.value is None:
        lines = value.replace("\n", "\n\t")
        value = f'{{\n\t"{number}": {lines},\n}}'
        if regions is not None:
            return edit.apply(text, [edit.replace(text, regions, value)])
        return edit.apply(text, edit.insert(text, there, f'"{_REGIONS}": {value}'))
    if not isinstance(regions.value, dict):
        raise BadMap(f"{_MEMBER}.{_REGIONS}", regions.value, "not an object")
    old = _one(regions, str(number), f"{_MEMBER}.{_REGIONS}.{number}")
    if old is None:
        return edit.apply(text, edit.insert(text, regions, f'"{number}": {value}'))
    if _is(old.value, number, region):
        return text
    return edit.apply(text, [edit.replace(text, old, value)])


def _is(value: object, number: int, region: Region) -> bool:
    """Tell whether a region is in the policy already, however it is written."""
    try:
        found = read_derp_map({_REGIONS: {str(number): value}}).regions.get(number)
    except BadMap:
        return False
    return found is not None and tree_of(found) == tree_of(region)


def _with_omission(text: str, *, omit: bool) -> str:
    there = _map(text)
    old = _one(there, _OMIT, f"{_MEMBER}.{_OMIT}")
    value = "true" if omit else "false"
    if old is not None:
        change = [] if old.value is omit else [edit.replace(text, old, value)]
    elif omit:
        change = [edit.insert_first(text, there, f'"{_OMIT}": {value}')]
    else:
        change = []  # it is what stands there when nothing does
    return edit.apply(text, change)


def _readable(value: object) -> DerpMap:
    """Read a map as far as it can be: a broken region must not hide the others."""
    try:
        return DerpMap() if value is None else read_derp_map(value)
    except BadMap:
        pass
    regions: dict[int, Region] = {}
    for number, region in _members(value, _REGIONS).items():
        try:
            regions |= read_derp_map({_REGIONS: {number: region}}).regions
        except BadMap:
            continue
    return DerpMap(regions=regions)


def _members(value: object, name: str) -> Mapping[str, object]:
    """Give the members of a member, in any case."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key.lower() == name.lower() and isinstance(item, dict):
            return item
    return {}
