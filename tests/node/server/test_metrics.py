"""Our own metrics by Prometheus' rules, those of the process, and the docs of all.

The tables in ``docs/reference/metrics.md`` are checked against the collector here;
``python -m tests.node.server.test_metrics`` prints what belongs into them.
"""

import asyncio
import re
import tempfile
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from derpnode.plane.contract import Refusal
from derpnode.server.admission.verdict import Outcome
from derpnode.server.exposition import exposition
from derpnode.server.metrics import EventLoopLag, make_registry
from tests.node.server.adminnode import built, clients, node_config, rows, scrape, types
from tests.node.server.test_regionmetrics import Region


DOCS = Path(__file__).resolve().parents[3] / "docs/reference/metrics.md"

PROCESS = {
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_virtual_memory_bytes": "gauge",
}


@pytest.fixture
async def node(tmp_path):
    """A node that does not run, so that its counters stay as they are set."""
    async with built(node_config(tmp_path)) as found:
        yield found


async def test_process(node):
    """The names that every Prometheus client has."""
    found = types(scrape(node))
    assert PROCESS.items() <= found.items()


async def test_logins(node):
    """As in derper, every login is an accept, whatever comes of it."""
    node.logins.outcomes.update({"ok": 5, "replay": 2, "brand_new": 1})
    node.logins.replays.refused = 2
    text = scrape(node)
    assert "\nderp_accepts 8\n" in text
    assert rows(text, "derpmesh_logins_total") == {
        'outcome="ok"': 5,
        'outcome="mesh"': 0,
        'outcome="handshake"': 0,
        'outcome="key"': 0,
        'outcome="replay"': 2,
        'outcome="app_name"': 0,
        'outcome="admission"': 0,
        'outcome="brand_new"': 1,
    }
    assert "\nderpmesh_replayed_logins_total 2\n" in text


async def test_admission(node):
    """Sources have all three outcomes from the start; rules only once they decide."""
    admission = node.admission
    admission.decisions["open", Outcome.ALLOW] = 3
    admission.decisions["budget", Outcome.UNKNOWN] = 1
    admission.guards[0].answers[Outcome.UNKNOWN] = 4
    text = scrape(node)
    assert rows(text, "derpmesh_admission_decisions_total") == {
        'source="open",outcome="allow"': 3,
        'source="open",outcome="deny"': 0,
        'source="open",outcome="unknown"': 0,
        'source="budget",outcome="unknown"': 1,
    }
    answers = rows(text, "derpmesh_admission_answers_total")
    assert answers['source="open",outcome="unknown"'] == 4
    assert rows(text, "derpmesh_admission_source_up") == {'source="open"': 1}


async def test_refusals_and_front(node):
    """Refusals by reason, timeouts by stage: all from the start."""
    node.plane.counters.refused.update({Refusal.SOURCE: 2, Refusal.GONE: 5})
    node.front.timeouts["derp"] = 3
    node.front.bad_requests = 4
    node.front.requests["1.3"] = 6
    text = scrape(node)
    refused = rows(text, "derpmesh_refused_connections_total")
    assert list(refused) == [f'reason="{one.value}"' for one in Refusal]
    assert (refused['reason="source"'], refused['reason="gone"']) == (2, 5)
    # derper's listener has a rate alone: closed at accept, not later.
    assert "\ntls_listener_rejected_connections 2\n" in text
    stages = {'stage="http"': 0, 'stage="derp"': 3, 'stage="asked"': 0}
    assert rows(text, "derpmesh_front_timeouts_total") == stages
    assert "\nderpmesh_front_bad_requests_total 4\n" in text
    assert rows(text, "derper_tls_request_version") == {'version="1.3"': 6}


