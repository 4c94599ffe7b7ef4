"""Relays that meet in a region, ours and derper's in any mixture, one process each.

Each may be started, stopped and killed at any time; ``derpctl demo`` does not offer
that, nor relays that are not ours.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml

from tests.interop.certificates import certify, pin, self_sign
from tests.interop.region import (
    LOOPBACK,
    START_LIMIT,
    STOP_LIMIT,
    Node,
    Region,
    Server,
    Tls,
    ask,
    await_port,
    free_ports,
    metric,
)
from tests.support.peers import peer


@dataclass
class Relay:
    """One relay. Its process may come and go, its ports and keys stay."""

    server: Server
    node: Node
    folder: Path
    command: Sequence[str | Path] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    process: subprocess.Popen[str] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is not derper."""
        return self.server == "ours"

    @property
    def address(self) -> str:
        """Where clients and other relays find it."""
        return f"{self.node['host']}:{self.node['derp_port']}"

    @property
    def certificate(self) -> Path:
        """What it shows, where it signs that itself."""
        return self.folder / f"{self.node['host']}.crt"

    @property
    def log(self) -> Path:
        """All that it ever said."""
        return self.folder / "log"

    def start(self) -> None:
        """Begin to serve; `await_ready` returns once it does."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [str(word) for word in self.command],
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
            )
        self.node["pid"] = self.process.pid

    def await_ready(self) -> None:
        """Return once it takes clients."""
        assert self.process is not None
        admin_port = int(self.node["admin"].rpartition(":")[2])
        for port in (self.node["derp_port"], admin_port):
            await_port(self.process, port, self.log)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def links(self) -> dict[str, str]:
        """Return the state of each link of a relay of ours."""
        items = json.loads(ask(self.node, "/v1/links") or "{}")["items"]
        return {item["peer"]: item["state"] for item in items}


@dataclass
class Meshed:
    """Relays that make up a region."""

    region: Region
    relays: Mapping[str, Relay]

    def start(self, *names: str) -> None:
        """Start relays, all if none is named, and wait until they are linked."""
        for relay in self._named(names):
            relay.start()
        for relay in self._named(names):
            relay.await_ready()
        self.write()
        self.await_links()

    def await_links(self) -> None:
        """Return once every relay that runs is linked to all others, both ways.

        derper shows no links; the others count them among their clients.
        """
        up = [relay for relay in self.relays.values() if relay.process is not None]
        for relay in up:
            others = [other for other in up if other is not relay]
            what = f"{relay.node['name']} is linked to {len(others)} others"
            eventually(partial(_is_linked, relay, others), what)

    def _named(self, names: Sequence[str]) -> list[Relay]:
        return [self.relays[name] for name in names or self.relays]

    def write(self) -> None:
        """Bring the document up to date."""
        self.region.document.write_text(json.dumps(self.region.demo))


def eventually(question: Callable[[], bool], what: str, limit: float = 40.0) -> float:
    """Ask until the answer is yes; return how many seconds that took."""
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < limit, f"not in {limit:g} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


@contextlib.contextmanager
def meshed(
    servers: Sequence[Server],
    folder: Path,
    tls: Tls,
    *,
    verify: Path | None = None,
    trusting: bool = True,
    start: bool = True,
) -> Iterator[Meshed]:
    """Lay a region out, and stop what runs of it when the block ends.

    Args:
        servers: Whose relay each node is; they are called 900a, 900b, …
        folder: Where everything is kept; made if need be.
        tls: How clients, and relays among themselves, know a relay.
        verify: Socket of the tailscaled that says who is admitted; all if ``None``.
        trusting: Whether relays of derper trust certificates that others signed for
            themselves. They know no pins.
        start: Whether to start the relays, too.
    """
    layout = _Layout(folder, servers, tls, verify, trusting)
    layout.write()
    found = layout.meshed()
    try:
        if start:
            found.start()
        yield found
    finally:
        with contextlib.ExitStack() as stack:
            for relay in found.relays.values():
                stack.callback(relay.kill if relay.is_ours else relay.stop)


def _is_linked(relay: Relay, others: Sequence[Relay]) -> bool:
    """Whether a relay has a link to all others, and from as many."""
    links = relay.links() if relay.is_ours else {}
    wanted = {_link_name(other) for other in others} if relay.is_ours else set()
    is_up = all(links.get(name) == "up" for name in wanted)
    return is_up and metric(relay.node, "derp_current_connections") >= len(others)


def _link_name(relay: Relay) -> str:
    """What a relay of ours calls its link to this one."""
    return relay.node["name"] if relay.is_ours else f"https://{relay.address}"


class _Layout:
    """The files of a region."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Server],
        tls: Tls,
        verify: Path | None,
        trusting: bool,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._verify = verify
        self._trusting = trusting
        self._mesh_key = folder / "mesh.key"
        self._registry = folder / "region.yaml"
        self._host = LOOPBACK if tls == "pinned" else "localhost"
        self._ca_file = certify(folder, self._host) if tls == "ca" else None
        ports = iter(free_ports(4 * len(servers)))
        self._relays = [
            self._relay(server, f"900{letter}", ports)
            for server, letter in zip(servers, "abcdefgh", strict=False)
        ]

    def _relay(self, server: Server, name: str, ports: Iterator[int]) -> Relay:
        derp_port, http_port, stun_port, admin_port = (next(ports) for _ in range(4))
        if server != "ours":  # derper shows its metrics there
            admin_port = http_port
        folder = self._folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        node: Node = {
            "name": name,
            "host": self._host,
            "derp_port": derp_port,
            "http_port": http_port,
            "stun_port": stun_port,
            "pin": "",
            "admin": f"http://{LOOPBACK}:{admin_port}",
            "pid": 0,
        }
        return Relay(server, node, folder)

    def write(self) -> None:
        """Write all files: what each relay must know of the others comes last."""
        self._mesh_key.touch(0o600)
        self._mesh_key.write_text(secrets.token_hex(32))
        for relay in self._relays:
            if not relay.is_ours and self._ca_file is None:
                self_sign(relay.folder, self._host)
        ours = [relay for relay in self._relays if relay.is_ours]
        for relay in ours:
            self._write_config(relay, peers=[])
        self._write_registry(ours)
        for relay in self._relays:
            if self._ca_file is None:
                relay.node["pin"] = pin(relay.certificate)
        for relay in self._relays:
            others = [other for other in self._relays if other is not relay]
            if relay.is_ours:
                self._write_config(relay, [o for o in others if not o.is_ours])
            else:
                self._command_derper(relay, others)

    def meshed(self) -> Meshed:
        """Describe the region as a demo would."""
        nodes = [relay.node for relay in self._relays]
        map_file = self._folder / "derpmap.json"
        map_file.write_text(json.dumps(_map(nodes)))
        region = Region(
            self._folder / "region.json",
            {
                "region": 900,
                "mesh_key_file": str(self._mesh_key),
                "derp_map_file": str(map_file),
                "ca_file": str(self._ca_file) if self._ca_file else None,
                "nodes": nodes,
            },
        )
        return Meshed(region, {relay.node["name"]: relay for relay in self._relays})

    # Ours.

    def _write_config(self, relay: Relay, peers: Sequence[Relay]) -> None:
        node, file = relay.node, relay.folder / "derpd.yaml"
        ca_file = {"ca_file": str(self._ca_file)} if self._ca_file else {}
        peers_tree = [
            {"url": f"https://{peer.address}"} | (ca_file or {"pin": peer.node["pin"]})
            for peer in peers
        ]
        mesh = {"key_file": str(self._mesh_key), **ca_file, "peers": peers_tree}
        tree: dict[str, object] = {
            "node": {"name": node["name"], "host": node["host"], "ipv4": LOOPBACK},
            "state_dir": str(relay.folder),
            "derp": {"listen": [f"{LOOPBACK}:{node['derp_port']}"]},
            "http": {"listen": [f"{LOOPBACK}:{node['http_port']}"]},
            "stun": {"listen": [f"{LOOPBACK}:{node['stun_port']}"]},
            "admin": {"listen": [node["admin"].removeprefix("http://")]},
            "admission": {"mode": "open"},
            "mesh": mesh,
            "registry": {"file": str(self._registry)},
            "log": {"format": "text"},
        }
        if self._ca_file is not None:
            tree["tls"] = {
                "certificate": str(self._folder / f"{self._host}.crt"),
                "key": str(self._folder / f"{self._host}.key"),
            }
        file.write_text(yaml.safe_dump(tree))
        relay.command = [sys.executable, "-m", "derpmesh.daemon", "--config", file]

    def _write_registry(self, relays: Sequence[Relay]) -> None:
        """Ask each node for its entry, all at once, and put them into one file."""
        asked = [
            subprocess.Popen(
                [str(word) for word in (*relay.command, "--print-node")],
                stdout=subprocess.PIPE,
                text=True,
            )
            for relay in relays
        ]
        entries = []
        for process in asked:
            output, _ = process.communicate(timeout=START_LIMIT)
            assert process.returncode == 0
            entries += yaml.safe_load(output)
        tree = {"region": {"id": 900}, "nodes": entries}
        self._registry.write_text(yaml.safe_dump(tree))

    # Stock derper.

    def _command_derper(self, relay: Relay, others: Sequence[Relay]) -> None:
        node = relay.node
        folder = relay.folder if self._ca_file is None else self._folder
        relay.command = [
            *(peer(relay.server), "-hostname", node["host"]),
            *("-certmode", "manual", "-certdir", folder),
            *("-a", f"{LOOPBACK}:{node['derp_port']}"),
            *("-http-port", str(node["http_port"]), "-home", "blank"),
            *("-stun-port", str(node["stun_port"])),
            *("-c", relay.folder / "derper.key", "-mesh-psk-file", self._mesh_key),
        ]
        if others:
            addresses = ",".join(other.address for other in others)
            relay.command += ["-mesh-with", addresses]
        if self._verify is not None:
            relay.command += ["-verify-clients", "-socket", self._verify]
        trusted = self._ca_file
        if trusted is None and others and self._trusting:
            trusted = relay.folder / "trusted.pem"
            known = [other.certificate.read_text() for other in others]
            trusted.write_text("".join(known))
        if trusted is not None:
            relay.environment = os.environ | {"SSL_CERT_FILE": str(trusted)}


def _map(nodes: Sequence[Node]) -> object:
    region = {
        "RegionID": 900,
        "RegionCode": "interop",
        "RegionName": "Interop",
        "Nodes": [
            {
                "Name": node["name"],
                "RegionID": 900,
                "HostName": node["host"],
                "CertName": node["pin"],
                "IPv4": LOOPBACK,
                "IPv6": "none",
                "DERPPort": node["derp_port"],
                "STUNPort": node["stun_port"],
            }
            for node in nodes
        ],
    }
    return {"Regions": {"900": region}}
