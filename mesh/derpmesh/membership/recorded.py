"""Whether the region's record of a node is what the node is. Pure."""

from collections.abc import Iterator, Mapping

from derpmesh.membership.model import Membership


def differences(
    membership: Membership,
    name: str,
    is_now: Mapping[str, object],
    *,
    records_itself: bool,
) -> list[str]:
    """Say where a record differs from the node, a line each.

    Args:
        membership: The region.
        name: Of the node.
        is_now: The node as a `DERPNode`.
        records_itself: Whether it does, and says itself why it cannot.
    """
    return list(_differences(membership, name, is_now, records_itself))


def _differences(
    membership: Membership,
    name: str,
    is_now: Mapping[str, object],
    records_itself: bool,
) -> Iterator[str]:
    entry = membership.members.get(name)
    if entry is None:
        if not records_itself:
            yield f"region: {name} is not in it; nobody will dial this node"
        return
    recorded = entry.map_entry(membership.region.id)
    for field in sorted(is_now.keys() | recorded.keys()):
        if is_now.get(field) != recorded.get(field):
            was, now = recorded.get(field, "unset"), is_now.get(field, "none")
            yield f"region: {name} is recorded with {field} {was}, but has {now}"
