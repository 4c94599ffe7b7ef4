"""`/metrics`: derper's names exactly, our own by Prometheus' rules, and the docs.

The table in ``docs/reference/metrics.md`` is checked against the collector here;
``python -m tests.node.server.test_metrics`` prints what belongs into it.
"""

import asyncio
import math
import re
import tempfile
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from derpnode.plane.contract import Counters, DropReason, Refusal
from derpnode.server.admission.verdict import Outcome
from derpnode.server.exposition import counter, exposition, family, histogram, number
from derpnode.server.metrics import EventLoopLag, make_registry
from derpnode.server.processmetrics import ProcessFacts, process_facts
from tests.node.server.adminnode import built, clients, node_config


DOCS = Path(__file__).resolve().parents[3] / "docs/reference/metrics.md"

# As derper 1.104.5 serves them; names of Go's runtime are left out, and so is
# `derp_version`, which it only mentions in a comment.
DERPER = {
    "bootstrap_dns_published_hits": "counter",
    "bootstrap_dns_published_misses": "counter",
    "bootstrap_dns_queried_domains": "counter",
    "bootstrap_dns_requests": "counter",
    "bootstrap_dns_unpublished_hits": "counter",
    "bootstrap_dns_unpublished_misses": "counter",
    "bootstrap_dns_unpublished_percent_misses": "counter",
    "derp_accepts": "counter",
    "derp_average_queue_duration_ms": "untyped",
    "derp_buffered_write_frames": "histogram",
    "derp_bytes_dropped": "counter",
    "derp_bytes_received": "counter",
    "derp_bytes_sent": "counter",
    "derp_clients_local": "gauge",
    "derp_clients_remote": "gauge",
    "derp_clients_total": "gauge",
    "derp_current_connections": "gauge",
    "derp_current_dup_client_conns": "gauge",
    "derp_current_dup_client_keys": "gauge",
    "derp_current_file_descriptors": "gauge",
    "derp_current_home_connections": "gauge",
    "derp_current_notideal_connections": "gauge",
    "derp_got_ping": "counter",
    "derp_home_moves_in": "counter",
    "derp_home_moves_out": "counter",
    "derp_memstats_sys0": "gauge",
    "derp_mesh_update_batch_size": "histogram",
    "derp_mesh_update_loop_count": "histogram",
    "derp_multiforwarder_created": "counter",
    "derp_multiforwarder_deleted": "counter",
    "derp_packet_forwarder_delete_other_value": "counter",
    "derp_packets_dropped": "counter",
    "derp_packets_forwarded_in": "counter",
    "derp_packets_forwarded_out": "counter",
    "derp_packets_received": "counter",
    "derp_packets_received_kind": "counter",
    "derp_packets_sent": "counter",
    "derp_peer_gone_disconnected_frames": "counter",
    "derp_peer_gone_not_here_frames": "counter",
    "derp_sclient_write_timeouts": "counter",
    "derp_sent_pong": "counter",
    "derp_tcp_rtt": "counter",
    "derp_total_dup_client_conns": "counter",
    "derp_unknown_frames": "counter",
    "derp_watchers": "gauge",
    "derp_websocket_accepts": "counter",
    "derper_tls_active_version": "gauge",
    "derper_tls_request_version": "untyped",
    "node_boot_time_seconds": "untyped",
    "process_start_unix_time": "untyped",
    "stun_addrfamily": "counter",
    "stun_no_local_addr": "counter",
    "stun_requests": "counter",
    "tls_listener_accepted_connections": "counter",
    "tls_listener_rejected_connections": "counter",
    "uptime_sec": "counter",
    "version": "untyped",
}
RATE_LIMITED = {
    "derp_rate_limit_per_client_burst_bytes": "untyped",
    "derp_rate_limit_per_client_bytes_per_second": "untyped",
    "derp_rate_limit_per_client_waited": "counter",
}
PROCESS = {
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_virtual_memory_bytes": "gauge",
}

