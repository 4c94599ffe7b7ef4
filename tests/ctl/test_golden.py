"""The whole output of every command that looks, in fixed width, in five situations.

`tests/ctl/golden/SITUATION.txt` has each command line, its stdout, its stderr and its
exit code. After a change that is meant, `GOLDEN=write make unit` writes them anew, to
be read in the diff.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from derpctl.wanted import registry
from tests.ctl.standins import AdminStandIn, admin, link
from tests.mesh.stewards import running_etcd


GOLDEN = Path(__file__).parent / "golden"
PIN = f"sha256-raw:{'ab' * 32}"
REGION = {"id": 900, "code": "demo", "name": "Demo"}
NODES = {
    "900a": {"name": "900a", "host": "8.8.8.8", "derp_port": 8443, "pin": PIN},
    "900b": {"name": "900b", "host": "b.example.net", "ipv4": "8.8.4.4"},
}

POLICY = """\
{
  // Who may reach whom.
  "acls": [],
  "derpMap": {"Regions": {"1": null}}, // ours comes here
}
"""

OLD = """\
{"Regions": {"900": {"RegionID": 900, "RegionCode": "demo", "RegionName": "Demo",
  "Nodes": [
    {"Name": "900b", "RegionID": 900, "HostName": "b.example.net", "IPv4": "8.8.4.4"},
    {"Name": "900a", "HostName": "https://8.8.8.8:8443", "IPv4": "8.8.8.8"}]}}}
"""

COMMANDS = """\
status
node list
node show 900b
node show 900z
mesh links
region show
region list
map show
map export
map export --fragment --remove-default 1
map export -f derpmap --prefer --latency 900=80 --latency 1=40
map export -f headscale
map export -f headscale-config --map-url https://map.example.net/derpmap/default
map export -f derpprobe
map export -f terraform
map export -f env
map export -f table
map lint cluster
map lint OLD
map lint OLD -o github
map lint JUNK
map diff OLD cluster
map diff JUNK cluster
map diff rev:1 cluster
map verify --against OLD
map verify --against JUNK
map history
map rollback 1
map import OLD --dry-run
map import JUNK
map push tailscale --policy POLICY --dry-run
map push tailscale --policy JUNK --dry-run
map push headscale --path DIR/new.yaml
map push headscale --path DIR/new.yaml
region order 900b
region order 900z
region set --code other
node set 900a --derp-port 443
node add 900c --host 8.8.8.9
node remove 900b
client list
key mesh show
region export
node drain 900z
"""


AWAY = """\
status
node list
region list
map show
map export
map export -f headscale
map lint cluster
map diff OLD cluster
map verify --against OLD
map history
map push headscale --path DIR/new.yaml
region order 900b
node add 900c --host 8.8.8.9
client list
"""
"""What is tried without a registry: it takes seconds to know that it is away."""


@pytest.fixture
def folder():
    """A place whose name has the same length each time, to be masked."""
    found = Path(tempfile.mkdtemp(prefix="golden-", dir="/tmp"))
    yield found
    shutil.rmtree(found)


def standin(name, other):
    """A node that knows the region."""
    page = {
        "source": "etcd",
        "revision": 5,
        "region": REGION,
        "members": list(NODES.values()),
    }
    entry = NODES[name]
    fields = {"HostName": entry["host"], "DERPPort": entry.get("derp_port", 443)}
    return AdminStandIn(
        name,
        entry=fields | {"IPv4": entry.get("ipv4", entry["host"])},
        pinned="pin" in entry,
        links=[link(other)],
        raw={"/v1/membership": web.Response(text=json.dumps(page))},
    )


class Place:
    """Where commands are run: their files, nodes and registry."""

    def __init__(self, folder, beside, derpctl):
        self.folder, self.beside, self._run = folder, beside, derpctl
        self.config = folder / "derpctl.yaml"
        for name, text in {"OLD": OLD, "JUNK": '{"Regions":', "POLICY": POLICY}.items():
            (folder / f"{name.lower()}.json").write_text(text)

    def start(self, *names):
        """Start nodes; give the entries of both for the configuration."""
        found = []
        for name, other in (("900a", "900b"), ("900b", "900a")):
            path = str(self.folder / f"{name}.sock")
            if name in names:
                self.beside.start(admin(standin(name, other), path))
            found.append({"name": name, "admin": f"unix:{path}"})
        return found

    def configure(self, nodes, etcd):
        """Write derpctl's own file."""
        section = {"etcd": {"endpoints": [etcd], "prefix": f"/{secrets.token_hex(4)}"}}
        tree = {"region": 900, "nodes": nodes, "registry": section}
        self.config.write_text(yaml.safe_dump(tree))

    def run(self, *words):
        """Run a command; give how it ended."""
        return self._run("--config", self.config, *words)

    def transcript(self, commands=COMMANDS):
        """Run commands; give what was seen, masked."""
        lines = []
        for line in commands.splitlines():
            words = [self._word(word) for word in line.split()]
            ended = self.run(*words)
            lines.append(f"$ derpctl {line}\n{ended.out}")
            lines += [f"! {one}\n" for one in ended.err.splitlines()]
            lines.append(f"= {ended.code}\n\n")
        return self._masked("".join(lines))

    def _word(self, word):
        if word in {"OLD", "JUNK", "POLICY"}:
            return str(self.folder / f"{word.lower()}.json")
        return word.replace("DIR", str(self.folder))

    def _masked(self, text):
        text = text.replace(str(self.folder), "/tmp/golden-XXXXXXXX")
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "YYYY-MM-DDTHH:MM:SSZ", text)
        text = re.sub(r"\b3\d{3}d\b", "NNNNd", text)  # days until a date
        return re.sub(r"127\.0\.0\.1:\d{5}", "127.0.0.1:NNNNN", text)