async def test_state_and_certificate(node):
    """A node that does not run yet is starting; its certificate has an end."""
    node.certificates.reloads.failed = 2
    text = scrape(node)
    assert "\nderpmesh_ready 0\n" in text
    states = rows(text, "derpmesh_state")
    assert [state for state, is_it in states.items() if is_it] == ['state="starting"']
    ends = int(node.certificates.current.not_after.timestamp())
    assert f"\nderpmesh_certificate_not_after_seconds {ends}\n" in text
    reloads = {'outcome="done"': 0, 'outcome="failed"': 2}
    assert rows(text, "derpmesh_certificate_reloads_total") == reloads
    assert rows(text, "derpmesh_build_info") == {
        f'version="{node.version}",plane="python"': 1
    }


async def test_text_is_prometheus_text(node):
    """The client library's own parser reads it; every family has a help text."""
    text = scrape(node)
    families = list(text_string_to_metric_families(text))
    assert len(families) == len(types(text))
    assert all(one.documentation for one in families)


async def test_own_names_follow_the_rules(node):
    """Counters end in `_total`, gauges do not; units are whole words at the end."""
    for name, kind in types(scrape(node)).items():
        if name.startswith("derpmesh_"):
            assert name.endswith("_total") == (kind == "counter")
            assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)


async def test_ten_thousand_clients(node):
    """The text does not grow with clients, and takes no time that packets miss."""
    small = len(scrape(node))
    registry = make_registry(node, EventLoopLag())
    for client in clients(10_000):
        node.relay.register(client)
    began = time.process_time()
    text = exposition(registry.collect())
    spent = time.process_time() - began
    assert len(text) < small + 100
    assert len(text) < 32 * 1024
    assert spent < 0.25  # 8 ms in fact; coverage and busy machines take longer
    assert node.relay.client(1).key.hex() not in text


async def test_event_loop_lag(node):
    """A loop that is held up shows, and one that is not does not."""
    lag = EventLoopLag(interval=0.01)
    lag.stop()
    lag.start()
    await asyncio.sleep(0.05)
    time.sleep(0.15)  # noqa: ASYNC251 - this is what it is for
    await asyncio.sleep(0.05)
    lag.stop()
    counted = lag.counts.total()
    found = rows(scrape(node, lag), "derpmesh_event_loop_lag_seconds_bucket")
    assert found['le="0.1"'] < found['le="+Inf"'] == counted
    assert lag.total > 0.1
    await asyncio.sleep(0.03)
    assert lag.counts.total() == counted


async def test_tasks(node):
    """One more while something goes on beside the others, and not any more after."""
    before = tasks(node)
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(over.wait())
        assert tasks(node) == before + 1
        over.set()
    assert tasks(node) == before


def tasks(node) -> float:
    """Read how many tasks there are."""
    return rows(scrape(node), "derpmesh_tasks")[""]


# The reference page.


def reference(text: str) -> list[str]:
    """Give the rows of the tables in the docs: name, type, labels, meaning."""
    found = []
    for name, kind in types(text).items():
        help_text = re.search(rf"^# HELP {name} (.*)$", text, re.MULTILINE)[1]
        samples = re.findall(rf"^{name}(?:_bucket)?\{{(.*?)\}} ", text, re.MULTILINE)
        labels = re.findall(r'(\w+)="', samples[0]) if samples else []
        shown = ", ".join(f"`{label}`" for label in labels)
        found.append(f"| `{name}` | {kind} | {shown} | {help_text} |")
    return found


async def documented() -> list[str]:
    """Give the rows for a node on which everything is turned on."""
    with tempfile.TemporaryDirectory() as directory:
        limits = {"receive_rate": 1000}
        async with built(node_config(Path(directory), limits=limits)) as node:
            # Labels whose values are not known before they occur.
            node.front.requests["1.3"] = 1
            node.plane.counters.tls_versions["1.3"] = 1
            node.region = Region()
            return reference(scrape(node))


async def test_every_metric_is_documented():
    """The page has a row for each metric, word for word, and no other row."""
    page = DOCS.read_text()
    written = [line for line in page.splitlines() if line.startswith("| `")]
    assert sorted(written) == sorted(await documented())


if __name__ == "__main__":
    print("\n".join(asyncio.run(documented())))  # noqa: T201 - to be pasted
