"""A region that grows and shrinks under load: M7, with nothing but etcd in common."""

import json
from collections.abc import Sequence
from datetime import datetime

import pytest

from tests.load.fleet import Fleet, clients, roaming
from tests.load.node import Node
from tests.load.renewal import GAP
from tests.load.scale import LIMIT


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

CLIENTS = 2_000
"""On the nodes that stay."""

MOVING = 500
"""On those that come and go, and on all others for their partners."""

STAYING, COMING = ("900a", "900b"), ("900c", "900d", "900e")

LINKED = 3.0
"""Seconds until a node that joins is linked to all, and all to it."""


def test_region_grows_and_shrinks(generator, start_fleet, say):
    """From two nodes to five and down to three; nothing restarts, and nobody is cut.

    Those who are on a node that leaves are sent away, and reach one that stays.
    """
    with start_fleet(5) as region:
        region.start(*STAYING)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as staying:
            took = [join(region, name) for name in COMING]
            last, *others = reversed(region.nodes)
            with roaming(generator, [last, *others], MOVING, pairs=50) as moving:
                here = [leave(region, name) for name in ("900e", "900d")]
                moved = moving.finish()
            stayed = staying.finish()
        say(
            f"M7: {CLIENTS} clients on two nodes; linked in"
            f" {', '.join(f'{one:.2f}' for one in took)} s ({LINKED:g}); two nodes left"
            f" with {' and '.join(map(str, here))} clients, gap p99"
            f" {moved.number('gap_ms.p99') / 1000:.2f} s ({GAP:g}), of others"
            f" {stayed.number('cuts'):.0f} cut and"
            f" {stayed.number('pairs.traffic.lost'):.0f} of"
            f" {stayed.number('pairs.traffic.sent'):.0f} packets lost (0)"
        )
        assert all(one <= LINKED for one in took)
        assert stayed.is_ok, json.dumps(stayed.document)
        assert stayed.number("cuts") == stayed.number("pairs.traffic.lost") == 0
        assert moved.is_ok, json.dumps(moved.document)
        assert moved.number("cuts") == sum(here) > MOVING / 2
        assert moved.counts("failed_attempts") == {}
        assert moved.number("pairs.unexplained") == 0
        assert moved.number("gap_ms.p99") <= 1_000 * GAP
        assert region.names == ["900a", "900b", "900c"]
        assert all(not said(node, "link ", ": lost: ") for node in region.nodes)


def join(region: Fleet, name: str) -> float:
    """Start a node; give the seconds from its start until all links are there."""
    before = region.nodes
    region.start(name)
    region.await_mesh()
    node = region.node(name)
    [began] = said(node, "", f": starting node {name}")
    ups = [said(one, f"link {name}: up")[-1] for one in before]
    ups += [said(node, f"link {one.name}: up")[-1] for one in before]
    return (max(ups) - began).total_seconds()


def leave(region: Fleet, name: str) -> int:
    """Drain a node, take it out of the region and end it; give the clients it had."""
    here = clients(region.node(name))
    region.ctl("node", "drain", name, "--wait")
    region.ctl("node", "remove", name, "--yes")
    region.stop(name)
    region.await_mesh()
    return here


def said(node: Node, start: str, part: str = "") -> Sequence[datetime]:
    """When a node logged something that begins so, and has a part."""
    lines = map(json.loads, node.log())
    return [
        datetime.fromisoformat(line["timestamp"])
        for line in lines
        if line["message"].startswith(start) and part in line["message"]
    ]
