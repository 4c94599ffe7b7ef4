"""The region of compose/compose.yaml: it comes up, and lives through what befalls it.

Drills are walked in the order of this file, on one project. Their limits are those of
the mesh (``docs/topics/mesh.md``), which must hold in containers as well.
"""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from derpnode.client import ClientError, ClientTls, connect
from derpnode.wire.keys import PrivateKey, node_key_text
from tests.bench.build import derpload
from tests.install.projects import (
    ETCDS,
    NODES,
    PATIENCE,
    Project,
    becomes,
    now,
    project,
    require_engine,
    said_by,
)
from tests.interop.conftest import judge, run_check, start_check
from tests.interop.region import Node, Region
from tests.load.fleet import roaming
from tests.load.generator import Generator, Report
from tests.support.peers import MissingTool


pytestmark = [pytest.mark.install, pytest.mark.timeout(240)]

CLIENT = "1.102"

CLIENTS = 60
PAIRS = 20

UP_LIMIT = 60.0
"""Seconds until the region is healthy."""

ROUTES_GONE = 1.0
"""Seconds until the routes of a node that died are gone. Source: fault M1."""

LINK_GIVEN_UP = 20.0
"""Seconds until a link to a node that is out of reach is given up. Source: M2."""

HEALED = 5.0
"""Seconds after which a node that is back in reach is linked. Source: M4."""

OPEN = {
    "services": {
        service: {
            "environment": {
                "DERPD_ADMISSION__MODE": "open",
                "DERPD_ADMISSION__I_KNOW_THIS_IS_PUBLIC": "true",
            }
        }
        for service in NODES
    }
}
"""Laid over the rest where drivers of clients, whose keys are new, must be let in."""


@pytest.fixture(scope="module")
def environment():
    return require_engine()


@pytest.fixture(scope="module")
def region(environment, tmp_path_factory) -> Iterator[Project]:
    """The project as it is shipped, but for what machines that test cannot have."""
    folder = tmp_path_factory.mktemp("compose")
    with project(environment, folder, ["compose.yaml", "compose.ci.yaml"]) as found:
        yield found


@pytest.fixture(scope="module")
def clients(region, tmp_path_factory) -> Region:
    """What clients are told of the region."""
    return region.region(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def generator() -> Generator:
    try:
        return Generator(derpload())
    except MissingTool as missing:
        pytest.skip(f"NOT RUN under load: {missing}")


def relays_over_every_pair(clients: Region, *, count: int = len(NODES)) -> None:
    """Have stock clients send packets of all sizes over every ordered pair of nodes."""
    verdicts = run_check(clients, CLIENT, "sizes", "--every-pair", "--together")
    failed = [verdict for verdict in verdicts if not verdict["ok"]]
    assert not failed, json.dumps(failed, indent=1)
    assert len(verdicts) == count**2


def assert_undisturbed(report: Report) -> None:
    """See that nobody was cut off, and that nobody's packet was lost."""
    assert report.is_ok, json.dumps(report.document)
    assert report.number("cuts") == report.number("pairs.traffic.lost") == 0
    assert report.number("pairs.traffic.sent") > 0


# It comes up.


def test_it_comes_up(region, record_property):
    """Three relays and three etcds are healthy in a minute, after one command."""
    began = now()
    region.compose("up", "--detach", "--wait")
    lasted = (now() - began).total_seconds()
    record_property("seconds", lasted)
    assert lasted < UP_LIMIT
    region.settle()


def test_status_is_green(region):
    """What the page says first after that: every node serves, every link is up."""
    done = region.ctl("status")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in NODES.values():
        assert name in done.stdout


def test_the_map_is_printed(region):
    """A policy with the three nodes, each with its address and the pin it shows."""
    done = region.ctl("map", "export", "--style", "json")
    assert done.returncode == 0, done.stderr
    nodes = json.loads(done.stdout)["derpMap"]["Regions"]["900"]["Nodes"]
    assert [node["Name"] for node in nodes] == list(NODES.values())
    assert [node["IPv4"] for node in nodes] == [region.address(one) for one in NODES]
    assert all(node["CertName"].startswith("sha256-raw:") for node in nodes)


def test_the_containers_may_do_little(region):
    """No root, no capabilities, nothing to write to but what is the node's own."""
    for service in (*NODES, *ETCDS):
        form = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}"
        assert region.inspect(service, form) == "65532:65532 true [ALL]"
        pid = region.inspect(service, "{{.State.Pid}}")
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


