"""What a change of membership is to an operator: events, member by member."""

from collections.abc import Sequence

from derpmesh.membership.model import Member, Membership
from derpnode.kinds import Kind
from derpnode.server.journal import Journal


def tell_changes(
    journal: Journal, before: Membership | None, after: Membership
) -> None:
    """Note who joined, left and changed; with nothing before, all have joined."""
    were = before.members if before is not None else {}
    revision = after.revision
    for name in (name for name in were if name not in after.members):
        struck = name in after.struck
        text = "an operator took it out" if struck else "it is not in the registry"
        journal.add(Kind.MEMBER_LOST, name, text, revision=revision, struck=struck)
    for name, member in after.members.items():
        was = were.get(name)
        if was is None:
            text = f"it is in the region, at {member.host}"
            journal.add(Kind.MEMBER_JOINED, name, text, revision=revision)
        elif was != member:
            text = _differences(was, member)
            journal.add(Kind.MEMBER_CHANGED, name, text, revision=revision)


def tell_held(
    journal: Journal, before: Sequence[str], now: Sequence[str], found: Membership
) -> None:
    """Note who is held from now on, and who came back by itself.

    Args:
        journal: Where to.
        before: Names that were held.
        now: Names that are held.
        found: What the registry has.
    """
    revision = found.revision
    for name in now:
        if name not in before:
            text = "it vanished from the registry, and stays in force"
            journal.add(Kind.HELD, name, text, revision=revision)
    for name in before:
        if name not in now and name in found.members:
            text = "it is in the registry again, and held no more"
            journal.add(Kind.MEMBER_CHANGED, name, text, revision=revision)


def _differences(was: Member, member: Member) -> str:
    """Say which fields have other values, and which ones they had."""
    old, new = was.plain(), member.plain()
    return ", ".join(
        f"{field} {new.get(field, 'unset')}, was {old.get(field, 'unset')}"
        for field in dict.fromkeys([*new, *old])
        if old.get(field) != new.get(field)
    )
