"""What `/metrics` says of the other nodes: links, and where membership is from."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from derpnode.server.exposition import by, family, gauge
from derpnode.server.region import RegionPort


_RELISTS = ("start", "lost", "routine", "silent", "compacted", "stale")
_SOURCES = ("none", "file", "etcd", "snapshot")


def region_metrics(region: RegionPort) -> Iterator[Metric]:
    """Yield every family of a region; a node alone has no links."""
    links = [(str(link["peer"]), link) for link in region.links()]
    for name, kind, text, field in (
        ("up", "gauge", "1 while a link carries packets, else 0.", "state"),
        ("clients", "gauge", "Keys that the peer has announced.", "keys"),
        (
            "round_trip_seconds",
            "gauge",
            "What the last ping over a link took. Not there before the first answer.",
            "round_trip",
        ),
        (
            "forwarded_packets_total",
            "counter",
            "Packets handed to the link as it is now; from 0 when it is dialled again.",
            "forwarded_packets",
        ),
    ):
        rows = [({"peer": peer}, _number(link[field])) for peer, link in links]
        known = [(labels, value) for labels, value in rows if value is not None]
        yield family(kind, f"derpmesh_link_{name}", text, known)
    membership = region.membership()
    source = str(membership["source"])
    yield family(
        "gauge",
        "derpmesh_membership_source",
        "1 for where the membership in force is from, 0 for the others.",
        by("source", {source: 1}, _SOURCES),
    )
    yield gauge(
        "derpmesh_members",
        "Nodes of the region that are in force, this one included.",
        _count(membership, "members"),
    )
    yield gauge(
        "derpmesh_members_held",
        "Nodes that vanished from the registry in numbers, and stay in force.",
        _count(membership, "held"),
    )
    age = membership.get("age")
    if isinstance(age, float):
        yield gauge(
            "derpmesh_membership_age_seconds",
            "Seconds since the membership in force came into force.",
            age,
        )
    yield gauge(
        "derpmesh_membership_breaker_open",
        "1 while members that vanished in numbers are held until somebody confirms.",
        _count(membership, "held") > 0,
    )
    lag = membership.get("watch_lag")
    if isinstance(lag, float):
        yield gauge(
            "derpmesh_membership_watch_lag_seconds",
            "What it took the registry's watch to bring the node's own last report, "
            "or how long one is on its way by now. Not there without etcd.",
            lag,
        )
    relists = membership.get("relists")
    yield family(
        "counter",
        "derpmesh_membership_relists_total",
        "Readings of the whole registry, by what made them necessary.",
        by("reason", relists if isinstance(relists, dict) else {}, _RELISTS),
    )
    yield family(
        "gauge",
        "derpmesh_strays",
        "Clients that may be moved to the node that their map prefers, by that node.",
        [({"ideal": name}, count) for name, count in region.strays().items()],
    )
    yield gauge(
        "derpmesh_region_notes",
        "Things that an operator should look at, as `derpctl status` names them.",
        len(region.notes()),
    )


def _number(value: object) -> float | None:
    """Read a field of a link; of the state, whether it is up."""
    if isinstance(value, str):
        return float(value == "up")
    return float(value) if isinstance(value, int | float) else None


def _count(document: dict[str, object], name: str) -> int:
    found = document.get(name)
    return len(found) if isinstance(found, list) else 0
