"""What a demo says when it is ready: a document, or pages for people."""

from collections.abc import Iterator

from derpctl.demo.children import Child
from derpctl.demo.proof import Proof
from derpctl.demo.region import Up
from derpctl.documents import document
from derpctl.export import render
from derpctl.map.model import Node
from derpctl.render import Screen, milliseconds
from derpnode.client import PIN_PREFIX


def demo_document(up: Up) -> dict[str, object]:
    """Make the document that tests and tools start from; its keys are a contract."""
    plan = up.plan
    found = document(
        "Demo",
        region=plan.options.region,
        dir=str(plan.options.directory),
        derpctl_config=str(plan.derpctl_config),
        mesh_key_file=str(plan.mesh_key_file),
        derp_map_file=str(plan.derp_map_file),
        ca_file=str(plan.ca_file) if plan.ca_file is not None else None,
        nodes=list(_nodes(up)),
    )
    if up.proof is not None:
        found["proof"] = up.proof.members()
    return found


def _nodes(up: Up) -> Iterator[dict[str, object]]:
    for child, view, node in zip(up.children, up.views, _map_nodes(up), strict=True):
        yield {
            "name": node.name,
            "host": node.host_name,
            "derp_port": _port(view.listeners.get("derp", ())),
            "http_port": _port(view.listeners.get("http", ())),
            "stun_port": _port(view.listeners.get("stun", ())),
            "pin": node.cert_name if node.cert_name.startswith(PIN_PREFIX) else "",
            "admin": child.plan.admin,
            "config": str(child.plan.config_file),
            "log": str(child.plan.log_file),
            "pid": child.process.pid,
        }


def _map_nodes(up: Up) -> list[Node]:
    regions = up.derp_map.regions.values()
    return [node for region in regions for node in region.nodes]


def _port(addresses: object) -> int | None:
    """Give the port of the first address; None where nobody listens."""
    if not isinstance(addresses, list | tuple) or not addresses:
        return None
    return int(str(addresses[0]).rpartition(":")[2])


def print_pages(up: Up, screen: Screen) -> None:
    """Print the region, the proof and the map, for people."""
    rows = [
        [str(cell) for cell in _row(child, node)]
        for child, node in zip(up.children, _nodes(up), strict=True)
    ]
    columns = ("NODE", "HOST", "DERP>", "HTTP>", "STUN>", "PID>", "ADMIN")
    screen.table(columns, rows)
    if up.proof is not None:
        screen.line("")
        screen.line(
            f"Round trips, there and back; {up.proof.packets} packets compared:"
        )
        if len(up.plan.nodes) == 1:
            _print_trips(up.proof, screen)
        else:
            _print_matrix(up.proof, screen)
    screen.line("")
    screen.line("The map, for a Tailscale policy file:")
    screen.line(render(up.derp_map, "acl"), end="")


def _print_trips(proof: Proof, screen: Screen) -> None:
    trips = [
        [found.source, found.target, *map(milliseconds, (found.median, found.p95))]
        for found in (*proof.pairs, *proof.pings)
    ]
    screen.table(("FROM", "TO", "MEDIAN>", "95 %>"), trips)


def _print_matrix(proof: Proof, screen: Screen) -> None:
    """Print the median of every ordered pair of nodes."""
    names = list(dict.fromkeys(found.source for found in proof.pairs))
    medians = {(found.source, found.target): found.median for found in proof.pairs}
    rows = [
        [f"from {name}", *(milliseconds(medians[name, other]) for other in names)]
        for name in names
    ]
    screen.table(("", *(f"to {name}>" for name in names)), rows)


def _row(child: Child, node: dict[str, object]) -> list[object]:
    ports = [node["derp_port"], node["http_port"], node["stun_port"]]
    shown = ["-" if port is None else port for port in ports]
    return [node["name"], node["host"], *shown, child.process.pid, node["admin"]]


def next_steps(up: Up, *, hold: bool) -> str:
    """Say how to go on."""
    if hold:
        config = up.plan.derpctl_config
        return (
            "It stays up until Ctrl-C. In another terminal:\n"
            f"  derpctl --config {config} status\n"
            f"  derpctl --config {config} probe node {up.plan.nodes[0].name}\n"
            f"  derpctl --config {config} map export -f headscale"
        )
    return (
        "Next:\n"
        "  derpctl demo --hold                keep one up, and point clients at it\n"
        "  derpctl demo --hold --dir DIR      the same, with its files in DIR\n"
        "  derpd --config FILE                a node for others to use"
    )
