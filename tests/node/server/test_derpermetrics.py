"""The metrics of derper: names, types, labels and buckets, as 1.104.5 has them."""

import pytest

from derpnode.plane.contract import Counters, DropReason
from tests.node.server.adminnode import built, clients, node_config, rows, scrape, types


# Names of Go's runtime are left out, and so is `derp_version`, which derper only
# mentions in a comment.
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


@pytest.fixture
async def node(tmp_path):
    """A node that does not run, so that its counters stay as they are set."""
    async with built(node_config(tmp_path)) as found:
        yield found


async def test_names_and_types(node):
    """Every name of derper is there, with its type, and no other without a prefix."""
    found = types(scrape(node))
    others = {name for name in found if name.startswith(("derpmesh_", "process_"))}
    others -= DERPER.keys()
    assert {name: found[name] for name in found.keys() - others} == DERPER


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
    first.home = second.home = True
    second.ideal = "900b"
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