DROPS = [
    f'reason="{reason}",kind="{kind}"'
    for reason in (
        "dup_client",
        "gone_disconnected",
        "queue_head",
        "queue_tail",
        "unknown_dest",
        "unknown_dest_on_fwd",
        "write_error",
    )
    for kind in ("disco", "other")
]
BUCKETS = {
    "derp_buffered_write_frames": "0 1 2 3 4 5 6 7 8 9 10 15 20 25 50 100 +Inf",
    "derp_mesh_update_batch_size": "0 1 2 5 10 20 50 100 200 500 1000 +Inf",
    "derp_mesh_update_loop_count": "0 1 2 5 10 20 50 100 +Inf",
}


def scrape(node, lag: EventLoopLag | None = None) -> str:
    return exposition(make_registry(node, lag or EventLoopLag()).collect())


def types(text: str) -> dict[str, str]:
    """Give the type of each family by name."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def rows(text: str, name: str) -> dict[str, float]:
    """Give the samples of a family by the text of their labels, in their order."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


@pytest.fixture
async def node(tmp_path):
    """A node that does not run, so that its counters stay as they are set."""
    async with built(node_config(tmp_path)) as found:
        yield found


async def test_names_and_types(node):
    """Every name of derper is there, with its type, and no other without a prefix."""
    found = types(scrape(node))
    own = {name for name in found if name.startswith("derpmesh_")}
    assert {name: found[name] for name in found.keys() - own} == DERPER | PROCESS


async def test_rate_limit(tmp_path):
    """As in derper, these are there only where clients are limited."""
    limits = {"receive_rate": 1000, "receive_burst": 70_000}
    async with built(node_config(tmp_path, limits=limits)) as node:
        text = scrape(node)
    assert RATE_LIMITED.items() <= types(text).items()
    assert "\nderp_rate_limit_per_client_bytes_per_second 1000\n" in text
    assert "\nderp_rate_limit_per_client_burst_bytes 70000\n" in text


async def test_no_tls(tmp_path):
    """Without TLS there is no TLS listener, as in derper, and no certificate."""
    async with built(node_config(tmp_path, tls={"mode": "off"})) as node:
        found = types(scrape(node))
    assert not [name for name in found if "tls_listener" in name]
    assert not [name for name in found if "certificate" in name]


@pytest.mark.parametrize("unit", ["packets", "bytes"])
async def test_drops(node, unit):
    """All 14 rows are there from the start, reason before kind."""
    name = f"derp_{unit}_dropped"
    assert list(rows(scrape(node), name)) == DROPS
    counts = getattr(node.plane.counters, f"dropped_{unit}")
    counts[DropReason.GONE, True] = 5
    counts[DropReason.UNKNOWN_DEST_ON_FWD, False] = 7
    found = {labels: n for labels, n in rows(scrape(node), name).items() if n}
    assert found == {
        'reason="gone_disconnected",kind="disco"': 5,
        'reason="unknown_dest_on_fwd",kind="other"': 7,
    }


@pytest.mark.parametrize(("name", "bounds"), BUCKETS.items())
async def test_buckets(node, name, bounds):
    """First the buckets with bounds of derper, then the sum, then the count."""
    text = scrape(node)
    assert list(rows(text, f"{name}_bucket")) == [f'le="{b}"' for b in bounds.split()]
    assert f"\n{name}_sum 0\n{name}_count 0\n" in text


async def test_histogram_is_cumulative(node):
    """The plane rounds flushes up to a bound, and above 100 to 101."""
    node.plane.counters.flush_frames.update({1: 3, 15: 2, 101: 1})
    text = scrape(node)
    found = rows(text, "derp_buffered_write_frames_bucket")
    assert [found[f'le="{le}"'] for le in ("0", "1", "10", "15", "100")] == [
        0,
        3,
        3,
        5,
        5,
    ]
    assert found['le="+Inf"'] == 6
    assert "\nderp_buffered_write_frames_sum 134\n" in text
    assert "\nderp_buffered_write_frames_count 6\n" in text


async def test_rtt_is_not_cumulative(node):
    """The labels are derper's; what it adds for broken connections comes after."""
    node.plane.counters.rtt.update({"20ms": 4, "error": 1})
    assert rows(scrape(node), "derp_tcp_rtt") == {
        'le="10ms"': 0,
        'le="20ms"': 4,
        'le="50ms"': 0,
        'le="100ms"': 0,
        'le="150ms"': 0,
        'le="250ms"': 0,
        'le="500ms"': 0,
        'le="inf"': 0,
        'le="error"': 1,
    }


