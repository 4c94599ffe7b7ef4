"""What regions and nodes are called: numbers, codes and names."""

import re
from collections.abc import Iterator

from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.lint.place import Place


_SUFFIX = re.compile(r"([a-z][a-z0-9-]*)?")
_CODE = re.compile(r"[a-z0-9-]{1,32}")
_MOST_ID = 65_535
OURS = range(900, 1000)
"""Regions that are for everybody's own."""


def region_id(place: Place) -> Iterator[Finding]:
    """DM001: a region is filed under its number."""
    if place.region.region_id != place.key:
        message = (
            f"RegionID is {place.region.region_id}, but the region is filed under"
            f" {place.key}; make both the same"
        )
        path = f"{place.path}.RegionID"
        yield Finding("DM001", Severity.ERROR, path, message)


def node_region_id(place: Place) -> Iterator[Finding]:
    """DM002: a node says in which region it is."""
    for path, node in place.nodes():
        if node.region_id != place.key:
            said = node.region_id or "missing"
            message = (
                f"RegionID is {said}, so latencies are booked elsewhere and the region"
                f" is never a home; make it {place.key}"
            )
            yield Finding("DM002", Severity.ERROR, f"{path}.RegionID", message)


def id_range(place: Place) -> Iterator[Finding]:
    """DM003: a region has a number that clients can hold, and is not Tailscale's."""
    if not 1 <= place.key <= _MOST_ID:
        message = f"region {place.key} is not in 1 to {_MOST_ID}; use 900 to 999"
        yield Finding("DM003", Severity.ERROR, place.path, message)
    elif place.key not in OURS and not place.world.terms.allow_system_ids:
        message = (
            f"region {place.key} may be one of Tailscale's; use 900 to 999, which are"
            " for everybody's own"
        )
        yield Finding("DM003", Severity.WARNING, place.path, message)


def names(place: Place) -> Iterator[Finding]:
    """DM004: a node's name is its own, and as is the custom."""
    for path, node in place.nodes():
        where = f"{path}.Name"
        example = f"{place.key}a"
        many = place.world.names[node.name]
        if not node.name:
            message = f"the node has no name; call it {example}, say"
            yield Finding("DM004", Severity.ERROR, where, message)
        elif many > 1:
            message = (
                f"{many} nodes are called {node.name}, and clients"
                " look nodes up by name in the whole map; give each its own"
            )
            yield Finding("DM004", Severity.ERROR, where, message)
        elif not _is_customary(node.name, place.key):
            message = (
                f"{node.name} is not region and letter; by custom it is {example},"
                " which is in no other region"
            )
            yield Finding("DM004", Severity.WARNING, where, message)


def _is_customary(name: str, region: int) -> bool:
    start = str(region)
    return name.startswith(start) and bool(_SUFFIX.fullmatch(name, len(start)))


def codes(place: Place) -> Iterator[Finding]:
    """DM015: a region has a code of its own, and a name."""
    code = place.region.region_code
    where = f"{place.path}.RegionCode"
    if not _CODE.fullmatch(code):
        message = (
            f"{code!r:.60} is awkward to type and to label with; use 1 to 32 of"
            " a to z, 0 to 9 and -"
        )
        yield Finding("DM015", Severity.WARNING, where, message)
    elif place.world.codes[code] > 1:
        message = (
            f"{place.world.codes[code]} regions have the code {code}, and who asks for"
            " it gets the first; give each its own"
        )
        yield Finding("DM015", Severity.WARNING, where, message)
    if not place.region.region_name:
        message = (
            "the region has no name, which is what clients show to people; give it one"
        )
        where = f"{place.path}.RegionName"
        yield Finding("DM015", Severity.WARNING, where, message)
