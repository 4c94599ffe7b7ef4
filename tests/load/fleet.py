"""A region whose nodes are processes that come and go, in etcd or in a file."""

import asyncio
import contextlib
import dataclasses
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from derpctl.demo.choices import Tls
from derpctl.demo.mesh import write_region
from derpctl.demo.plan import NodePlan, Options, make_plan
from derpnode.server.certificates import load_current
from tests.interop.region import LOOPBACK
from tests.load.generator import Generator, Run
from tests.load.node import Node, becomes
from tests.load.scale import LIMIT
from tests.support.etcd import Server
from tests.support.etcd import cluster as etcd_cluster


REGION = 900
CURRENT = "derpmesh.daemon"
"""What is run as a node, unless a test says otherwise."""

PATIENCE = 60.0
"""Seconds until something that must happen did not, on a machine that others use."""

PAIRS = 100
"""Pairs of clients that exchange packets."""

RATE = 10
"""Packets a second of each pair."""


class Fleet:
    """The nodes of a region, by name: those that run, and those that may.

    Args:
        folder: Where they keep their files.
        most: How many there may be.
        etcd: Where they record themselves; None: all of them are in a file.
        settings: `KEY=VALUE` for the configuration of each.
    """

    def __init__(
        self,
        folder: Path,
        most: int,
        etcd: Server | None,
        settings: Sequence[str] = (),
    ) -> None:
        self._etcd = etcd
        options = Options(
            nodes=most,
            region=REGION,
            directory=folder,
            bind=LOOPBACK,
            tls=Tls.PINNED,
            settings=settings,
            etcd=[etcd.url] if etcd is not None else (),
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        plan = make_plan(options)
        if etcd is None:
            asyncio.run(write_region(plan))
        self._plans = {one.name: one for one in plan.nodes}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._config = folder / "operator.yaml"

    @property
    def etcd(self) -> Server:
        """Where they record themselves."""
        assert self._etcd is not None, "the region is in a file"
        return self._etcd

    @property
    def names(self) -> list[str]:
        """The nodes that run, in the order of the map."""
        return sorted(self._processes)

    @property
    def nodes(self) -> list[Node]:
        """The same, as they are to be asked."""
        return [self.node(name) for name in self.names]

    def node(self, name: str) -> Node:
        """Give a node that runs."""
        plan = self._plans[name]
        identity = load_current(plan.config)
        assert identity is not None
        return Node(
            f"{LOOPBACK}:{plan.ports.derp}",
            plan.admin,
            identity.pin,
            self._processes[name].pid,
            plan.log_file,
        )

    # Coming and going.

    def start(self, *names: str, module: str = CURRENT) -> None:
        """Run nodes; return once each of them has dialled every node that runs.

        One that is to be drained takes no connection, so others do not reach it yet.
        """
        for name in names:
            self._run(self._plans[name], module)
        assert becomes(lambda: self.is_meshed(*names), within=PATIENCE), self.links()

    def await_mesh(self) -> None:
        """Return once every node that runs is linked to every other."""
        assert becomes(self.is_meshed, within=PATIENCE), self.links()

    def _run(self, plan: NodePlan, module: str) -> None:
        words = [word for one in self._settings for word in ("--set", one)]
        config = ("--config", str(plan.config_file))
        with plan.log_file.open("ab") as log:
            self._processes[plan.name] = subprocess.Popen(
                [sys.executable, "-m", module, *config, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, name: str) -> None:
        """Have a node end in good order."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, f"{name} ended badly"

    def end(self) -> None:
        """End whatever runs."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()

    # What it is like.

    def links(self) -> dict[str, dict[str, str]]:
        """Give the state of each link, by node and peer; of a node that is mute, none.

        A link that has measured no round trip yet may know nothing of its peer.
        """
        found: dict[str, dict[str, str]] = {}
        for node in self.nodes:
            process = self._processes[node.name]
            ended = f"{node.name} ended: {node.log()[-20:]}"
            assert process.poll() is None, ended
            with contextlib.suppress(OSError):
                links = node.links()
                found[node.name] = {n: str(one["state"]) for n, one in links.items()}
        return found

    def is_meshed(self, *some: str) -> bool:
        """Whether nodes, all or some, are linked to each that runs, and to no other."""
        names = set(self.names)
        found = self.links()
        return all(
            found.get(name) == dict.fromkeys(names - {name}, "up")
            for name in some or names
        )

    # Steering.

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run derpctl as an operator who knows the nodes, and their etcd."""
        tree: dict[str, object] = {
            "region": REGION,
            "nodes": [{"name": one.name, "admin": one.admin} for one in self.nodes],
        }
        if self._etcd is not None:
            tree["registry"] = {"etcd": {"endpoints": [self._etcd.url]}}
        self._config.write_text(yaml.safe_dump(tree))
        return subprocess.run(
            [sys.executable, "-m", "derpctl", "--config", str(self._config), *words],
            capture_output=True,
            text=True,
            check=False,
        )

    def ctl(self, *words: str) -> str:
        """Run derpctl; give what it prints. It must succeed."""
        found = self.run(*words)
        assert found.returncode == 0, f"{words}: {found.stdout}{found.stderr}"
        return found.stdout


@contextlib.contextmanager
def fleet(
    folder: Path, most: int, etcd: Server | None, settings: Sequence[str] = ()
) -> Iterator[Fleet]:
    """Prepare nodes; those that run end with the block."""
    found = Fleet(folder / "region", most, etcd, settings)
    try:
        yield found
    finally:
        found.end()


@contextlib.contextmanager
def fleet_in_etcd(
    folder: Path, most: int, settings: Sequence[str] = ()
) -> Iterator[Fleet]:
    """Prepare nodes, and run an etcd for them; all end with the block.

    Raises:
        MissingTool: There is no etcd.
    """
    etcd = etcd_cluster(folder / "etcd")
    try:
        [server] = etcd.start().servers
        with fleet(folder, most, server, settings) as found:
            yield found
    finally:
        etcd.kill()


def clients(node: Node) -> int:
    """How many clients a node has, links of other nodes not counted."""
    found = node.ask("/v1/status")["clients"]
    assert isinstance(found, dict)
    return int(found["connections"]) - int(found["mesh"])


@contextlib.contextmanager
def roaming(
    generator: Generator, nodes: Sequence[Node], count: int, pairs: int = PAIRS
) -> Iterator[Run]:
    """Have clients on the first of some nodes, and partners of some on all of them."""
    first, *others = nodes
    more = [word for node in others for word in ("--node", node.address)]
    words = (
        "roam",
        "--clients",
        count,
        "--pairs",
        pairs,
        "--rate",
        RATE * pairs,
        *more,
    )
    # What the process uses is of no interest: it will not be there at the end.
    watched = dataclasses.replace(first, pid=nodes[-1].pid)
    with generator.start(watched, *words) as run:
        ready = run.event(within=LIMIT)
        assert sum(ready.counts("on").values()) == count
        yield run
