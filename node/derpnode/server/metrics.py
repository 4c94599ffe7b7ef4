"""What `/metrics` says: derper's names, our own, and those of the process.

Nothing is kept for it: whoever counts has a dataclass of counters, read here each
time somebody asks. No label names a client.
"""

import asyncio
import bisect
import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry

from derpnode.kinds import Kind
from derpnode.plane.contract import Refusal
from derpnode.server.admission.verdict import Outcome
from derpnode.server.derpermetrics import derper_metrics
from derpnode.server.exposition import by, counter, family, gauge, histogram
from derpnode.server.facts import NodeFacts
from derpnode.server.front import Stage
from derpnode.server.processmetrics import process_facts, process_metrics
from derpnode.server.regionmetrics import region_metrics
from derpnode.server.status import plane_name, population, stun_counters


LAGS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Bounds of `derpmesh_event_loop_lag_seconds`."""

LAG_INTERVAL: Final = 0.5
"""Seconds between two measurements of it."""

_STATES = ("starting", "serving", "unready", "draining", "drained")
_LOGINS = ("ok", "mesh", "handshake", "key", "replay", "app_name", "admission")
_RELOADS = ("done", "failed")


class EventLoopLag:
    """Measures how late the event loop is, now and then.

    Args:
        interval: Seconds between two measurements.
    """

    def __init__(self, interval: float = LAG_INTERVAL) -> None:
        self.counts: Counter[float] = Counter()
        """Measurements by upper bound of their bucket."""

        self.total = 0.0
        """Sum of all, in seconds."""

        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure; call it in a running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval
        self._timer = loop.call_at(due, self._measure, loop, due)

    def stop(self) -> None:
        """End it. May be called twice, and before `start`."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        late = max(loop.time() - due, 0.0)
        bounds = (*LAGS, math.inf)
        self.counts[bounds[bisect.bisect_left(bounds, late)]] += 1
        self.total += late
        self.start()


class NodeCollector:
    """Makes the metrics of a node when they are asked for, on its event loop.

    Args:
        facts: The node.
        lag: How late its event loop is.
    """

    def __init__(self, facts: NodeFacts, lag: EventLoopLag) -> None:
        self._facts = facts
        self._lag = lag
        self._at_start = process_facts()

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        process = process_facts()
        yield from derper_metrics(self._facts, process, self._at_start)
        yield from _state(self._facts)
        yield from _connections(self._facts)
        yield from _front(self._facts)
        yield from _admission(self._facts)
        yield from _certificate(self._facts)
        yield from region_metrics(self._facts.region)
        yield family(
            "counter",
            "derpmesh_events_total",
            "Events by kind, as `/v1/events` has them; those forgotten there included.",
            by("kind", self._facts.journal.counts, [kind.value for kind in Kind]),
        )
        yield counter(
            "derpmesh_stun_silent_total",
            "STUN datagrams dropped unread because the node could not relay.",
            stun_counters(self._facts).silent,
        )
        yield histogram(
            "derpmesh_event_loop_lag_seconds",
            f"By how much the event loop was late, measured every {LAG_INTERVAL} s. "
            "Not counted: work of a compiled plane, which has its own thread.",
            LAGS,
            self._lag.counts.items(),
            self._lag.total,
        )
        yield gauge(
            "derpmesh_tasks",
            "Tasks on the event loop: fixed ones, and those of questions to admission, "
            "look-ups and admin requests. A count that only grows is a leak. "
            "Not counted: clients and links, which have none.",
            len(asyncio.all_tasks()),
        )
        yield from process_metrics(process)


