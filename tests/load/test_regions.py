"""A region under load that loses nodes, and gets new ones: M1, M7 and M10."""

import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest
import yaml

from tests.load.generator import Generator, Run
from tests.load.node import Node, becomes
from tests.load.scale import LIMIT


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

CLIENTS = 1_000
PAIRS = 100
"""Of the clients, how many pairs exchange packets, at two a second each."""


@contextlib.contextmanager
def roaming(generator: Generator, nodes: Sequence[Node]) -> Iterator[Run]:
    """Have clients on the first node of a region, and partners of some on all of them.

    The second node is the one that is watched: most will come to it.
    """
    others = [word for node in nodes[1:] for word in ("--node", node.address)]
    watched = dataclasses.replace(nodes[1], address=nodes[0].address)
    words = ("roam", "--clients", CLIENTS, "--pairs", PAIRS, "--rate", 2 * PAIRS)
    with generator.start(watched, *words, *others) as run:
        ready = run.event(within=LIMIT)
        assert ready.counts("on")[nodes[0].address] > CLIENTS / 2
        yield run


def clients(node: Node) -> int:
    """How many clients a node has, links of other nodes not counted."""
    found = node.ask("/v1/status")["clients"]
    assert isinstance(found, dict)
    return int(found["connections"]) - int(found["mesh"])


def all_are_on(nodes: Sequence[Node]) -> bool:
    """Wait until these nodes have every client."""
    return becomes(lambda: sum(map(clients, nodes)) == CLIENTS, within=60)


def test_a_node_is_drained_under_load(generator, start_region, say):
    """M10: nobody fails to connect, and a client's gap is 3 s at most for 99 of 100.

    A node that is drained refuses TCP, so that clients go on to the next one.
    """
    with start_region(3) as nodes, roaming(generator, nodes) as run:
        first, *others = nodes
        here = clients(first)
        began = datetime.now(UTC)
        first.ask("/v1/drain", "POST")
        assert becomes(lambda: first.ask("/v1/node")["state"] == "drained", within=60)
        lasted = (datetime.now(UTC) - began).total_seconds()
        assert all_are_on(others)
        left = clients(first)
        assert all_are_on(others)
        report = run.finish()
        say(
            f"M10: {here} clients sent away in {lasted:.1f} s, gap p50"
            f" {report.number('away_ms.p50') / 1000:.2f} s, p99"
            f" {report.number('away_ms.p99') / 1000:.2f} s (3), failed attempts"
            f" {report.counts('failed_attempts') or 'none'},"
            f" {report.number('pairs.traffic.lost'):.0f} of"
            f" {report.number('pairs.traffic.sent'):.0f} packets lost,"
            f" others use {report.others():.1f} CPUs"
        )
        assert report.is_ok, json.dumps(report.document)
        assert report.counts("failed_attempts") == {}
        assert report.number("cuts") >= here == report.number("away_ms.count")
        assert report.number("away_ms.p99") <= 3_000
        assert left == report.counts("on")[first.address] == 0


def lost(node: Node, peer: Node) -> datetime | None:
    """When a node noted that its link to another was lost."""
    for line in map(json.loads, node.log()):
        if line["message"].startswith(f"link {peer.name}: lost"):
            return datetime.fromisoformat(line["timestamp"])
    return None


def test_a_node_is_killed_under_load(generator, start_region, say):
    """M1: its routes are gone in a second; clients are back in 3 s, most in 8."""
    with start_region(3) as nodes, roaming(generator, nodes) as run:
        victim, *others = nodes
        here = clients(victim)
        assert all(node.links()[victim.name]["keys"] for node in others)
        began = datetime.now(UTC)
        os.kill(victim.pid, signal.SIGKILL)
        assert becomes(lambda: all(lost(node, victim) for node in others), within=30)
        gone = [lost(node, victim) for node in others]
        slowest = max((at - began).total_seconds() for at in gone if at is not None)
        assert [node.links()[victim.name]["keys"] for node in others] == [0, 0]
        report = run.finish()
        say(
            f"M1: routes of {here} clients gone in {slowest:.2f} s (1), back p50"
            f" {report.number('away_ms.p50') / 1000:.2f} s (3), p99"
            f" {report.number('away_ms.p99') / 1000:.2f} s (8), failed attempts"
            f" {report.counts('failed_attempts') or 'none'},"
            f" others use {report.others():.1f} CPUs"
        )
        assert report.is_ok, json.dumps(report.document)
        assert report.number("away_ms.count") == here
        assert report.number("away_ms.p50") <= 3_000
        assert report.number("away_ms.p99") <= 8_000
        assert slowest <= 1


def set_members(nodes: Sequence[Node], wanted: Sequence[Node]) -> datetime:
    """Have only some of the nodes in the region's file; tell when that was."""
    file = nodes[0].log_file.with_name("region.yaml")
    whole = file.with_name("whole.yaml")
    if not whole.exists():
        whole.write_bytes(file.read_bytes())
    tree = yaml.safe_load(whole.read_text())
    names = {node.name for node in wanted}
    tree["nodes"] = [one for one in tree["nodes"] if one["name"] in names]
    fresh = file.with_name("fresh.yaml")
    fresh.write_text(yaml.safe_dump(tree, sort_keys=False))
    began = datetime.now(UTC)
    fresh.replace(file)
    return began


def last(node: Node, message: str) -> datetime:
    """When a node said something, the last time."""
    said = [one for one in map(json.loads, node.log()) if one["message"] == message]
    return datetime.fromisoformat(said[-1]["timestamp"])


def test_members_come_and_go_under_load(generator, start_region, say):
    """M7: a new node is linked within 3 s, and one that is removed is not any more."""
    with start_region(4) as nodes:
        *old, new = nodes
        set_members(nodes, old)
        assert becomes(lambda: all(new.name not in n.links() for n in old), within=30)
        with roaming(generator, old) as run:
            began = set_members(nodes, nodes)
            assert becomes(lambda: all(is_linked(n, new) for n in old), within=30)
            said = [last(node, f"link {new.name}: up") for node in old]
            joined = (max(said) - began).total_seconds()
            began = set_members(nodes, old)
            assert becomes(
                lambda: all(new.name not in n.links() for n in old), within=30
            )
            closing = f"link {new.name}: closing; it is not wanted any more"
            said = [last(node, closing) for node in old]
            left = (max(said) - began).total_seconds()
            report = run.finish()
        say(
            f"M7: linked in {joined:.2f} s (3), not any more in {left:.2f} s (3),"
            f" {report.number('pairs.traffic.lost'):.0f} packets lost (0),"
            f" others use {report.others():.1f} CPUs"
        )
        assert report.is_ok, json.dumps(report.document)
        assert report.number("cuts") == report.number("pairs.traffic.lost") == 0
        assert joined <= 3
        assert left <= 3


def is_linked(node: Node, peer: Node) -> bool:
    """Whether a node has a link to another that is up."""
    return node.links().get(peer.name, {}).get("state") == "up"
