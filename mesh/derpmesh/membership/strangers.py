"""Nodes of the region that have other mesh keys, as they say themselves. Pure."""

from collections.abc import Iterator, Mapping

from derpmesh.membership.records import LiveMember


def strangers(current: str, live: Mapping[str, LiveMember]) -> Iterator[str]:
    """Say which nodes do not take the mesh key that this one sends, a line each.

    Args:
        current: Fingerprint of that key.
        live: What nodes say, by name. Those that say nothing of keys are passed over.
    """
    for name, record in live.items():
        found = record.mesh_keys
        if found is not None and current not in found.values():
            has = found.get("current")
            yield (
                f"mesh key: {name} does not take this node's, {current}, and has {has};"
                " see `derpctl key mesh show`"
            )
