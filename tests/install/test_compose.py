"""The region of compose/compose.yaml: it comes up, and lives through what befalls it.

Drills are walked in the order of this file, on one project. Their limits are those of
the mesh (``docs/topics/mesh.md``), which must hold in containers as well.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from derpctl.authority import Authority
from derpmesh.config import load_daemon_config
from derpnode.client import ClientError, ClientTls, connect
from derpnode.server.mapentry import map_entry
from derpnode.wire.keys import PrivateKey, node_key_text
from tests.bench.build import derpload
from tests.docs.blocks import COMPOSE_STEPS, Block, blocks_of
from tests.install.projects import (
    COMPOSE,
    ETCDS,
    IMAGE,
    LABEL,
    NODES,
    PATIENCE,
    PROJECT,
    ROOT,
    Project,
    attempt,
    becomes,
    container,
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

CONFIG_UNUSABLE = 3
"""An exit code. Source: ``docs/reference/exit-codes.md``."""

ONE_RIGHT = 1 << 10
"""CAP_NET_BIND_SERVICE. Source: ``linux/capability.h``."""

RUNNING = (*NODES, *ETCDS)

IMPATIENT = "scrape_interval: 1s"


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
def up(region) -> Project:
    """The same, running, also where the first test is left out."""
    region.compose("up", "--detach", "--wait")
    region.settle()
    return region


@pytest.fixture(scope="module")
def clients(up, tmp_path_factory) -> Region:
    """What clients are told of the region."""
    return up.region(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def generator() -> Generator:
    try:
        return Generator(derpload())
    except MissingTool as missing:
        pytest.skip(f"NOT RUN under load: {missing}")


def step(name: str) -> Block:
    """Give what the page says at one of its steps."""
    (block,) = said_by("compose.md", f"sh compose {name}")
    return block


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
    region.follow(step("up"))
    lasted = (now() - began).total_seconds()
    record_property("seconds", lasted)
    assert lasted < UP_LIMIT


def test_status_is_green(up):
    """What the page says first after that: every node serves, every link is up."""
    said = up.follow(step("status"))
    assert "region 900 Home · healthy · serving 3/3 · mesh 6/6" in said


def test_the_map_is_printed(up):
    """A policy with the three nodes, each with its address and the pin it shows."""
    said = up.follow(step("map"))
    assert re.findall(r'"Name": +"(900.)"', said) == list(NODES.values())
    assert re.findall(r'"IPv4": +"(.*?)"', said) == list(map(up.address, NODES))
    assert len(set(re.findall(r'"sha256-raw:[0-9a-f]{64}"', said))) == len(NODES)


def test_the_containers_may_do_little(up):
    """No root, no capabilities, nothing to write to but what is the node's own."""
    for service in (*NODES, *ETCDS):
        form = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}"
        assert up.inspect(service, form) == "65532:65532 true [ALL]"
        pid = up.inspect(service, "{{.State.Pid}}")
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


def test_nobody_is_admitted_until_listed(up, clients):
    """A stranger is refused; from the moment that the file lists him he is not."""
    process = start_check(clients, CLIENT, "refused")
    verdict = judge(*process.communicate(timeout=PATIENCE))
    assert verdict["ok"], verdict["detail"]
    somebody = PrivateKey.from_seed(os.urandom(32))
    block = step("clients")
    (printed,) = set(re.findall(r"nodekey:[0-9a-f]{64}", block.text))
    up.follow(block, paths={printed: node_key_text(somebody.public)})
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


def test_init_makes_nothing_twice(up):
    """Another `up` leaves the keys as they are, and who runs alone."""
    form = "{{.State.StartedAt}}"
    before = [up.inspect(service, form) for service in NODES]
    keys = _keys(up)
    up.compose("up", "--detach", "--wait")
    assert _keys(up) == keys
    assert [up.inspect(service, form) for service in NODES] == before


def _keys(region: Project) -> str:
    words = ("sh", "-c", "cat /etc/derpmesh/keys/mesh.key /etc/derpmesh/keys/admin/*")
    return region.compose("exec", "-T", "node-a", *words)


# What befalls it. From here on everybody may relay.


