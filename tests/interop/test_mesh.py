"""Stock clients at different nodes of a region, over every ordered pair of nodes.

The regions: three of our nodes, three stock derpers as the measure, and both kinds
meshed with one another.
"""

import json
import re
from pathlib import Path

import pytest

from tests.interop.conftest import LongChecks, Regions, run_check
from tests.interop.region import Region, Server, Tls, ask
from tests.interop.relays import eventually, meshed


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]

# What holds at one node holds across the mesh.
PAIRS = [
    "sizes",
    "order-2000",
    "bulk-200",
    "presence-fast",
    "probe",
    "peer-gone",
    "left-not-here",
    "websocket",
]
# What takes two nodes.
APART = ["one-hop", "watch-locals", "duplicate-apart", "close-peer-apart"]
# What consists of waiting.
PATIENT = ["probe", "websocket", "duplicate-apart"]
# What is about the region as a whole.
REGION = ["last-place", "moves-50"]
SINGLE = ["link-cut", "node-dies", "one-way", "roaming", "coming-and-going"]
KNOWN = PAIRS + APART + REGION + SINGLE

# Seconds after which each side has a lost link back: derper waits 5 s.
RELINK = {"ours": "2s", "derper": "8s"}


def hold(region: Region, client: str, *words: str) -> list[str]:
    """Run a check that must hold everywhere; return what it notes."""
    verdicts = run_check(region, client, *words)
    failed = [verdict for verdict in verdicts if not verdict["ok"]]
    assert not failed, json.dumps(failed, indent=1)
    return [verdict["detail"] for verdict in verdicts]


def names(region: Region) -> list[str]:
    return [node["name"] for node in region.demo["nodes"]]


@pytest.mark.parametrize("name", PAIRS + APART)
@pytest.mark.parametrize(
    ("mesh", "tls", "client"),
    [
        ("ours", "pinned", "1.102"),
        ("ours", "pinned", "1.104"),
        ("stock", "ca", "1.104"),
        ("mixed", "ca", "1.102"),
        ("mixed", "ca", "1.104"),
    ],
)
def test_every_pair(
    regions: Regions,
    long_checks: LongChecks,
    mesh: str,
    tls: Tls,
    client: str,
    name: str,
):
    """Whatever holds between two clients holds wherever in the region they are."""
    region = regions.mesh(mesh, tls)
    together = ["--together"] if name in PATIENT else []
    found = hold(region, client, name, "--every-pair", *together)
    count = len(names(region))
    assert len(found) == count * (count - 1 if name in APART else count)


@pytest.mark.parametrize("name", ["sizes", "peer-gone", "presence-fast"])
def test_old_client(regions: Regions, name: str):
    """Clients before pins are served across the mesh, too."""
    hold(regions.mesh("ours", "ca"), "1.80", name, "--every-pair")


@pytest.mark.parametrize("name", REGION)
@pytest.mark.parametrize(
    ("mesh", "tls", "client"),
    [
        ("ours", "pinned", "1.102"),
        ("ours", "pinned", "1.104"),
        ("stock", "ca", "1.104"),
        ("mixed", "ca", "1.104"),
    ],
)
def test_region(regions: Regions, mesh: str, tls: Tls, client: str, name: str):
    """A key may be anywhere, and in several places."""
    hold(regions.mesh(mesh, tls), client, name)


@pytest.mark.parametrize("client", ["1.102", "1.104"])
def test_roaming(regions: Regions, client: str):
    """Unlike at derper, a client that moved in silence is reached in 2 s."""
    hold(regions.mesh("ours", "pinned"), client, "roaming")


@pytest.mark.parametrize(("near", "far"), [("900c", "900a"), ("900d", "900b")])
def test_roaming_to_derper(regions: Regions, near: str, far: str):
    """It suffices that the node which it left is ours."""
    words = ["--from", near, "--to", far]
    hold(regions.mesh("mixed", "ca"), "1.104", "roaming", *words)


@pytest.mark.parametrize("client", ["1.102", "1.104"])
def test_link_cut(regions: Regions, client: str):
    """Its routes are gone at once, and back within 2 s."""
    hold(regions.mesh("ours", "pinned"), client, "link-cut", "--every-pair")


@pytest.mark.parametrize(
    ("mesh", "near", "far", "dialler"),
    [
        ("stock", "900a", "900b", "derper"),
        ("mixed", "900a", "900c", "derper"),
        ("mixed", "900b", "900d", "derper"),
        ("mixed", "900c", "900a", "ours"),
        ("mixed", "900d", "900b", "ours"),
    ],
)
def test_link_cut_beside_derper(
    regions: Regions, mesh: str, near: str, far: str, dialler: str
):
    """Who dials a link brings it back: derper after 5 s."""
    words = ["--from", near, "--to", far, "--relink", RELINK[dialler]]
    hold(regions.mesh(mesh, "ca"), "1.104", "link-cut", *words)


@pytest.mark.parametrize(
    ("server", "tls"), [("ours", "pinned"), ("derper-1.104", "ca")]
)
def test_node_dies(built: None, tmp_path: Path, server: Server, tls: Tls):
    """Its routes are gone at the others within a second."""
    with meshed([server] * 2, tmp_path, tls) as found:
        hold(found.region, "1.104", "node-dies", "--to", "900b")


@pytest.mark.parametrize("name", ["sizes", "bulk-200", "peer-gone"])
def test_pinned_beside_derper(regions: Regions, long_checks: LongChecks, name: str):
    """We mesh with derper by pin; it must have our certificates in its trust store."""
    hold(regions.mesh("mixed", "pinned"), "1.104", name, "--every-pair")


def test_derper_knows_no_pins(built: None, tmp_path: Path):
    """Without that the link is ours alone, and packets go one way only."""
    servers: list[Server] = ["derper-1.104", "ours"]
    with meshed(servers, tmp_path, "pinned", trusting=False, start=False) as found:
        derper, ours = found.relays.values()
        for relay in (ours, derper):  # derper dials once, and again after 5 s
            relay.start()
            relay.await_ready()
        found.write()
        eventually(lambda: set(ours.links().values()) == {"up"}, "our link")
        hold(found.region, "1.104", "one-way", "--from", "900b", "--to", "900a")
        refused = r"mesh connect: .* x509: certificate signed by unknown authority"
        assert re.search(refused, derper.log.read_text())


@pytest.mark.slow
def test_links_last(regions: Regions, long_checks: LongChecks):
    """No link is lost for more than a minute, whoever comes and goes.

    derper's links never answer a ping, and each shows the same key to several of our
    nodes, as a client does that moved: they must not be taken for one.
    """
    region = regions.mesh("mixed", "pinned")
    verdict = long_checks.verdict(region, "coming-and-going")
    assert verdict["ok"], verdict["detail"]
    for node in region.demo["nodes"][2:]:
        links = json.loads(ask(node, "/v1/links") or "")["items"]
        assert len(links) == 3
        for link in links:
            assert link["state"] == "up", link
            assert link["since"] > 65, link
    for node in region.demo["nodes"][:2]:
        log = (region.document.parent / node["name"] / "log").read_text()
        assert "Recv: " not in log
