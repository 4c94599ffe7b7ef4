"""Many clients that hold: L7."""

import json

import pytest

from tests.load.generator import allowed
from tests.load.node import lag
from tests.load.scale import LIMIT, WHOLE, sized


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

RATED = ("pairs", "--pairs", 10, "--rate", 500, "--seconds", sized(30, 4))


def test_idle_clients_cost_little(generator, start_node, say):
    """64 KiB of memory each at most, and the others are served as if they were not.

    How late the event loop is tells how long a packet may wait.
    """
    clients = sized(10_000, 1_000)
    with start_node() as node:
        at_first = node.metrics()
        alone = generator.run(node, *RATED)
        before = node.metrics()
        with generator.start(node, "idle", "--clients", clients) as idle:
            ready = idle.event(within=LIMIT)
            idle.event(within=LIMIT)  # what it found of the clients' relaying
            held = node.metrics()
            loaded = generator.run(node, *RATED)
            after = node.metrics()
            crowd = idle.finish()
        each = ready.number("memory.rss_kib_each")
        whole = ready.number("memory.rss_kib")
        usual, _ = lag(at_first, before, 0.99)
        late, measured = lag(held, after, 0.99)
        limit = allowed(2, [alone, loaded])
        say(
            f"L7: {clients} clients at {each:.1f} KiB each (64), {whole / 1024:.0f} MiB"
            f" in all, connected in {ready.number('connect_s'):.1f} s; loop lag p99"
            f" {late * 1000:g} ms ({measured} looks), without them {usual * 1000:g} ms;"
            f" others use {loaded.others():.1f} CPUs"
        )
    assert crowd.is_ok, json.dumps(crowd.document)
    assert crowd.number("cut") == 0
    assert loaded.is_ok, loaded.document
    assert each <= 64
    assert not WHOLE or whole <= 1 << 20
    assert late <= max(0.025, limit * usual)
