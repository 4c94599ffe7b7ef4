"""What a node says of itself: the documents of `/v1`, and how JSON is written."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

from derpnode.plane.contract import Counters, DropReason, Plane, Refusal
from derpnode.relay.relay import Relay
from derpnode.server.facts import NodeFacts
from derpnode.server.stun import StunCounters
from derpnode.wire.keys import node_key_text


Document = dict[str, object]
"""A JSON object."""

_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Population:
    """How many connections have logged in, and of which kind."""

    connections: int
    """All of them: duplicates, probers and mesh links too."""

    home: int
    not_ideal: int
    mesh: int


def population(relay: Relay) -> Population:
    """Count the connections of a relay, in one pass."""
    connections = home = not_ideal = mesh = 0
    for client in relay.clients():
        connections += 1
        home += client.home
        not_ideal += client.not_ideal
        mesh += client.mesh
    return Population(connections, home, not_ideal, mesh)


def node_document(facts: NodeFacts) -> Document:
    """Say who a node is, and whether it serves."""
    region = facts.config.region
    return {
        "name": facts.config.node.name,
        "region": {"id": region.id, "code": region.code, "name": region.name},
        "version": facts.version,
        "server_key": node_key_text(facts.server_key),
        "started_at": rfc3339(facts.started_at),
        "uptime": round(facts.uptime, 3),
        "state": facts.state,
        "ready": facts.state == "serving",
        "reasons": facts.reasons,
        "notes": facts.region.notes(),
        "map_entry": facts.map_entry(),
        "certificate": _certificate(facts),
        "listeners": facts.listeners(),
        "admission": {
            "mode": facts.config.admission.mode,
            "sources": [guard.source.name for guard in facts.admission.guards],
        },
        "plane": plane_name(facts.plane),
        "mesh_keys": _mesh_keys(facts),
    }


def status_document(facts: NodeFacts) -> Document:
    """Say what a node does, in totals; no client is named."""
    counters = facts.plane.counters
    return {
        "node": node_document(facts),
        "clients": _clients(facts.relay),
        "traffic": _traffic(counters),
        "stun": asdict(stun_counters(facts)),
        "accepts": {
            "accepted": counters.accepted,
            "refused": {one.value: counters.refused[one] for one in Refusal},
        },
    }


def inconsistencies(relay: Relay) -> Iterator[str]:
    """Yield what a relay's maps contradict each other in; duplicates are no fault.

    Unlike derper, whose check fails for as long as any key has two connections.
    """
    lost = active = 0
    for client in relay.clients():
        connections = relay.connections_of(client.key)
        lost += client.connection not in connections
        active += connections[-1:] == [client.connection]
    if lost:
        yield f"{lost} connections are not among those of their key"
    if active != relay.local_keys:
        yield f"{active} active connections for {relay.local_keys} keys"
    if relay.known_keys < relay.local_keys:
        yield f"{relay.known_keys} keys known, {relay.local_keys} connected"


def stun_counters(facts: NodeFacts) -> StunCounters:
    """Give the counters of STUN; zeros where it is off."""
    return facts.stun.counters if facts.stun is not None else StunCounters()


def plane_name(plane: Plane) -> str:
    """Name what moves packets: `python` for `PythonPlane`."""
    return type(plane).__name__.removesuffix("Plane").lower()


def rfc3339(moment: datetime) -> str:
    """Write a moment in UTC to the second."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def go_json(document: Document, *, indent: bool) -> str:
    """Write JSON as Go's encoder does: tabs, HTML escaped, a line feed at the end."""
    style, separators = ("\t", (",", ": ")) if indent else (None, (",", ":"))
    text = json.dumps(document, indent=style, separators=separators, ensure_ascii=False)
    return text.translate(_ESCAPES) + "\n"


def _certificate(facts: NodeFacts) -> Document:
    """Describe the public port's certificate. The pin is empty where none is needed."""
    found = facts.certificates.current if facts.certificates is not None else None
    return {
        "mode": facts.config.tls_mode,
        "not_after": rfc3339(found.not_after) if found is not None else None,
        "pin": found.pin if found is not None and found.self_signed else "",
    }


def _mesh_keys(facts: NodeFacts) -> Document | None:
    """Name the mesh keys by their fingerprints; None for a node that has none."""
    keys = facts.mesh_keys
    return {**keys.fingerprints()} if keys is not None else None


def _clients(relay: Relay) -> Document:
    counted = population(relay)
    return {
        "connections": counted.connections,
        "keys": relay.local_keys,
        "home": counted.home,
        "not_ideal": counted.not_ideal,
        "duplicate_keys": relay.duplicate_keys,
        "mesh": counted.mesh,
        "watchers": relay.watchers,
    }


def _traffic(counters: Counters) -> Document:
    dropped: Counter[DropReason] = Counter()
    for (reason, _), packets in counters.dropped_packets.items():
        dropped[reason] += packets
    received = counters.packets_received_disco + counters.packets_received_other
    return {
        "packets_received": received,
        "packets_sent": counters.packets_sent,
        "bytes_received": counters.bytes_received,
        "bytes_sent": counters.bytes_sent,
        "forwarded_in": counters.forwarded_in,
        "forwarded_out": counters.forwarded_out,
        "dropped": {reason.value: dropped[reason] for reason in DropReason},
    }
