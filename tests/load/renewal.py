"""A node that is drained, restarted and returned, and what that costs the clients."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.load.fleet import CURRENT, PAIRS, PATIENCE, Fleet, clients
from tests.load.generator import Report
from tests.load.node import Node, becomes


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


def renew(region: Fleet, name: str, module: str = CURRENT) -> Renewal:
    """Drain a node, restart it, and have it take clients again, as an operator does."""
    began = time.monotonic()
    here = clients(region.node(name))
    region.ctl("node", "drain", name, "--wait")
    drained = time.monotonic() - began
    assert clients(region.node(name)) == 0
    region.stop(name)
    region.start(name, module=module)
    region.ctl("node", "undrain", name)
    assert becomes(lambda: state(region.node(name)) == "serving", PATIENCE)
    region.await_mesh()
    return Renewal(here, drained, time.monotonic() - began)


def figures(report: Report, done: Sequence[Renewal], what: str) -> str:
    """Put into words what it cost the clients.

    A packet is accounted for by a reconnect if its receiver was away when it was due,
    a second afterwards included, or if either end was cut within 0.25 s of that. Pairs
    lose no other packet.
    """
    sent_away = sum(one.sent_away for one in done)
    steps = ", ".join(f"{one.drained:.1f} of {one.whole:.1f}" for one in done)
    return (
        f"{what}: {sent_away} reconnects of {report.number('clients'):.0f} clients;"
        f" drained in {steps} s;"
        f" gap p50 {report.number('gap_ms.p50') / 1000:.2f} s, p99"
        f" {report.number('gap_ms.p99') / 1000:.2f} s ({GAP:g}), failed attempts"
        f" {report.counts('failed_attempts') or 'none'};"
        f" {report.number('pairs.traffic.lost'):.0f} of"
        f" {report.number('pairs.traffic.sent'):.0f} packets of {PAIRS} pairs lost,"
        f" {report.number('pairs.unexplained'):.0f} of them not by a reconnect (0)"
    )


def assert_cheap(report: Report, done: Sequence[Renewal]) -> None:
    """See that it cost the clients no more than it may."""
    assert report.is_ok, json.dumps(report.document)
    assert report.counts("failed_attempts") == {}
    assert (
        report.number("cuts")
        == sum(one.sent_away for one in done)
        >= report.number("clients")
    )
    assert report.number("gap_ms.p99") <= 1_000 * GAP
    assert report.number("pairs.unexplained") == 0