@pytest.fixture(scope="module")
def opened(up, clients) -> Project:
    """The region, where everybody may relay: keys of test clients are new each time."""
    (up.folder / "open.yaml").write_text(yaml.safe_dump(OPEN))
    up.files.append("open.yaml")
    up.compose("up", "--detach", "--wait", *NODES)
    up.settle()
    return up


def test_stock_clients_relay_over_every_pair(opened, clients):
    """Go's own clients, on whichever nodes they are."""
    relays_over_every_pair(clients)


def test_a_node_is_killed(opened, clients, generator, record_property):
    """M1: its routes are gone in a second, its clients go on; it comes back."""
    others = ("node-a", "node-c")
    nodes = [opened.loaded(service) for service in ("node-b", *others)]
    with roaming(generator, nodes, CLIENTS, PAIRS) as run:
        began = now()
        kill, *rest = step("kill").text.splitlines()
        opened.follow(step("kill")._replace(text=kill))
        died = datetime.fromisoformat(opened.inspect("node-b", "{{.State.FinishedAt}}"))
        becomes(lambda: all(opened.said(n, "link 900b: lost", began) for n in others))
        report = run.finish()
    gone = [opened.said(service, "link 900b: lost", began) for service in others]
    slowest = max((at - died).total_seconds() for at in gone if at is not None)
    record_property("routes gone", slowest)
    assert slowest < ROUTES_GONE  # less than 0: the engine noted its end later
    assert report.is_ok, json.dumps(report.document)
    opened.follow(step("kill")._replace(text="\n".join(rest)))
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
    opened.compose("up", "--detach", "--wait", first)


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
    words = ("up", "--detach", "--wait", "--force-recreate")
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


# What is laid over it; at the end nothing is left.


@pytest.fixture(scope="module")
def monitored(opened) -> Project:
    """The region, where this machine's Prometheus stands in for its image."""
    programs = [shutil.which(name) for name in ("prometheus", "promtool")]
    if None in programs:
        pytest.skip("prometheus is not on PATH; install it: apt install prometheus")
    file = opened.folder / "config/prometheus.yaml"
    file.write_text(file.read_text().replace("scrape_interval: 15s", IMPATIENT))
    instead = {
        "image": IMAGE,
        "entrypoint": ["prometheus"],
        "volumes": [f"{one}:/usr/local/bin/{Path(one).name}:ro" for one in programs],
        "ports": [],
    }
    tree = yaml.safe_dump({"services": {"prometheus": instead}})
    text = tree.replace("ports: []", "ports: !reset []")
    (opened.folder / "quiet.yaml").write_text(text)
    return opened


def test_prometheus_gets_what_it_asks_for(monitored, tmp_path):
    """It has all relays, trusts the authority, and could command nobody.

    Nothing that ran before is disturbed by that. It once had the volume of the keys,
    with the token in it, and was where etcd lets everybody write.
    """
    file = (monitored.folder / "config/prometheus.yaml").read_text()
    here = tmp_path / "prometheus.yaml"
    here.write_text(file.replace("/data/ca.crt", str(monitored.keys / "admin/ca.crt")))
    subprocess.run(["promtool", "check", "config", here], check=True)
    started = [monitored.inspect(one, "{{.State.StartedAt}}") for one in RUNNING]
    also = ("compose.ci.yaml", "open.yaml", "quiet.yaml")
    monitored.files += ["compose.monitoring.yaml", "quiet.yaml"]
    monitored.follow(step("monitoring"), also=also)
    network = f"{PROJECT}_region"
    assert list(monitored.networks("prometheus")) == [network]
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    address = monitored.inspect("prometheus", form)
    wanted = {f"{name}:9090" for name in NODES}
    becomes(lambda: _scraped(address) == wanted)
    named = monitored.inspect("prometheus", "{{range .Mounts}}{{.Name}} {{end}}")
    assert named.split() == [f"{PROJECT}_prometheus"]
    kept = monitored.compose("exec", "-T", "prometheus", "ls", "/data", "/config")
    assert "ca.crt" in kept.split()
    assert not {"token", "admin.key", "mesh.key", "clients"} & set(kept.split())
    assert started == [
        monitored.inspect(one, "{{.State.StartedAt}}") for one in RUNNING
    ]


