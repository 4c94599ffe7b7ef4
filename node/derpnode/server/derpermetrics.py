"""The metrics that derper has, by its names, types, labels and buckets.

Left out on purpose is what describes Go's runtime: `go_*`, `goamd64_*`,
`goroutines` and `memstats_*`. Source: protocol.md 5.16, changes-1.104.md 5.3.
"""

import math
from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from derpnode.plane.contract import DropReason, Refusal
from derpnode.server.exposition import by, counter, family, gauge, histogram, untyped
from derpnode.server.facts import NodeFacts
from derpnode.server.processmetrics import ProcessFacts
from derpnode.server.status import population, stun_counters


FRAMES: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 50, 100)
"""Bounds of `derp_buffered_write_frames`. Source: derpserver.go, ``New``."""

BATCH_SIZES: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Bounds of `derp_mesh_update_batch_size`. Source: the same."""

LOOPS: Final = (0, 1, 2, 5, 10, 20, 50, 100)
"""Bounds of `derp_mesh_update_loop_count`. Source: the same."""

RTTS: Final = ("10ms", "20ms", "50ms", "100ms", "150ms", "250ms", "500ms", "inf")
"""Labels of `derp_tcp_rtt`. Source: derpserver_linux.go."""

_AT_ACCEPT = (*(Refusal.RATE, Refusal.HANDSHAKES, Refusal.SOURCE, Refusal.CONNECTIONS),)
_BOOTSTRAP = (
    *("requests", "published_hits", "published_misses", "unpublished_hits"),
    *("unpublished_misses", "unpublished_percent_misses", "queried_domains"),
)


def derper_metrics(
    facts: NodeFacts, process: ProcessFacts, at_start: ProcessFacts
) -> Iterator[Metric]:
    """Yield derper's families.

    Args:
        facts: The node.
        process: What the system says of its process now.
        at_start: What it said when the node started.
    """
    yield from _packets(facts)
    yield from _drops(facts)
    yield from _writing(facts)
    yield from _limits(facts)
    yield from _population(facts)
    yield from _logins(facts)
    yield from _departures(facts)
    yield from _presence(facts)
    yield from _front(facts)
    yield from _stun(facts)
    yield from _bootstrap()
    yield from _process(facts, process, at_start)


def _packets(facts: NodeFacts) -> Iterator[Metric]:
    counters = facts.plane.counters
    disco, other = counters.packets_received_disco, counters.packets_received_other
    yield counter(
        "derp_packets_received",
        "Send frames from clients, those dropped later included. "
        "Not counted: Forward frames.",
        disco + other,
    )
    yield family(
        "counter",
        "derp_packets_received_kind",
        "The same, by kind: disco packets, which clients find paths with, and others.",
        by("kind", {"disco": disco, "other": other}),
    )
    yield counter(
        "derp_bytes_received",
        "Bytes of the packets in Send frames. "
        "Not counted: frame headers, keys, Forward frames.",
        counters.bytes_received,
    )
    yield counter(
        "derp_packets_sent",
        "Recv frames handed to a receiver's socket. Not counted: Forward frames.",
        counters.packets_sent,
    )
    yield counter(
        "derp_bytes_sent",
        "Bytes of the packets in Recv frames. "
        "Not counted: frame headers, keys, Forward frames.",
        counters.bytes_sent,
    )
    yield counter(
        "derp_packets_forwarded_in",
        "Forward frames received, those dropped later included.",
        counters.forwarded_in,
    )
    yield counter(
        "derp_packets_forwarded_out",
        "Packets handed to a mesh link. Not counted: whether they arrive.",
        counters.forwarded_out,
    )


def _drops(facts: NodeFacts) -> Iterator[Metric]:
    counters = facts.plane.counters
    dropped = {
        "packets": counters.dropped_packets,
        "bytes": counters.dropped_bytes,
    }
    reasons = sorted(DropReason, key=lambda reason: reason.value)
    for unit, counts in dropped.items():
        rows = (
            ({"reason": reason.value, "kind": kind}, counts[reason, kind == "disco"])
            for reason in reasons
            for kind in ("disco", "other")
        )
        text = (
            f"DERP {unit} dropped by reason and by kind. "
            "Not counted: what a connection that broke had in the kernel."
        )
        yield family("counter", f"derp_{unit}_dropped", text, rows)


def _writing(facts: NodeFacts) -> Iterator[Metric]:
    counters = facts.plane.counters
    flushed = counters.flush_frames
    yield histogram(
        "derp_buffered_write_frames",
        "Frames per flush. In the sum, a flush of more than 10 counts as the bound "
        "of its bucket, of more than 100 as 101.",
        FRAMES,
        flushed.items(),
        sum(frames * count for frames, count in flushed.items()),
    )
    yield untyped(
        "derp_average_queue_duration_ms",
        "Moving average of how long packets waited for a blocked receiver. "
        "Not counted: packets that did not wait.",
        counters.queue_seconds * 1000,
    )
    yield counter(
        "derp_sclient_write_timeouts",
        "Connections cut because they did not read.",
        counters.write_timeouts,
    )
    yield family(
        "counter",
        "derp_tcp_rtt",
        "Round-trip times as the kernel estimates them, by upper bound and not "
        "cumulative; each connection is asked about once a minute.",
        by("le", counters.rtt, RTTS),
    )
    yield counter("derp_got_ping", "Ping frames received.", counters.pings)
    yield counter("derp_sent_pong", "Pong frames sent.", counters.pongs)
    yield counter(
        "derp_unknown_frames",
        "Frames of a type that is not known here, and skipped. "
        "derper has the name and never counts.",
        counters.unknown_frames,
    )


def _limits(facts: NodeFacts) -> Iterator[Metric]:
    """Yield what derper has only where a client's rate is limited."""
    limit = facts.switchboard.limit
    if not limit.rate:
        return
    yield untyped(
        "derp_rate_limit_per_client_bytes_per_second",
        "Bytes a second that are read from one client.",
        limit.rate,
    )
    yield untyped(
        "derp_rate_limit_per_client_burst_bytes",
        "Bytes that one client may send at once.",
        limit.burst,
    )
    yield counter(
        "derp_rate_limit_per_client_waited",
        "Not counted by this server, always 0.",
        0,
    )