def test_nobody_is_admitted_until_listed(region, clients):
    """A stranger is refused; from the moment that the file lists him he is not."""
    process = start_check(clients, CLIENT, "refused")
    verdict = judge(*process.communicate(timeout=PATIENCE))
    assert verdict["ok"], verdict["detail"]
    somebody = PrivateKey.from_seed(os.urandom(32))
    file = region.folder / "config/clients"
    fresh = file.with_name("clients.new")
    fresh.write_text(f"{file.read_text()}{node_key_text(somebody.public)}\n")
    fresh.replace(file)  # as editors do
    for node in clients.demo["nodes"]:
        becomes(lambda node=node: asyncio.run(_is_admitted(node, somebody)))


async def _is_admitted(node: Node, private: PrivateKey) -> bool:
    """Tell whether a client gets in: whoever is refused gets no pong."""
    tls = ClientTls(cert_name=node["pin"])
    try:
        async with connect(node["host"], 443, private=private, tls=tls) as client:
            await client.ping()
    except ClientError:
        return False
    return True


def test_init_makes_nothing_twice(region):
    """Another `up` leaves the keys as they are, and who runs alone."""
    form = "{{.State.StartedAt}}"
    before = [region.inspect(service, form) for service in NODES]
    keys = _keys(region)
    region.compose("up", "--detach", "--wait")
    assert _keys(region) == keys
    assert [region.inspect(service, form) for service in NODES] == before


def _keys(region: Project) -> str:
    words = ("sh", "-c", "cat /etc/derpmesh/keys/mesh.key /etc/derpmesh/keys/admin/*")
    return region.compose("exec", "-T", "node-a", *words)


# What befalls it. From here on everybody may relay.


@pytest.fixture(scope="module")
def opened(region, clients) -> Project:
    """The region, where everybody may relay: keys of test clients are new each time."""
    (region.folder / "open.yaml").write_text(yaml.safe_dump(OPEN))
    region.files.append("open.yaml")
    region.compose("up", "--detach", "--wait", "--no-deps", *NODES)
    region.settle()
    return region


def test_stock_clients_relay_over_every_pair(opened, clients):
    """Go's own clients, on whichever nodes they are."""
    relays_over_every_pair(clients)


def test_a_node_is_killed(opened, clients, generator, record_property):
    """M1: its routes are gone in a second, its clients go on; it comes back."""
    others = ("node-a", "node-c")
    nodes = [opened.loaded(service) for service in ("node-b", *others)]
    with roaming(generator, nodes, CLIENTS, PAIRS) as run:
        began = now()
        opened.compose("kill", "node-b")
        died = datetime.fromisoformat(opened.inspect("node-b", "{{.State.FinishedAt}}"))
        becomes(lambda: all(opened.said(n, "link 900b: lost", began) for n in others))
        report = run.finish()
    gone = [opened.said(service, "link 900b: lost", began) for service in others]
    slowest = max((at - died).total_seconds() for at in gone if at is not None)
    record_property("routes gone", slowest)
    assert slowest < ROUTES_GONE  # less than 0: the engine noted its end later
    assert report.is_ok, json.dumps(report.document)
    done = opened.ctl("status")
    assert done.returncode == 9, done.stdout
    opened.compose("up", "--detach", "--wait", "--no-deps", "node-b")
    opened.settle()
    relays_over_every_pair(clients)


