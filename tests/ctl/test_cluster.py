"""Where the map of the region is from, and what it is worth."""

import json

import pytest
from aiohttp import web

from tests.ctl.standins import AdminStandIn, admin


REGION = {"id": 900, "code": "demo", "name": "Demo"}
REGION |= {"latitude": 22.3, "longitude": 114.2}
A = {"name": "900a", "host": "8.8.8.8"}
B = {"name": "900b", "host": "b.example.net", "ipv4": "8.8.4.4", "stun_only": True}


def standin(name="900a", *, members=(A, B), region=REGION, **page):
    """A node that knows the region."""
    said = {"source": "etcd", "revision": 7, "region": region, "members": members}
    text = json.dumps(said | page)
    return AdminStandIn(name, raw={"/v1/membership": web.Response(text=text)})


@pytest.fixture
def exported(derpctl, beside, configured):
    """Export the map of nodes that answer, and of one that is dead."""

    def run(*standins, extra=None):
        urls = {f"_{one.name}": beside.start(admin(one)) for one in standins}
        path = configured(_900z="unix:/none/z.sock", extra=extra, **urls)
        return derpctl("--config", path, "map", "export", "-f", "derpmap")

    return run


def test_dead_nodes_take_nothing_from_the_map(exported):
    """One that knows the region is enough: the map is what is wanted."""
    ended = exported(standin())
    region = json.loads(ended.out)["Regions"]["900"]
    assert (ended.code, ended.err) == (0, "")
    assert [node["Name"] for node in region["Nodes"]] == ["900a", "900b"]
    assert region["Nodes"][0] == {
        "Name": "900a",
        "RegionID": 900,
        "HostName": "8.8.8.8",
        "IPv4": "8.8.8.8",
        "IPv6": "none",
    }
    assert (region["Nodes"][1]["STUNOnly"], region["Latitude"]) == (True, 22.3)


def test_who_has_read_most_of_the_registry_is_believed(exported):
    """One that lags shows the past."""
    ended = exported(standin(members=[A], revision=6), standin("900b"))
    assert len(json.loads(ended.out)["Regions"]["900"]["Nodes"]) == 2


def test_a_snapshot_is_said_to_be_one(exported):
    """The nodes themselves cannot read the registry."""
    ended = exported(standin(source="snapshot"))
    assert ended.code == 0
    assert ended.err == (
        "derpctl: the nodes cannot read the registry; this is as 900a has it\n"
    )


def test_registry_away(exported):
    """The nodes answer for it, and the operator hears of it."""
    etcd = {"endpoints": ["http://127.0.0.1:9"]}
    ended = exported(standin(), extra={"registry": {"etcd": etcd}})
    assert (ended.code, len(json.loads(ended.out)["Regions"])) == (0, 1)
    assert ended.err.startswith("derpctl: the registry is away: ")
    assert ended.err.endswith("; this is as 900a has it\n")


def test_files_that_differ(exported):
    """Each node has its own, and counts for itself how often it read it."""
    ended = exported(
        standin(source="file"), standin("900b", source="file", members=[A], revision=9)
    )
    assert (ended.code, ended.out) == (7, "")
    assert ended.err == (
        "derpctl: the map: 900a and 900b have it otherwise; give every node of the"
        " region the same file\n"
    )


@pytest.mark.parametrize(
    ("page", "code", "message"),
    [
        ({"region": REGION | {"id": 901}}, 3, "region = 900: 900a is in region 901"),
        ({"members": [{"name": "900a"}]}, 7, "900a: host = {'name': '900a'"),
        ({"region": REGION | {"latitude": 91}}, 7, "900a: latitude = 91"),
    ],
)
def test_pages_that_cannot_be_used(exported, page, code, message):
    """What is wrong with whom."""
    ended = exported(standin(**page))
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(f"derpctl: {message}")