async def test_stun(node):
    """Dispositions and families in derper's order."""
    counters = node.stun.counters
    counters.success, counters.not_stun, counters.ipv6 = 3, 4, 5
    counters.no_local_addr, counters.silent = 6, 7
    text = scrape(node)
    assert rows(text, "stun_requests") == {
        'disposition="not_stun"': 4,
        'disposition="read_error"': 0,
        'disposition="success"': 3,
        'disposition="write_error"': 0,
    }
    assert rows(text, "stun_addrfamily") == {'family="ipv4"': 0, 'family="ipv6"': 5}
    assert "\nstun_no_local_addr 6\n" in text
    assert "\nderpmesh_stun_silent_total 7\n" in text


# Where each plain number comes from: its metric, the part of the node, the field.
SOURCES = [
    ("derp_bytes_received", "plane", "bytes_received"),
    ("derp_bytes_sent", "plane", "bytes_sent"),
    ("derp_packets_sent", "plane", "packets_sent"),
    ("derp_packets_forwarded_in", "plane", "forwarded_in"),
    ("derp_packets_forwarded_out", "plane", "forwarded_out"),
    ("derp_got_ping", "plane", "pings"),
    ("derp_sent_pong", "plane", "pongs"),
    ("derp_unknown_frames", "plane", "unknown_frames"),
    ("derp_sclient_write_timeouts", "plane", "write_timeouts"),
    ("tls_listener_accepted_connections", "plane", "accepted"),
    ("derpmesh_accepted_connections_total", "plane", "accepted"),
    ("derpmesh_connections", "plane", "connections"),
    ("derpmesh_handshakes_in_flight", "plane", "handshakes"),
    ("derpmesh_queued_bytes", "plane", "queued_bytes"),
    ("derp_total_dup_client_conns", "relay", "duplicate_accepts"),
    ("derp_home_moves_in", "relay", "home_moves_in"),
    ("derp_home_moves_out", "relay", "home_moves_out"),
    ("derp_peer_gone_disconnected_frames", "relay", "peer_gone_disconnected"),
    ("derp_peer_gone_not_here_frames", "relay", "peer_gone_not_here"),
    ("derp_multiforwarder_created", "relay", "multiforwarder_created"),
    ("derp_multiforwarder_deleted", "relay", "multiforwarder_deleted"),
    ("derp_packet_forwarder_delete_other_value", "relay", "forwarder_delete_other"),
]


async def test_sources(node, monkeypatch):
    """Each plain number is the counter that it should be, and no other."""
    # The Python plane counts some when it is asked; it is to give ours.
    monkeypatch.setattr(type(node.plane), "counters", Counters())
    for mark, (_, part, field) in enumerate(SOURCES, start=1000):
        setattr(getattr(node, part).counters, field, mark)
    text = scrape(node)
    for name, part, field in SOURCES:
        value = getattr(getattr(node, part).counters, field)
        assert value >= 1000
        assert f"\n{name} {value}\n" in text


async def test_packets_by_kind(node):
    """The total is the sum of both kinds."""
    counters = node.plane.counters
    counters.packets_received_disco, counters.packets_received_other = 2, 5
    counters.queue_seconds = 0.0015
    text = scrape(node)
    assert "\nderp_packets_received 7\n" in text
    kinds = {'kind="disco"': 2, 'kind="other"': 5}
    assert rows(text, "derp_packets_received_kind") == kinds
    assert "\nderp_average_queue_duration_ms 1.5\n" in text


async def test_population(node):
    """Connections by what they are; two share a key."""
    first, second, third = clients(3)
    first.home = second.home = second.not_ideal = True
    third.key = second.key
    for client in (first, second, third):
        node.relay.register(client)
    text = scrape(node)
    for name, value in {
        "derp_current_connections": 3,
        "derp_current_home_connections": 2,
        "derp_current_notideal_connections": 1,
        "derp_clients_total": 2,
        "derp_clients_local": 2,
        "derp_clients_remote": 0,
        "derp_current_dup_client_keys": 1,
        "derp_current_dup_client_conns": 2,
        "derp_watchers": 0,
    }.items():
        assert f"\n{name} {value}\n" in text