@pytest.fixture
def place(folder, beside, derpctl, monkeypatch):
    """A place with nothing in it yet."""
    monkeypatch.setattr(registry, "author", lambda: "ann@desk")
    monkeypatch.setenv("COLUMNS", "100")
    return Place(folder, beside, derpctl)


@pytest.fixture
def etcd(tmp_path):
    """An etcd of its own: its revisions are the same each time."""
    with running_etcd(tmp_path) as found:
        yield found.url


def listed(place, etcd, *alive):
    """Have the region in the registry, and some of its nodes up."""
    place.configure(place.start(*alive), etcd)
    place.run("region", "set", "--code", "demo", "--name", "Demo")
    place.run("node", "add", "900a", "--host", "8.8.8.8", "--pin", PIN, "--yes")
    words = ("--host", "b.example.net", "--ipv4", "8.8.4.4", "--yes")
    place.run("node", "add", "900b", *words)
    place.run("node", "set", "900a", "--derp-port", "8443", "--yes")


def compare(name, text):
    """Compare with what is kept; or keep it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text.splitlines() == path.read_text().splitlines()


@pytest.mark.interop
def test_healthy(place, etcd):
    """Every node answers, and so does the registry."""
    listed(place, etcd, "900a", "900b")
    compare("healthy", place.transcript())


@pytest.mark.interop
def test_a_dead_node(place, etcd):
    """One does not; the map is what it was."""
    listed(place, etcd, "900a")
    compare("dead-node", place.transcript())


def test_registry_is_away(place):
    """The nodes answer for it, and say so."""
    place.configure(place.start("900a", "900b"), "http://127.0.0.1:9")
    compare("registry-away", place.transcript(AWAY))


def test_no_configuration(place):
    """Each command says that there is none, and what to do."""
    compare("no-configuration", place.transcript())


def test_junk(place, tmp_path):
    """A configuration that is none."""
    place.config.write_text("{region: [900")
    compare("junk", place.transcript())