def _population(facts: NodeFacts) -> Iterator[Metric]:
    relay = facts.relay
    counted = population(relay)
    known, local = relay.known_keys, relay.local_keys
    yield gauge(
        "derp_current_connections",
        "Connections that have logged in: duplicates, probers and mesh links too.",
        counted.connections,
    )
    yield gauge(
        "derp_current_home_connections",
        "Connections that call this node their home.",
        counted.home,
    )
    yield gauge(
        "derp_current_notideal_connections",
        "Connections that would rather have another node of the region.",
        counted.not_ideal,
    )
    yield gauge("derp_clients_total", "Keys connected here or on a mesh link.", known)
    yield gauge("derp_clients_local", "Keys connected here.", local)
    yield gauge("derp_clients_remote", "Keys on mesh links alone.", known - local)
    yield gauge(
        "derp_current_dup_client_keys",
        "Keys with more than one connection.",
        relay.duplicate_keys,
    )
    yield gauge(
        "derp_current_dup_client_conns",
        "Connections that share their key.",
        relay.duplicate_connections,
    )
    yield gauge(
        "derp_watchers", "Connections that are told who is here.", relay.watchers
    )


def _logins(facts: NodeFacts) -> Iterator[Metric]:
    counters = facts.relay.counters
    yield counter(
        "derp_accepts",
        "Logins that were judged, refused ones included. "
        "Not counted: connections that never sent a whole ClientInfo.",
        sum(facts.logins.outcomes.values()),
    )
    yield counter(
        "derp_websocket_accepts",
        "WebSocket sessions begun. Not counted: refused handshakes.",
        facts.switchboard.websocket_accepts,
    )
    yield counter(
        "derp_total_dup_client_conns",
        "Connections that came while their key was connected.",
        counters.duplicate_accepts,
    )
    yield counter(
        "derp_home_moves_in",
        "Clients that made this node their home. Not counted: in their first 5 s.",
        counters.home_moves_in,
    )
    yield counter(
        "derp_home_moves_out",
        "Clients that left this node as their home. Not counted: in their first 5 s.",
        counters.home_moves_out,
    )


