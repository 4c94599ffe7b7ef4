"""`derpctl node …`: looks at nodes, and steers real ones."""

import json

import pytest

from tests.ctl.regions import admins, start
from tests.ctl.standins import AdminStandIn, admin, link
from tests.mesh.region import cluster


@pytest.fixture
def config(beside, configured):
    """A node that answers, and one that is dead."""
    url = beside.start(admin(AdminStandIn(links=[link("900b")])))
    return configured(_900a=url, _900b="unix:/none/b.sock")


@pytest.fixture
def region(beside, configured):
    """Two real nodes that are linked; gives them and derpctl's configuration."""
    found = beside.start(cluster())
    beside.run(start(found, "ab"))
    return found, configured(**admins(list(found.nodes.values())))


def test_list(derpctl, config):
    """Those that do not answer are listed too, and 0."""
    ended = derpctl("--config", config, "node", "list")
    assert ended.code == 0
    rows = [line.split()[:2] for line in ended.out.splitlines()[1:3]]
    assert rows == [["900a", "serving"], ["900b", "dead"]]
    found = json.loads(derpctl("--config", config, "node", "list", "-o", "json").out)
    assert (found["kind"], found["region"]) == ("NodeList", 900)
    assert [item["alive"] for item in found["items"]] == [True, False]


def test_list_of_the_dead(derpctl, configured):
    """Nobody answers: 4."""
    path = configured(_900a="unix:/none/a.sock")
    assert derpctl("--config", path, "node", "list").code == 4


def test_show(derpctl, config):
    """What a node says, and its links; 4 if it is dead, 5 if there is none."""
    ended = derpctl("--config", config, "node", "show", "900a")
    assert (ended.code, ended.err) == (0, "")
    assert "192.0.2.10:8443" in ended.out
    assert ended.out.splitlines()[-1].split()[:3] == ["900a", "900b", "up"]
    ended = derpctl("--config", config, "node", "show", "900a", "-o", "json")
    found = json.loads(ended.out)
    assert (found["kind"], found["name"], len(found["links"])) == ("Node", "900a", 1)
    ended = derpctl("--config", config, "node", "show", "900b")
    assert (ended.code, "no such file or directory" in ended.out) == (4, True)
    assert derpctl("--config", config, "node", "show", "900z").code == 5


def test_drain_and_undrain(derpctl, beside, region):
    """It drains to the end, with a client in it, and serves again."""
    found, path = region
    node = found.nodes["a"]
    beside.run(found.connect(node))
    drain = ("node", "drain", "900a", "--wait", "--grace", "1", "--timeout", "20")
    ended = derpctl("--config", path, *drain)
    assert (ended.code, ended.out) == (0, "900a: drained, 0 clients left\n")
    assert node.node.state == "drained"
    ended = derpctl("--config", path, "node", "undrain", "900a", "-o", "json")
    item = json.loads(ended.out)
    assert (ended.code, item["kind"], item["state"]) == (0, "NodeUndrain", "serving")


def test_the_last_one(derpctl, region):
    """Refused with 6, unless forced; nothing changes before."""
    found, path = region
    drain = ("node", "drain", "900b", "--wait", "--grace", "0", "--timeout", "20")
    assert derpctl("--config", path, *drain).code == 0
    ended = derpctl("--config", path, "node", "drain", "900a")
    assert (ended.code, ended.out) == (6, "")
    assert "use --force to do it anyway" in ended.err
    assert found.nodes["a"].node.state == "serving"
    ended = derpctl("--config", path, "node", "drain", "900a", "--force")
    assert (ended.code, ended.out.startswith("900a: drain")) == (0, True)


def test_a_drain_that_takes_long(derpctl, beside, configured):
    """The deadline is 11, and how many are left; the drain goes on."""
    url = beside.start(admin(AdminStandIn(leaving=[3] * 1000)))
    path = configured(_900a=url)
    drain = ("node", "drain", "900a", "--force", "--wait", "--timeout", "0.1")
    ended = derpctl("--config", path, *drain)
    assert (ended.code, ended.out) == (11, "900a: draining, 3 clients left\n")
    assert "900a: not drained in 0.1 s; it goes on" in ended.err


def test_somebody_else_steers(derpctl, beside, configured, monkeypatch):
    """A node that serves again while it should drain: 6."""
    standin = AdminStandIn()
    monkeypatch.setattr(standin, "_look", lambda: setattr(standin, "state", "serving"))
    path = configured(_900a=beside.start(admin(standin)))
    ended = derpctl("--config", path, "node", "drain", "900a", "--force", "--wait")
    assert (ended.code, "it is serving now" in ended.err) == (6, True)
    assert standin.commands == ["/v1/drain?force=1"]


@pytest.mark.parametrize("command", ["drain", "undrain"])
def test_nobody_to_steer(derpctl, config, command):
    """A dead node is 4, an unknown one 5."""
    ended = derpctl("--config", config, "node", command, "900b")
    assert (ended.code, ended.out) == (4, "")
    assert derpctl("--config", config, "node", command, "900z").code == 5