def _scraped(address: str) -> set[str]:
    """Name what Prometheus has got something of."""
    query = f"http://{address}:9090/api/v1/query?query=up==1"
    try:
        with urllib.request.urlopen(query, timeout=5) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return set()  # it is about to start
    return {one["metric"]["instance"] for one in found}


def test_two_regions_are_strangers(opened):
    """They share an etcd, and no link: each knows its own nodes alone."""
    also = ("compose.ci.yaml", "open.yaml")
    up, status, export = step("regions").text.splitlines()
    opened.files.append("compose.two-regions.yaml")
    opened.follow(step("regions")._replace(text=up), also=also)
    told: list[str] = []

    def is_green() -> bool:
        with contextlib.suppress(AssertionError):
            asked = step("regions")._replace(text=status)
            told.append(opened.follow(asked, also=also))
        return bool(told)

    becomes(is_green)
    assert "serving 2/2 · mesh 2/2" in told[0]
    said = opened.follow(step("regions")._replace(text=export), also=also)
    assert re.findall(r'"Name": +"(9.+?)"', said) == ["901a", "901b"]
    for service, name in NODES.items():
        assert set(opened.links(service)) == set(NODES.values()) - {name}


def test_nothing_is_left(opened):
    """The last command of the page removes everything that its files name."""
    opened.follow(step("down"))
    for what in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert opened.docker(*what, "--quiet", "--filter", LABEL) == ""


# One relay on a host of its own.


@pytest.fixture
def host(environment, tmp_path) -> Iterator[Project]:
    """What the page asks for on a host, but for a network: there is none here."""
    etc, state = tmp_path / "etc", tmp_path / "state"
    lab = {
        "services": {
            "derpd": {
                "network_mode": "none",
                "pull_policy": "never",
                "ulimits": {"nofile": 20000},
                "volumes": [f"{etc}:/etc/derpmesh:ro", f"{state}:/var/lib/derpd"],
            }
        }
    }
    with project(environment, tmp_path, ["compose.prod.yaml", "lab.yaml"]) as found:
        (found.folder / "lab.yaml").write_text(yaml.safe_dump(lab))
        _furnish(etc, (found.folder / "prod/derpd.yaml").read_text())
        yield found


def _furnish(etc: Path, printed: str) -> None:
    """Make what the configuration names, and the page does not."""
    etc.mkdir()
    (etc / "derpd.yaml").write_text(printed.replace("203.0.113.10", "127.0.0.1"))
    (etc / "clients").touch()
    authority = Authority()
    pair = authority.issue(["derp-a.example.net"])
    for name, data in (
        ("derp-a.example.net.crt", pair.certificate),
        ("derp-a.example.net.key", pair.key),
        ("etcd-ca.pem", authority.pem),
        ("etcd-client.pem", pair.certificate),
        ("etcd-client.key", pair.key),
        ("etcd.password", b"secret\n"),
    ):
        (etc / name).touch(0o600)
        (etc / name).write_bytes(data)


def _tells_of_etcd(line: Mapping[str, str]) -> bool:
    """Whether a line says which etcd does not answer, why, and what that means."""
    told = r"registry: etcd: https://etcd-\d.*; the last good one stays in force"
    return line["level"] == "warning" and bool(re.match(told, line["message"]))


def test_one_relay_on_a_host(host, tmp_path):
    """It serves though its etcd is away, as root with one right of root's."""
    paths = {"/etc/derpmesh": str(tmp_path / "etc")}
    for block in said_by("compose.md", "sh compose prod"):
        host.follow(block, also=["lab.yaml"], paths=paths)
    assert host.inspect("derpd", "{{.State.Health.Status}}") == "healthy"
    becomes(lambda: any(map(_tells_of_etcd, host.logged("derpd"))))
    assert "Traceback" not in host.docker("logs", container("derpd"))
    pid = host.inspect("derpd", "{{.State.Pid}}")
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^CapEff:\t(\w+)$", status, re.MULTILINE)
    assert found is not None
    assert int(found[1], 16) == ONE_RIGHT
    assert re.search(r"^Uid:\t0\t0\t0\t0$", status, re.MULTILINE)