async def test_mesh_updates(node):
    """One batch a wake-up; of the sizes only sum and count are known."""
    node.relay.presence.batches, node.relay.presence.records = 2, 70
    text = scrape(node)
    loops = rows(text, "derp_mesh_update_loop_count_bucket")
    assert (loops['le="0"'], loops['le="1"'], loops['le="+Inf"']) == (0, 2, 2)
    assert "\nderp_mesh_update_batch_size_sum 70\n" in text
    assert "\nderp_mesh_update_batch_size_count 2\n" in text


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


@pytest.mark.slow
async def test_ten_thousand_clients(node):
    """The text does not grow with clients, and takes no time that packets miss."""
    small = len(scrape(node))
    registry = make_registry(node, EventLoopLag())
    for client in clients(10_000):
        node.relay.register(client)
    times = []
    for _ in range(5):
        began = time.process_time()
        text = exposition(registry.collect())
        times.append(time.process_time() - began)
    assert len(text) < small + 100
    assert len(text) < 32 * 1024
    assert min(times) < 0.02
    assert node.relay.client(1).key.hex() not in text


def test_numbers():
    """Whole numbers have no point; infinities are as Go writes them."""
    values = [0, 5.0, 1.5, 2**63, True, math.inf, -math.inf, 1e-9]
    written = ["0", "5", "1.5", "9223372036854775808", "1", "+Inf", "-Inf", "1e-09"]
    assert [number(value) for value in values] == written


def test_escapes():
    """Help and labels may hold what would end a line or a value."""
    metric = family("gauge", "x", "a\\b\nc", [({"l": 'q"\\\n'}, 1)])
    assert exposition([metric]) == (
        '# HELP x a\\\\b\\nc\n# TYPE x gauge\nx{l="q\\"\\\\\\n"} 1\n'
    )


def test_counters_keep_their_names():
    """The client library would write `derp_accepts_total`."""
    assert exposition([counter("derp_accepts", "Text.", 1)]) == (
        "# HELP derp_accepts Text.\n# TYPE derp_accepts counter\nderp_accepts 1\n"
    )


def test_histogram_bounds_are_inclusive():
    """A value that is a bound is in that bucket. Source: Prometheus, `le`."""
    text = exposition([histogram("h", "Text.", (1, 2), [(1, 1), (1.5, 1)], 2.5)])
    assert rows(text, "h_bucket") == {'le="1"': 1, 'le="2"': 2, 'le="+Inf"': 2}


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


def test_process_facts():
    """What Linux says of this very process."""
    facts = process_facts()
    assert facts.resident > 1 << 20
    assert facts.virtual >= facts.resident
    assert 0 < facts.open_files < facts.open_files_limit
    assert facts.cpu == pytest.approx(time.process_time(), abs=1)
    assert facts.booted < facts.started


def test_process_facts_of_older_kernels(tmp_path):
    """Before Linux 6.2 the directory says no number, so it is listed."""
    (tmp_path / "self/fd").mkdir(parents=True)
    stat = f"1 (a) b) S {' '.join(str(n) for n in range(2, 50))}"
    (tmp_path / "self/stat").write_text(stat)
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1000\n")
    facts = process_facts(tmp_path)
    assert facts.booted == 1000
    assert facts.virtual == 21


def test_process_facts_without_proc(tmp_path):
    """Where there is no /proc, there are zeros, and no failure."""
    facts = process_facts(tmp_path)
    assert facts == ProcessFacts(open_files_limit=facts.open_files_limit)


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
            return reference(scrape(node))


async def test_every_metric_is_documented():
    """The page has a row for each metric, word for word, and no other row."""
    page = DOCS.read_text()
    written = [line for line in page.splitlines() if line.startswith("| `")]
    assert sorted(written) == sorted(await documented())


if __name__ == "__main__":
    print("\n".join(asyncio.run(documented())))  # noqa: T201 - to be pasted
