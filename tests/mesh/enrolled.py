"""Nodes that record themselves in a real etcd, and what is recorded of them."""

import asyncio
import os
import time

import pytest

from derpmesh.membership.keys import Keys
from derpmesh.membership.records import LiveMember
from tests.mesh.region import LOOK, PATIENCE, REGION, LocalNode, Place
from tests.support.etcd import Server, stored


KEYS = Keys("/derpmesh/v1", REGION.id)

TTL = 5
"""Seconds that a lease lasts; the least that a configuration may have."""

NAMES = ["900a", "900b", "900c"]


def enrolled(place: Place, etcd: Server, ttl: int = TTL) -> Place:
    """Have a node record itself."""
    place.configure(registry={"etcd": {"endpoints": [etcd.url], "ttl": ttl}})
    return place


def members(node: LocalNode) -> list[str]:
    """The names in force, in the order of the map."""
    return [str(one["name"]) for one in node.node.region.membership()["members"]]


def live(etcd: Server, name: str) -> LiveMember | None:
    """What a node says of itself under its lease."""
    key = KEYS.of("members", name)
    found = stored(etcd.url, key)
    return LiveMember.read(key, found.value) if found is not None else None


def leases(etcd: Server, *nodes: Place) -> dict[str, int]:
    """The leases of those that are recorded, by name."""
    found = {
        node.name: stored(etcd.url, KEYS.of("members", node.name)) for node in nodes
    }
    return {name: one.lease for name, one in found.items() if one is not None}


def up_since(*nodes: LocalNode) -> dict[tuple[str, str], float]:
    """When each link came up; those that are not up are left out."""
    now = time.monotonic()
    return {
        (node.name, str(link["peer"])): now - float(str(link["since"]))
        for node in nodes
        for link in node.node.region.links()
        if link["state"] == "up"
    }


def assert_kept(before: dict[tuple[str, str], float], *nodes: LocalNode) -> None:
    """See that no link has been down since."""
    assert up_since(*nodes) == pytest.approx(before, abs=0.5)


async def assert_relayed(region, one: Place, other: Place) -> None:
    """See that two new clients reach each other."""
    near = await region.connect(one)
    far = await region.connect(other)
    data = os.urandom(16)
    async with asyncio.timeout(PATIENCE):
        while data not in far.packets(near):  # the other node may not know yet
            await near.send(far, data)
            await asyncio.sleep(LOOK)
