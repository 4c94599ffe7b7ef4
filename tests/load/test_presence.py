"""Many clients, and those who must know of each: L10."""

import json
import time

import pytest

from tests.load.node import becomes, watching
from tests.load.scale import LIMIT, sized
from tests.load.watchers import stuck, watchers


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

CLIENTS = sized(10_000, 1_000)
MIB = 1 << 20

ASKED = 200_000 // CLIENTS
"""Times that one who is stuck asks for everybody: it must be owed them only once."""

WAITING = "derpmesh_queued_bytes"

COMPLETE = 2.0
"""Seconds after the last client came until each watcher knows all of them."""


def test_every_watcher_knows_everybody(generator, start_node, say):
    """Four watch while the clients come, and know them all soon after the last."""
    load = ("idle", "--clients", CLIENTS, "--settle", 0, "--check", 0)
    with start_node() as node, watchers(node, 4) as found:
        with generator.start(node, *load) as idle:
            ready = idle.event(within=LIMIT)
            came = time.monotonic()
            assert becomes(
                lambda: all(len(one.present) == CLIENTS for one in found), within=30
            )
            late = max(one.heard for one in found) - came
            crowd = idle.finish()
        gone = becomes(lambda: all(not one.present for one in found), within=30)
        say(
            f"L10: {CLIENTS} clients came in {ready.number('connect_s'):.1f} s; four"
            f" watchers knew all of them {max(late, 0):.2f} s later ({COMPLETE:g})"
        )
    assert crowd.is_ok, json.dumps(crowd.document)
    assert late <= COMPLETE
    assert gone


def test_a_watcher_that_does_not_read_holds_little(generator, start_node, say):
    """However often it asks for everybody, and whoever comes and goes meanwhile.

    After ten seconds it is cut; what counts is the most that was held until then.
    """
    churn = ("handshakes", "--count", CLIENTS, "--warmup-count", 0)
    limit = sized(10, 2) * MIB
    with start_node() as node:
        load = ("idle", "--clients", CLIENTS, "--check", 0)
        with generator.start(node, *load) as idle:
            idle.event(within=LIMIT)
            generator.run(node, *churn)
            before = node.rss()
            usual = generator.run(node, *churn)
            own = node.rss() - before
            before = node.rss()
            with stuck(node, ASKED), watching(node.rss) as seen:
                assert becomes(lambda: node.metric(WAITING) > 0, within=30)
                report = generator.run(node, *churn)
            crowd = idle.finish()
        held = max(seen) - before
        say(
            f"L10: one that does not read, of {CLIENTS} clients and as many that come"
            f" and go: {held / MIB:.1f} MiB ({limit / MIB:g}), {own / MIB:.1f} without"
        )
    assert crowd.is_ok, json.dumps(crowd.document)
    assert usual.is_ok, json.dumps(usual.document)
    assert report.is_ok, json.dumps(report.document)
    assert held <= limit