# What is written is right, and what is wrong is told.


@pytest.mark.parametrize(
    "files",
    [
        ["compose.yaml"],
        ["compose.yaml", "compose.monitoring.yaml"],
        ["compose.yaml", "compose.two-regions.yaml"],
        ["compose.yaml", "compose.monitoring.yaml", "compose.two-regions.yaml"],
        ["compose.yaml", "compose.monitoring.yaml", "compose.ci.yaml"],
        ["compose.yaml", "compose.two-regions.yaml", "compose.ci.yaml"],
        ["compose.prod.yaml"],
        ["compose.ip.yaml"],
    ],
    ids="+".join,
)
def test_files_go_together(environment, files):
    """Compose takes every combination that the page names."""
    words = [word for file in files for word in ("-f", file)]
    chosen = {**environment, "DERP_ADDRESS": "203.0.113.10"}
    done = attempt(chosen, "compose", *words, "config", "--quiet", folder=COMPOSE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("address", ["", "203.0.113.10"])
def test_nodes_are_configured(environment, address):
    """What compose gives a node is a configuration; an address brings its ports."""
    chosen = {**environment, "DERP_ADDRESS": address}
    words = ("compose", "-f", "compose.yaml", "config", "--format", "json")
    services = json.loads(attempt(chosen, *words, folder=COMPOSE).stdout)["services"]
    for index, (service, name) in enumerate(NODES.items()):
        given = services[service]["environment"]
        config = load_daemon_config(COMPOSE / "config/derpd.yaml", given)
        assert config.node.name == name
        assert config.node.host == (address or f"172.30.90.{11 + index}")
        port = 8443 + index if address else None
        assert config.derp.public_port == port
        # Clients that are told of it ask there, and it is published by nobody.
        promised = map_entry(config, None, 443, 3478).get("CanPort80", False)
        assert promised is not bool(address)
        published = services[service]["ports"]
        assert [one["published"] for one in published] == [
            str(8443 + index),
            str(3478 + index),
        ]
        assert {one["host_ip"] for one in published} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, ["mesh.key_file = .*: no such file; "]),
        (
            {"DERPD_REGION__ID": "none", "DERPD_REGON__ID": "901"},
            ["region.id = ", "regon.*; "],
        ),
    ],
    ids=["no keys", "wrong variables"],
)
def test_what_is_wrong_is_told(environment, variables, told):
    """A node without the volume of `init`, or with a misspelt variable: a line each."""
    given = {"DERPD_NODE__HOST": "172.30.90.9", **variables}
    words = [word for item in given.items() for word in ("--env", "=".join(item))]
    mount = ("--network", "none", "--volume", f"{COMPOSE / 'config'}:/config:ro")
    command = (IMAGE, "--config", "/config/derpd.yaml")
    done = attempt(environment, "run", "--rm", *mount, *words, *command)
    assert done.returncode == CONFIG_UNUSABLE
    lines = [line for line in done.stderr.splitlines() if line.startswith("derpd: ")]
    assert len(lines) == len(told), done.stderr
    for wanted in told:
        assert any(re.match(f"derpd: {wanted}", line) for line in lines), done.stderr
    assert "Traceback" not in done.stderr


def test_derpctl_before_the_first_up(environment, tmp_path):
    """There is no token yet: one line says so."""
    with project(environment, tmp_path, ["compose.yaml", "compose.ci.yaml"]) as found:
        done = found.ctl("status")
    assert done.returncode == CONFIG_UNUSABLE
    assert "derpctl: /etc/derpmesh/keys/admin/token: " in done.stderr
    assert "Traceback" not in done.stderr


def test_every_step_of_the_page_is_walked():
    """A block that is added to the page is run somewhere here."""
    marks = {block.mark for block in blocks_of(ROOT / "docs/howto/compose.md")}
    steps = {f"sh compose {step}" for step in COMPOSE_STEPS}
    assert {mark for mark in marks if mark.startswith("sh compose")} == steps
    for name in COMPOSE_STEPS:
        assert name == "prod" or step(name)
