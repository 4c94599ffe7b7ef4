"""What was changed of the map, when and by whom; and the region as it was before. Pure.

Each change of an intent that the map is made of is stored beside it, in the same
moment. An older state is today's, with every later change taken back: what nobody
changed needs no record.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from derpmesh.membership.model import Member
from derpmesh.membership.records import Edit, NodeIntent, RegionIntent


REGION = "region"
"""What an edit of the region as a whole is of; no node has such a name."""

MOST = 500
"""Edits of a region that are kept; the oldest go."""

_IN_MAP = frozenset({"id", "code", "name", "latitude", "longitude", "measure", "order"})


@dataclass(frozen=True)
class Dated:
    """An edit, and the revision at which it was made."""

    edit: Edit
    revision: int


@dataclass(frozen=True)
class Wanted:
    """A region as operators want it."""

    intent: RegionIntent
    members: tuple[Member, ...]
    """In the order of the map; without those that were taken out."""

    revision: int
    """At which it was read."""


def in_order(
    intent: RegionIntent, nodes: Mapping[str, Member], revision: int
) -> Wanted:
    """Put nodes into the order of their region; those not in it follow, sorted."""
    order = [name for name in dict.fromkeys(intent.order) if name in nodes]
    names = [*order, *sorted(nodes.keys() - set(order))]
    return Wanted(intent, tuple(nodes[name] for name in names), revision)


def node_edit(before: NodeIntent | None, after: NodeIntent, author: str) -> Edit | None:
    """Note the change of a node; None if the map has the same of it."""
    return _edit(after.node.name, _shown(before), _shown(after), author)


def region_edit(
    before: RegionIntent | None, after: RegionIntent, author: str
) -> Edit | None:
    """Note the change of a region; None if the map has the same of it."""
    return _edit(REGION, _shown_region(before), _shown_region(after), author)


def _edit(
    what: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
    author: str,
) -> Edit | None:
    if before == after:
        return None
    return Edit(
        number=secrets.token_hex(8),
        at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        author=author,
        what=what,
        before=before,
        after=after,
    )


def _shown(intent: NodeIntent | None) -> dict[str, object] | None:
    return None if intent is None or intent.removed else intent.node.plain()


def _shown_region(intent: RegionIntent | None) -> dict[str, object] | None:
    if intent is None:
        return None
    return {key: value for key, value in intent.plain().items() if key in _IN_MAP}


def as_of(now: Wanted, edits: Iterable[Dated], revision: int) -> Wanted | None:
    """Give the region as it was at a revision; None if there was none yet.

    Args:
        now: As it is.
        edits: All that are known, in any order.
        revision: Edits after it are taken back.
    """
    nodes = {member.name: member for member in now.members}
    region: RegionIntent | None = now.intent
    for dated in sorted(edits, key=lambda one: one.revision, reverse=True):
        if dated.revision <= revision:
            break
        edit = dated.edit
        if edit.what == REGION:
            region = _region_before(now.intent, edit)
        elif edit.before is None:
            nodes.pop(edit.what, None)
        else:
            nodes[edit.what] = Member.model_validate(edit.before)
    return None if region is None else in_order(region, nodes, revision)


def _region_before(now: RegionIntent, edit: Edit) -> RegionIntent | None:
    """Give the region as the map had it; what is not of the map stays as it is."""
    if edit.before is None:
        return None
    kept = {key: value for key, value in now.plain().items() if key not in _IN_MAP}
    return RegionIntent.model_validate({**kept, **edit.before})
