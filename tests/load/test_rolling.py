"""A region whose nodes are restarted one after the other, under load."""

import json
import time
from dataclasses import dataclass

import pytest

from tests.load.fleet import PAIRS, PATIENCE, Fleet, clients, roaming
from tests.load.generator import Report
from tests.load.node import Node, becomes
from tests.load.scale import LIMIT


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

CLIENTS = 2_000
NAMES = ("900a", "900b", "900c")

GAP = 3.0
"""Seconds that 99 of 100 clients may be without a node, each time that they move."""


@dataclass(frozen=True)
class Renewal:
    """One node that was drained and restarted."""

    sent_away: int
    """Clients that it had."""

    drained: float
    """Seconds that `derpctl node drain --wait` took."""

    whole: float
    """Seconds until it took clients again."""


def state(node: Node) -> object:
    """What a node says that it does."""
    return node.ask("/v1/node")["state"]


def renew(region: Fleet, name: str) -> Renewal:
    """Drain a node, restart it, and have it take clients again, as an operator does."""
    began = time.monotonic()
    here = clients(region.node(name))
    region.ctl("node", "drain", name, "--wait")
    drained = time.monotonic() - began
    assert clients(region.node(name)) == 0
    region.stop(name)
    region.start(name)
    region.ctl("node", "undrain", name)
    assert becomes(lambda: state(region.node(name)) == "serving", PATIENCE)
    region.await_mesh()
    return Renewal(here, drained, time.monotonic() - began)


def figures(report: Report, done: list[Renewal], what: str) -> str:
    """Put into words what it cost the clients.

    A packet is accounted for by a reconnect if its receiver was away when it was due,
    a second afterwards included, or if either end was cut within 0.25 s of that. Pairs
    lose no other packet.
    """
    sent_away = sum(one.sent_away for one in done)
    steps = ", ".join(f"{one.drained:.1f} of {one.whole:.1f}" for one in done)
    return (
        f"{what}: {sent_away} reconnects of {CLIENTS} clients; drained in {steps} s;"
        f" gap p50 {report.number('gap_ms.p50') / 1000:.2f} s, p99"
        f" {report.number('gap_ms.p99') / 1000:.2f} s ({GAP:g}), failed attempts"
        f" {report.counts('failed_attempts') or 'none'};"
        f" {report.number('pairs.traffic.lost'):.0f} of"
        f" {report.number('pairs.traffic.sent'):.0f} packets of {PAIRS} pairs lost,"
        f" {report.number('pairs.unexplained'):.0f} of them not by a reconnect (0)"
    )


def assert_cheap(report: Report, done: list[Renewal]) -> None:
    """See that it cost the clients no more than it may."""
    assert report.is_ok, json.dumps(report.document)
    assert report.counts("failed_attempts") == {}
    assert report.number("cuts") == sum(one.sent_away for one in done) >= CLIENTS
    assert report.number("gap_ms.p99") <= 1_000 * GAP
    assert report.number("pairs.unexplained") == 0


def test_nodes_are_restarted_one_by_one(generator, start_fleet, say):
    """Each is drained first: nobody fails to connect, no packet is lost beside that."""
    with start_fleet(3) as region:
        region.start(*NAMES)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as run:
            done = [renew(region, name) for name in NAMES]
            report = run.finish()
        say(figures(report, done, "rolling restart"))
        assert_cheap(report, done)


def test_nodes_are_restarted_while_etcd_is_away(generator, start_fleet, say):
    """From before the first drain to after the last: derpctl tells the nodes itself.

    A node that starts meanwhile meshes by what it last knew. When etcd is back, all are
    recorded again, and nothing that was said meanwhile is left to be done.
    """
    with start_fleet(3) as region:
        region.start(*NAMES)
        region.await_mesh()
        with roaming(generator, region.nodes, CLIENTS) as run:
            region.etcd.kill()
            done = [renew(region, name) for name in NAMES]
            report = run.finish()
        say(figures(report, done, "rolling restart without etcd"))
        assert_cheap(report, done)
        region.etcd.launch({region.etcd.name: region.etcd.peer_url})
        region.etcd.until_ready()
        assert becomes(lambda: all(map(is_content, region.nodes)), PATIENCE)


def is_content(node: Node) -> bool:
    """Whether a node serves, reads the registry, and has nothing to complain of."""
    membership = node.ask("/v1/membership")
    return (
        state(node) == "serving"
        and membership["source"] == "etcd"
        and len(membership["live"]) == len(NAMES)
        and not node.ask("/v1/node")["notes"]
    )
