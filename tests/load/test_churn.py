"""Clients that come and go all the time: L9."""

import json
import os
import signal
import time

import pytest

from tests.load.counted import SAID
from tests.load.fleet import Fleet, clients
from tests.load.node import Node, becomes
from tests.load.scale import LIMIT, sized
from tests.load.visitors import p99, visitors


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

LASTS = sized(900.0, 60.0)
"""Seconds of churn; it was meant for a day, and what leaks with each client shows."""

EVERY = 0.02
"""Seconds from one client to the next."""

NAMES = ("900a", "900b")
SPARE = 5
"""Tasks and descriptors by which a node may differ from before."""

MIB = 1 << 20


def test_nothing_is_left_of_clients_that_went(start_fleet, say):
    """Fifty come and go a second; tasks and descriptors are as before on both nodes.

    Memory is a figure only: in a minute it tells of warming up more than of leaks.
    """
    with start_fleet(2) as region:
        region.start(*NAMES, module="tests.load.counted")
        region.await_mesh()
        node = region.node(NAMES[0])
        visit(node, 2.0)  # what is made once is made
        before = counts(region)
        memory = node.rss()
        took = visit(node, LASTS)
        assert becomes(lambda: are_close(before, counts(region)), within=60), before
        after = counts(region)
        grown = node.rss() - memory
        say(
            f"L9: {len(took)} clients came and went in {LASTS:.0f} s, p99"
            f" {p99(took) * 1000:.0f} ms; tasks and descriptors {before} before,"
            f" {after} after (+-{SPARE}); memory {grown / MIB:+.1f} MiB"
        )
        assert len(took) >= 0.2 * LASTS / EVERY
        for one in region.nodes:
            log = one.log_file.read_text()
            assert "never awaited" not in log
            assert "Traceback" not in log


def visit(node: Node, seconds: float) -> list[float]:
    """Have clients come and go for a while; return how long each took to log in."""
    with visitors(node, EVERY) as took:
        time.sleep(seconds)
    assert becomes(lambda: clients(node) == 0, within=30)
    return took


def counts(region: Fleet) -> dict[str, tuple[int, int]]:
    """Count the tasks and the descriptors of each node."""
    return {one.name: (tasks(one), one.descriptors()) for one in region.nodes}


def tasks(node: Node) -> int:
    """Ask a node how many tasks it has."""
    before = len(told(node))
    os.kill(node.pid, signal.SIGUSR2)
    assert becomes(lambda: len(told(node)) > before, within=30)
    return told(node)[-1]


def told(node: Node) -> list[int]:
    """Read what a node has logged of its tasks."""
    messages = (str(json.loads(line)["message"]) for line in node.log())
    return [int(said[len(SAID) :]) for said in messages if said.startswith(SAID)]


def are_close(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> bool:
    """Whether all counts are as they were, or nearly."""
    return all(
        abs(now - then) <= SPARE
        for name, pair in before.items()
        for then, now in zip(pair, after[name], strict=True)
    )
