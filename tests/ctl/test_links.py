"""`derpctl mesh links`: who watches whom, what is missing, and every exit code."""

import json

import pytest

from tests.ctl.standins import AdminStandIn, admin, link


@pytest.fixture
def links(derpctl, beside, configured):
    """Ask nodes that have these links, by name; None is a node that is dead."""

    def run(*options, **told):
        urls = {
            name: "unix:/none.sock"
            if has == "dead"
            else beside.start(admin(AdminStandIn(name.removeprefix("_"), links=has)))
            for name, has in told.items()
        }
        return derpctl("--config", configured(**urls), "mesh", "links", *options)

    return run


def states(ended) -> list[tuple[str, str, str]]:
    """Give each row of the document: from, to, state."""
    items = json.loads(ended.out)["items"]
    return [(item["from"], item["to"], item["state"]) for item in items]


def test_all_up(links):
    """A row for each direction, and 0."""
    ended = links(_900a=[link("900b")], _900b=[link("900a")])
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.out.splitlines()) == 3
    assert ended.out.splitlines()[1].split()[:3] == ["900a", "900b", "up"]


def test_document(links):
    """It has what the node said, and how many are up."""
    ended = links("-o", "json", _900a=[link("900b")], _900b=[link("900a")])
    found = json.loads(ended.out)
    heads = ("kind", "region", "up", "expected")
    assert [found[key] for key in heads] == ["MeshLinks", 900, 2, 2]
    assert found["items"][0]["forwarded_packets"] == 1_000


def test_some_are_not(links):
    """One waits, one is not known of, one node is dead: 9."""
    down = link("900b", "waiting", "wrong mesh key")
    told = {"_900a": [down], "_900b": [link("900a"), link("900z")], "_900c": "dead"}
    ended = links("-o", "json", **told)
    assert ended.code == 9
    assert states(ended) == [
        ("900a", "900c", "missing"),
        ("900a", "900b", "waiting"),
        ("900b", "900c", "missing"),
        ("900b", "900a", "up"),
        ("900b", "900z", "up"),
        ("900c", "900a", "unknown"),
        ("900c", "900b", "unknown"),
    ]
    assert "wrong mesh key" in links(_900a=[down], _900b=[]).out


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"_900a": []}, 0),
        ({"_900a": [link("900a", "self")]}, 0),
        ({"_900a": [], "_900b": []}, 10),
        ({"_900a": None, "_900b": None}, 10),
        ({"_900a": "dead", "_900b": "dead"}, 4),
    ],
)
def test_exits(links, told, code):
    """A lone node is well; no link is up; nobody answers."""
    assert links(**told).code == code


def test_sibling_with_the_same_server_key(derpctl, beside, configured):
    """It is named, with what to do; nothing goes over such a link: 10."""
    urls = [
        beside.start(admin(AdminStandIn(name, links=[link(other, "self")])))
        for name, other in (("900a", "900b"), ("900b", "900a"))
    ]
    path = configured(_900a=urls[0], _900b=urls[1])
    ended = derpctl("--config", path, "mesh", "links")
    assert ended.code == 10
    assert ended.out.count("it has this node's server key") == 2
    status = derpctl("--config", path, "status")
    assert status.code == 9
    assert "900a to 900b: self for 75 s: it has this node's server key" in status.out
