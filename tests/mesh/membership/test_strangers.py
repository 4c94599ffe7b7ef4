"""Nodes that have other mesh keys are named."""

from derpmesh.membership.records import LiveMember
from derpmesh.membership.strangers import strangers


def live(keys: dict[str, str | None] | None) -> LiveMember:
    """What a node says of itself."""
    return LiveMember(
        name="900b",
        server_key="nodekey:00",
        instance="one",
        epoch=1,
        version="1",
        state="serving",
        mesh_keys=keys,
    )


def test_strangers():
    """Whoever takes the key is none, in whichever place; nor is who says nothing."""
    found = {
        "same": live({"current": "a", "next": None, "previous": None}),
        "before": live({"current": "z", "next": "a", "previous": None}),
        "after": live({"current": "z", "next": None, "previous": "a"}),
        "older": live(None),
        "odd": live({"current": "z", "next": None, "previous": None}),
    }
    assert list(strangers("a", found)) == [
        "mesh key: odd does not take this node's, a, and has z; see"
        " `derpctl key mesh show`"
    ]
