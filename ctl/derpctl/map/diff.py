"""What differs between two maps, in words, and whom it disconnects. Pure.

Maps are compared in their canonical form: two that have one revision do not differ.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.map.canonical import Tree, plain, tree_of
from derpctl.map.model import DerpMap, Node, Region


_REGIONS, _NODES = "Regions", "Nodes"
_HOME_PARAMS, _SCORE = "HomeParams", "RegionScore"

_Key = tuple[str, int]
"""The name of a node, and how many have it before, as bad maps name two alike."""


class Kind(StrEnum):
    """What happened to something."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    ORDER = "order changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is not as it was."""

    region: int | None = None
    """None where it is of the map as a whole."""
    node: str | None = None
    """None where it is of the region, or of the map."""
    field: str = ""
    """`DERPPort`; empty for all of a region or a node."""
    kind: Kind
    before: object = None
    """As JSON has it; None for what was not there."""
    after: object = None
    """The same for what is not there now."""

    def __str__(self) -> str:
        place = self._place()
        return f"{place}: {self._words()}" if place else self._words()

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "region": self.region,
            "node": self.node,
            "field": self.field,
            "change": self.kind.value,
            "before": self.before,
            "after": self.after,
        }

    def _place(self) -> str:
        if self.region is None:
            return ""
        region = f"region {self.region}"
        return region if self.node is None else f"{region}, node {_name(self.node)}"

    def _words(self) -> str:
        what = f"{self.field} " if self.field else ""
        match self.kind:
            case Kind.ADDED:
                return f"{what}added: {_value(self.after)}"
            case Kind.REMOVED:
                return f"{what}removed: {_value(self.before)}"
            case Kind.CHANGED:
                old, new = _value(self.before), _value(self.after)
                return f"{what}changed from {old} to {new}"
            case Kind.ORDER:
                old, new = _value(self.before), _value(self.after)
                return f"order of {self.field} changed from {old} to {new}"


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs; nothing, if the maps are the same to clients."""

    changes: Sequence[Change]

    @property
    def reconnecting(self) -> Sequence[int]:
        """Regions whose clients lose their connection and measure anew.

        A client compares each region that it knows with the new one, and any
        difference will do. Source: tailscale ``wgengine/magicsock/derp.go``,
        ``setDERPMap``.
        """
        new = {
            change.region
            for change in self.changes
            if _is_whole_region(change) and change.kind is Kind.ADDED
        }
        touched = {one.region for one in self.changes if one.region is not None}
        return sorted(touched - new)

    def lines(self) -> Iterator[str]:
        """Yield it in words, a line for each change."""
        if not self.changes:
            yield "no difference"
            return
        yield from map(str, self.changes)
        numbers = self.reconnecting
        if numbers:
            regions = "region" if len(numbers) == 1 else "regions"
            yield f"all clients of {regions} {', '.join(map(str, numbers))} reconnect"
        else:
            yield "no connection is dropped"


def diff(before: DerpMap, after: DerpMap, *, ignore_order: bool = False) -> Difference:
    """Compare two maps.

    Args:
        before: What clients have.
        after: What they would get.
        ignore_order: Take nodes of a region in another order for the same, as for
            headscale, which gives them another one anyway.
    """
    changes = [
        *_scores(before, after),
        *_regions(before, after, ignore_order=ignore_order),
        *_fields(_top(before), _top(after)),
    ]
    return Difference(changes)


def _name(text: str) -> str:
    """Quote a name that would not be seen."""
    return text or '""'


def _value(value: object) -> str:
    """Write a value for people: parts by name, names without quotes."""
    if isinstance(value, dict):
        parts = (f"{key} {_value(item)}" for key, item in value.items())
        return ", ".join(parts)
    if isinstance(value, list):
        return ", ".join(_name(_called(item)) for item in value) or "none"
    return json.dumps(value, ensure_ascii=False)


def _called(item: object) -> str:
    """Give the name of a node; all of it would be too much."""
    return str(item.get("Name")) if isinstance(item, dict) else str(item)


def _is_whole_region(change: Change) -> bool:
    return change.region is not None and change.node is None and not change.field


def _top(derp_map: DerpMap) -> Tree:
    """Give what a map has beside regions and scores."""
    tree = tree_of(derp_map)
    return {key: tree[key] for key in tree if key not in (_REGIONS, _HOME_PARAMS)}


def _scores(before: DerpMap, after: DerpMap) -> Iterator[Change]:
    yield from _fields(_score_tree(before), _score_tree(after))


def _score_tree(derp_map: DerpMap) -> Tree:
    params = derp_map.home_params
    scores = dict(params.region_score) if params else {}
    return {
        f"{_HOME_PARAMS}.{_SCORE}.{number}": plain(score)
        for number, score in sorted(scores.items())
    }


def _regions(
    before: DerpMap, after: DerpMap, *, ignore_order: bool
) -> Iterator[Change]:
    for number in sorted({*before.regions, *after.regions}):
        old, new = before.regions.get(number), after.regions.get(number)
        if old and new:
            yield from _region(number, old, new, ignore_order=ignore_order)
        elif new:
            yield Change(region=number, kind=Kind.ADDED, after=tree_of(new))
        elif old:
            yield Change(region=number, kind=Kind.REMOVED, before=tree_of(old))


def _region(
    number: int, before: Region, after: Region, *, ignore_order: bool
) -> Iterator[Change]:
    yield from _fields(_without_nodes(before), _without_nodes(after), region=number)
    old, new = _by_name(before), _by_name(after)
    for key in [*old, *(key for key in new if key not in old)]:
        name = key[0]
        if key not in new:
            what = tree_of(old[key])
            yield Change(region=number, node=name, kind=Kind.REMOVED, before=what)
        elif key not in old:
            what = tree_of(new[key])
            yield Change(region=number, node=name, kind=Kind.ADDED, after=what)
        else:
            trees = tree_of(old[key]), tree_of(new[key])
            yield from _fields(*trees, region=number, node=name)
    stayed, stay = (
        [key for key in old if key in new],
        [key for key in new if key in old],
    )
    if stayed != stay and not ignore_order:
        yield Change(
            region=number,
            field=_NODES,
            kind=Kind.ORDER,
            before=[node.name for node in before.nodes],
            after=[node.name for node in after.nodes],
        )


def _without_nodes(region: Region) -> Tree:
    tree = tree_of(region)
    del tree[_NODES]
    return tree


def _by_name(region: Region) -> Mapping[_Key, Node]:
    seen: Counter[str] = Counter()
    found: dict[_Key, Node] = {}
    for node in region.nodes:
        found[node.name, seen[node.name]] = node
        seen[node.name] += 1
    return found


def _fields(
    before: Tree, after: Tree, *, region: int | None = None, node: str | None = None
) -> Iterator[Change]:
    """Compare single values; a zero is not there, as in the canonical form."""
    for field in [*before, *(field for field in after if field not in before)]:
        old, new = before.get(field), after.get(field)
        if old != new:
            yield Change(
                region=region,
                node=node,
                field=field,
                kind=_kind(field, before, after),
                before=old,
                after=new,
            )


def _kind(field: str, before: Tree, after: Tree) -> Kind:
    if field not in before:
        return Kind.ADDED
    return Kind.CHANGED if field in after else Kind.REMOVED