def make_registry(facts: NodeFacts, lag: EventLoopLag) -> CollectorRegistry:
    """Make a registry of a node's metrics; others may add theirs."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(facts, lag))
    return registry


def _state(facts: NodeFacts) -> Iterator[Metric]:
    build = {"version": facts.version, "plane": plane_name(facts.plane)}
    yield family("gauge", "derpmesh_build_info", "Always 1.", [(build, 1)])
    yield gauge(
        "derpmesh_ready",
        "1 while the node serves, else 0; the same as /readyz.",
        facts.state == "serving",
    )
    yield family(
        "gauge",
        "derpmesh_state",
        "1 for the state that the node is in, 0 for the others.",
        by("state", {facts.state: 1}, _STATES),
    )
    is_leaving = facts.state in ("draining", "drained")
    counted = population(facts.relay)
    yield gauge(
        "derpmesh_draining_clients",
        "Clients that are still here while the node is drained; 0 while it is not.",
        (counted.connections - counted.mesh) * is_leaving,
    )


def _connections(facts: NodeFacts) -> Iterator[Metric]:
    counters = facts.plane.counters
    yield gauge(
        "derpmesh_connections",
        "Sockets of the public ports, whether or not they have logged in. "
        "Not counted: admin connections.",
        counters.connections,
    )
    yield gauge(
        "derpmesh_handshakes_in_flight",
        "Connections between accept and login.",
        counters.handshakes,
    )
    yield gauge(
        "derpmesh_queued_bytes",
        "Bytes that wait for receivers which do not read fast enough. "
        "Not counted: the kernel's buffers.",
        counters.queued_bytes,
    )
    yield gauge(
        "derpmesh_queued_bytes_limit",
        "Most bytes that may wait: limits.queued_bytes.",
        facts.config.limits.queued_bytes,
    )
    yield counter(
        "derpmesh_accepted_connections_total",
        "Connections accepted on any public port, and the node's checks of itself, "
        "one a second. Not counted: those over a limit.",
        counters.accepted,
    )
    refused = {reason.value: counters.refused[reason] for reason in Refusal}
    yield family(
        "counter",
        "derpmesh_refused_connections_total",
        "Connections closed before the first request, by reason. "
        "Not counted: those that the kernel refused.",
        by("reason", refused),
    )
    yield family(
        "counter",
        "derpmesh_tls_handshakes_total",
        "TLS handshakes completed by version, the node's checks of itself included.",
        by("version", counters.tls_versions),
    )


def _front(facts: NodeFacts) -> Iterator[Metric]:
    stages = [stage.value for stage in Stage]
    yield family(
        "counter",
        "derpmesh_front_timeouts_total",
        "Connections closed because their time was up, by how far they had come. "
        "Not counted: WebSocket sessions.",
        by("stage", facts.front.timeouts, stages),
    )
    yield counter(
        "derpmesh_front_bad_requests_total",
        "Requests refused because they could not be read as HTTP.",
        facts.front.bad_requests,
    )
    yield family(
        "counter",
        "derpmesh_logins_total",
        "Logins by outcome: ok and mesh were let in. "
        "Not counted: those still waiting for an answer of admission.",
        by("outcome", facts.logins.outcomes, _LOGINS),
    )
    yield counter(
        "derpmesh_replayed_logins_total",
        "Logins refused because the same had been seen before. "
        "Not counted: replays of what was forgotten after a day, or a restart.",
        facts.logins.replays.refused,
    )


def _admission(facts: NodeFacts) -> Iterator[Metric]:
    admission = facts.admission
    names = list(dict.fromkeys(guard.source.name for guard in admission.guards))
    down = {guard.source.name for guard in admission.guards if guard.is_down}
    asked = [(name, outcome) for name in names for outcome in Outcome]
    for name, text, counts in (
        (
            "decisions",
            "What clients were told, by who decided: a source, or grace, budget or "
            "several. Remembered answers are counted. Not counted: mesh links.",
            admission.decisions,
        ),
        (
            "answers",
            "What the sources said when they were asked. Not counted: remembered "
            "answers, and questions cut short by another source's yes.",
            admission.answers(),
        ),
    ):
        yield family(
            "counter",
            f"derpmesh_admission_{name}_total",
            text,
            (
                ({"source": source, "outcome": outcome.value}, counts.get(key, 0))
                for key in dict.fromkeys([*asked, *counts])
                for source, outcome in [key]
            ),
        )
    yield family(
        "gauge",
        "derpmesh_admission_source_up",
        "0 while a source has failed too often to be asked by everybody, else 1.",
        (({"source": name}, name not in down) for name in names),
    )


def _certificate(facts: NodeFacts) -> Iterator[Metric]:
    """Yield what there is to say where the public port has TLS."""
    certificates = facts.certificates
    if certificates is None:
        return
    yield gauge(
        "derpmesh_certificate_not_after_seconds",
        "When the public port's certificate expires, in seconds since the Unix epoch. "
        "Not counted: the certificate of admin addresses.",
        certificates.current.not_after.timestamp(),
    )
    reloads = certificates.reloads
    yield family(
        "counter",
        "derpmesh_certificate_reloads_total",
        "Changes of the certificate's files by what came of them. "
        "Not counted: the same failure again.",
        by("outcome", {"done": reloads.done, "failed": reloads.failed}),
    )
