"""`derpctl probe mesh`: real nodes, and what is said of each fault between them."""

import json

import pytest

from derpctl.probe.matrix import Cell, Outcome
from derpnode.config import Address
from derpnode.wire.keys import MeshKey
from tests.ctl.regions import admins, start
from tests.ctl.standins import AdminStandIn, admin
from tests.mesh.region import (
    DERP_PORT,
    REGION,
    Wire,
    cluster,
    fresh_address,
    region_text,
)


@pytest.fixture
def region(beside):
    """A region without nodes."""
    return beside.start(cluster())


@pytest.fixture
def probe(derpctl, configured, region):
    """Probe the nodes of the region."""

    def run(*options, **more):
        path = configured(**admins(list(region.nodes.values())), **more)
        return derpctl("--config", path, "probe", "mesh", "--count", 3, *options)

    return run


def outcomes(ended) -> dict[tuple[str, str], str]:
    """Give the outcome of each cell of the document."""
    items = json.loads(ended.out)["items"]
    return {(item["from"][3:], item["to"][3:]): item["outcome"] for item in items}


def test_all_is_well(beside, region, probe):
    """Three nodes, nine cells, and 0."""
    beside.run(start(region, "abc"))
    ended = probe("-o", "json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["verdict"] == "ok"
    assert list(outcomes(ended).values()) == ["ok"] * 9


def test_slow(beside, region, probe):
    """Nothing is fast enough: 10, and how long it takes."""
    beside.run(start(region, "a"))
    ended = probe("--threshold-rtt", "0.0001")
    assert ended.code == 10
    assert "900a to 900a: slow: a round trip takes" in ended.out


def test_not_announced(beside, region, probe):
    """A node that is not in the region's file is known to nobody: 9, and the link."""
    beside.run(start(region, "ab", "900b"))
    ended = probe("--timeout", "2", "-o", "json")
    assert ended.code == 9
    assert outcomes(ended)["a", "a"] == "ok"
    assert outcomes(ended)["a", "b"] == "not announced"
    detail = json.loads(ended.out)["items"][1]["detail"]
    assert "900a does not know who is there; link 900a to 900b: missing" in detail


def test_dead(beside, region, probe):
    """Nobody knows where a dead node is; the rest is as it was: 9."""
    beside.run(start(region, "a"))
    ended = probe("-o", "json", _900b="unix:/none/b.sock")
    assert ended.code == 9
    assert outcomes(ended) == {
        ("a", "a"): "ok",
        ("a", "b"): "connect failed",
        ("b", "a"): "connect failed",
        ("b", "b"): "connect failed",
    }


def test_what_is_alike_is_said_once(beside, region, probe):
    """A node that is down is one line, however many pairs it is in."""
    beside.run(start(region, "a"))
    ended = probe(_900b="unix:/none/b.sock")
    *_, last = ended.out.splitlines()
    assert last.startswith("3 pairs: connect failed: 900b: nobody knows where it is")
    assert "900a to 900b:" not in ended.out


def test_wrong_mesh_key(beside, region, probe):
    """Nodes with different keys do not know each other's clients: 9, both ways."""
    nodes = [region.place(letter) for letter in "ab"]
    nodes[1].configure(MeshKey(bytes([7]) * 32))
    region.write(*nodes)
    for node in nodes:
        beside.run(region.start(node))
    ended = probe("--timeout", "2", "-o", "json")
    assert ended.code == 9
    found = outcomes(ended)
    assert (found["a", "a"], found["b", "b"]) == ("ok", "ok")
    assert (found["a", "b"], found["b", "a"]) == ("not announced", "not announced")


def test_lost(beside, region, probe):
    """A link that swallows what is sent over it: both nodes know of each other.

    Nothing tells a pair apart from one that is only not announced yet, but what the
    sender's node says at last.
    """
    a, b = region.place("a"), region.place("b")
    wire = beside.start(Wire(b).laid())
    way = Address(wire.host, DERP_PORT)
    region.edit(
        region_text(REGION, a.member, b.member.model_copy(update={"dial": way}))
    )
    for node in (a, b):
        beside.run(region.start(node))
    beside.run(region.linked(a, b))
    beside.run(darken(wire))
    ended = probe("--timeout", "1", "-o", "json")
    assert ended.code == 9
    assert outcomes(ended) == {
        ("a", "a"): "ok",
        ("a", "b"): "lost",
        ("b", "a"): "ok",
        ("b", "b"): "ok",
    }


async def darken(wire: Wire) -> None:
    """Let nothing through to the node, in the loop of the wire."""
    wire.darken(back=False)


def test_refused(beside, region, probe, tmp_path):
    """A node that admits others only: refused in its row and its column."""
    nodes = [region.place(letter) for letter in "ab"]
    keys = tmp_path / "keys"
    keys.write_text("")
    nodes[1].configure(admission={"mode": "any", "key_file": str(keys)})
    region.write(*nodes)
    for node in nodes:
        beside.run(region.start(node))
    ended = probe("-o", "json")
    assert ended.code == 9
    assert outcomes(ended) == {
        ("a", "a"): "ok",
        ("a", "b"): "refused",
        ("b", "a"): "refused",
        ("b", "b"): "refused",
    }


def test_connect_failed(derpctl, beside, configured):
    """The admin answers, and nobody listens where the node should be: 10."""
    host = fresh_address()
    entry = {"HostName": host, "IPv4": host, "DERPPort": DERP_PORT}
    url = beside.start(admin(AdminStandIn(entry=entry)))
    ended = derpctl("--config", configured(_900a=url), "probe", "mesh")
    assert (ended.code, "connect failed: 900a: tcp:" in ended.out) == (10, True)


def test_nobody_answers(derpctl, configured):
    """Nobody knows where any node is: 4."""
    ended = derpctl("--config", configured(_900a="unix:/none"), "probe", "mesh")
    assert (ended.code, ended.out) == (4, "")


def test_an_entry_that_cannot_be_used(derpctl, beside, configured):
    """What a node says of itself may be no entry: nothing can be reached, 10."""
    url = beside.start(admin(AdminStandIn(entry={"DERPPort": "x"})))
    ended = derpctl("--config", configured(_900a=url), "probe", "mesh")
    assert (ended.code, "connect failed: 900a" in ended.out) == (10, True)


def test_percentiles():
    """The median and the 95th of a hundred; neither of none."""
    cell = Cell("a", "b", Outcome.OK, trips=[float(n) for n in range(1, 101)])
    assert (cell.median, cell.p95) == (50.5, 95.0)
    assert (Cell("a", "b", Outcome.OK).median, Cell("a", "b", Outcome.OK).p95) == (
        None,
        None,
    )