def leader(region: Project) -> str:
    """Name the etcd that leads."""
    words = ("etcdctl", "endpoint", "status", "--write-out", "json")
    for service in ETCDS:
        done = region.run("exec", "-T", service, *words)
        if done.returncode == 0:
            (found,) = json.loads(done.stdout)
            status = found["Status"]
            if status["header"]["member_id"] == status["leader"]:
                return service
    return ""


def test_the_leader_of_etcd_is_killed(opened, clients, generator):
    """Another one leads, and nobody notices: no link breaks, no packet is lost."""
    nodes = [opened.loaded(service) for service in NODES]
    with roaming(generator, nodes, CLIENTS, PAIRS) as run:
        first, began = leader(opened), now()
        opened.compose("kill", first)
        becomes(lambda: leader(opened) not in ("", first))
        becomes(lambda: all(map(opened.is_content, NODES)))
        assert_undisturbed(run.finish())
    for service in NODES:
        assert opened.said(service, "link ", began) is None
    opened.compose("up", "--detach", "--wait", "--no-deps", first)


def test_a_node_is_cut_off(opened, clients, record_property):
    """M2, M4: off both networks its links are given up; healed, they are back."""
    others = ("node-a", "node-b")
    heal = opened.cut_off("node-c")
    lasted = becomes(
        lambda: all(opened.links(one).get("900c") != "up" for one in others)
    )
    record_property("given up", lasted)
    assert lasted < LINK_GIVEN_UP
    assert opened.is_meshed(*others)
    heal()
    lasted = becomes(lambda: opened.is_meshed(*NODES))
    record_property("healed", lasted)
    assert lasted < HEALED
    opened.settle()
    relays_over_every_pair(clients)


def test_all_of_etcd_is_away(opened, clients, generator):
    """F1: nothing changes, but that the relays say so; then it is back."""
    nodes = [opened.loaded(service) for service in NODES]
    began = now()
    with roaming(generator, nodes, CLIENTS, PAIRS) as run:
        opened.compose("stop", "--timeout", "5", *ETCDS)
        becomes(lambda: all(_misses_registry(opened, service) for service in NODES))
        relays_over_every_pair(clients)
        done = opened.ctl("status")
        assert done.returncode in (0, 9), done.stdout + done.stderr
        opened.compose("start", *ETCDS)
        opened.settle()
        assert_undisturbed(run.finish())
    for service in NODES:
        assert opened.said(service, "link ", began) is None


def _misses_registry(region: Project, service: str) -> bool:
    node = region.ask(service, "/v1/node")
    assert node is not None
    return "registry" in str(node["notes"])


def test_the_nodes_are_recreated_one_by_one(opened, clients, generator):
    """As an upgrade does: no packet is lost that no reconnect accounts for."""
    nodes = [opened.loaded(service) for service in NODES]
    words = ("up", "--detach", "--wait", "--no-deps", "--force-recreate")
    with roaming(generator, nodes, CLIENTS, PAIRS) as run:
        for service in NODES:
            opened.compose(*words, service)
            opened.settle()
        report = run.finish()
    assert report.is_ok, json.dumps(report.document)
    assert report.number("cuts") >= CLIENTS / 2
    assert report.number("pairs.unexplained") == 0
    relays_over_every_pair(clients)
    derp_map = json.loads(opened.ctl("map", "export", "-f", "derpmap").stdout)
    assert derp_map["Regions"] == _regions(clients), "a pin or an address changed"


def _regions(clients: Region) -> object:
    tree = json.loads(clients.map_file.read_text())["Regions"]
    for region in tree.values():
        for node in region["Nodes"]:
            if node["DERPPort"] == 443:
                del node["DERPPort"]
    return tree


# The page, with the region as it is left by the drills; at its end nothing is left.


def test_the_page(opened):
    """Every command of the page succeeds, in its order."""
    for block in said_by("compose.md", "sh compose"):
        opened.follow(block)
    assert opened.compose("ps", "--all", "--quiet") == ""