def _departures(facts: NodeFacts) -> Iterator[Metric]:
    counters = facts.relay.counters
    yield counter(
        "derp_peer_gone_disconnected_frames",
        "PeerGone frames for keys that left, those to watchers included.",
        counters.peer_gone_disconnected,
    )
    yield counter(
        "derp_peer_gone_not_here_frames",
        "PeerGone frames for keys that were not here. "
        "Not counted: those that were over a client's limit and not sent.",
        counters.peer_gone_not_here,
    )
    yield counter(
        "derp_multiforwarder_created",
        "Keys that came to be on a second mesh link.",
        counters.multiforwarder_created,
    )
    yield counter(
        "derp_multiforwarder_deleted",
        "Keys that came to be on one mesh link again.",
        counters.multiforwarder_deleted,
    )
    yield counter(
        "derp_packet_forwarder_delete_other_value",
        "Withdrawals of a key by a mesh link that did not have it.",
        counters.forwarder_delete_other,
    )


def _presence(facts: NodeFacts) -> Iterator[Metric]:
    presence = facts.relay.presence
    yield histogram(
        "derp_mesh_update_batch_size",
        "Presence records per batch to a watcher. Sum and count are right; sizes "
        "are not kept, so that every batch is in the last bucket.",
        BATCH_SIZES,
        [(math.inf, presence.batches)],
        presence.records,
    )
    yield histogram(
        "derp_mesh_update_loop_count",
        "Batches per wake-up of a watcher: here always one.",
        LOOPS,
        [(1, presence.batches)],
        presence.batches,
    )


def _front(facts: NodeFacts) -> Iterator[Metric]:
    yield family(
        "untyped",
        "derper_tls_request_version",
        "HTTPS requests by TLS version. Not counted: the node's checks of itself.",
        by("version", facts.front.requests),
    )
    yield family(
        "gauge",
        "derper_tls_active_version",
        "Requests under way by TLS version. Not counted by this server.",
        (),
    )
    if facts.certificates is None:
        return
    counters = facts.plane.counters
    yield counter(
        "tls_listener_accepted_connections",
        "Connections accepted, on the plain HTTP port too, and the node's checks of "
        "itself, one a second. Not counted: those over a limit.",
        counters.accepted,
    )
    yield counter(
        "tls_listener_rejected_connections",
        "Connections over a limit, closed as soon as they came.",
        sum(counters.refused[reason] for reason in _AT_ACCEPT),
    )


def _stun(facts: NodeFacts) -> Iterator[Metric]:
    counters = stun_counters(facts)
    dispositions = {
        "not_stun": counters.not_stun,
        "read_error": counters.read_error,
        "success": counters.success,
        "write_error": counters.write_error,
    }
    yield family(
        "counter",
        "stun_requests",
        "Datagrams by what came of them. Not counted: those dropped unread while "
        "the node cannot relay.",
        by("disposition", dispositions),
    )
    yield family(
        "counter",
        "stun_addrfamily",
        "Questions of clients by address family, answered or not.",
        by("family", {"ipv4": counters.ipv4, "ipv6": counters.ipv6}),
    )
    yield counter(
        "stun_no_local_addr",
        "Questions for which the kernel did not say what address was asked.",
        counters.no_local_addr,
    )


def _bootstrap() -> Iterator[Metric]:
    for name in _BOOTSTRAP:
        text = "Not counted by this server, always 0."
        yield counter(f"bootstrap_dns_{name}", text, 0)


def _process(
    facts: NodeFacts, process: ProcessFacts, at_start: ProcessFacts
) -> Iterator[Metric]:
    yield gauge(
        "derp_current_file_descriptors", "Open file descriptors.", process.open_files
    )
    yield gauge(
        "derp_memstats_sys0",
        "Resident memory of the process when the node started, in bytes.",
        at_start.resident,
    )
    yield counter("uptime_sec", "Seconds since the start.", int(facts.uptime))
    yield untyped(
        "process_start_unix_time",
        "When the node started, in seconds since the Unix epoch.",
        int(facts.started_at.timestamp()),
    )
    yield untyped(
        "node_boot_time_seconds",
        "When the machine started, in seconds since the Unix epoch.",
        process.booted,
    )
    labels = {"version": facts.version, "binary": "derpd"}
    yield family("untyped", "version", "Always 1.", [(labels, 1)])
