"""Commands that write what is wanted into a real etcd, which real nodes follow."""

import json
import os
import time

import pytest

from derpctl.config import load_ctl_config
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.wanted.members import member_of
from derpctl.wanted.registry import author
from derpmesh.config import EtcdSection
from derpmesh.membership.model import Member
from derpmesh.membership.operator import operating
from tests.ctl.regions import admins
from tests.ctl.standins import AdminStandIn, admin
from tests.mesh.region import cluster, fresh_key
from tests.mesh.stewards import running_etcd
from tests.support.etcd import names


LETTERS = "abc"


@pytest.fixture
def etcd(tmp_path):
    """An etcd that may be killed."""
    with running_etcd(tmp_path) as found:
        yield found


@pytest.fixture
def region(beside, configured, etcd):
    """Three nodes that recorded themselves; derpctl knows the first and the etcd."""
    found = beside.start(cluster())
    settings = {"etcd": {"endpoints": [etcd.url], "ttl": 5}}

    async def begin():
        nodes = [found.place(letter) for letter in LETTERS]
        for node in nodes:
            node.configure(registry=settings)
            await found.start(node)
        await found.linked(*nodes)

    beside.run(begin())
    nodes = [found.nodes[letter] for letter in LETTERS]
    return found, configured(
        **admins(nodes[:1]), extra={"registry": {"etcd": {"endpoints": [etcd.url]}}}
    )


def eventually(condition, within: float = 10.0) -> None:
    """Wait until something is true in the loop beside the test."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def soon(beside):
    """Wait until something is true of nodes, which is looked at in their own loop."""

    async def look(condition):
        return condition()

    def wait(condition, within: float = 10.0) -> None:
        eventually(lambda: beside.run(look(condition)), within)

    return wait


pytestmark = pytest.mark.interop


def test_nodes_are_found(derpctl, region):
    """Those that are not configured are known by those that are."""
    _, path = region
    eventually(lambda: derpctl("--config", path, "status").code == 0)
    document = json.loads(derpctl("--config", path, "status", "-o", "json").out)
    assert [item["name"] for item in document["items"]] == ["900a", "900b", "900c"]
    assert [item["alive"] for item in document["items"]] == [True] * 3
    assert (document["serving"], document["expected"]) == (3, 3)
    assert derpctl("--config", path, "node", "show", "900c").code == 0


def test_no_node_is_configured(derpctl, region, configured, etcd):
    """The registry knows them; without it there is nobody to ask."""
    path = configured(extra={"registry": {"etcd": {"endpoints": [etcd.url]}}})
    listed = derpctl("--config", path, "node", "list")
    assert (listed.code, listed.err) == (0, "")
    rows = [line.split()[:2] for line in listed.out.splitlines()[1:]]
    assert rows == [["900a", "serving"], ["900b", "serving"], ["900c", "serving"]]
    etcd.kill()
    ended = derpctl("--config", path, "node", "list")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("derpctl: registry: ")


def test_node_refuses_what_is_wished_for(derpctl, beside, configured, etcd):
    """The wish stays, and drains the node later: that is said, and how to undo it."""
    refusing = AdminStandIn("900b", refusal="no other node takes clients")
    urls = {
        "_900a": beside.start(admin(AdminStandIn())),
        "_900b": beside.start(admin(refusing)),
    }
    settings = EtcdSection(endpoints=[etcd.url])

    async def list_it() -> None:
        async with operating(settings, 900, "ann") as operator:
            await operator.add(Member(name="900b", host="192.0.2.10"))

    beside.run(list_it())
    extra = {"registry": {"etcd": {"endpoints": [etcd.url]}}}
    ended = derpctl(
        "--config", configured(**urls, extra=extra), "node", "drain", "900b"
    )
    assert (ended.code, ended.out) == (6, "")
    assert ended.err.splitlines()[-1] == (
        "derpctl: node drain 900b: no other node takes clients; it stays wished for in "
        "the registry; use --force to do it anyway, or derpctl node undrain 900b to "
        "take it back"
    )


COMMANDS = [
    ("status",),
    ("node", "list"),
    ("node", "show", "901a"),
    ("node", "drain", "901a"),
    ("mesh", "links"),
    ("events",),
    ("map", "export"),
    ("region", "check"),
    ("region", "confirm"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_registry_knows_no_node(derpctl, configured, etcd, command):
    """Each says so. `events` ended in a traceback, and `map export` gave an empty map.

    So it is where the region's number is mistaken: it must not look like success.
    """
    extra = {"nodes": [], "registry": {"etcd": {"endpoints": [etcd.url]}}}
    path = configured(901, extra=extra)
    ended = derpctl("--config", path, *command)
    assert ended == (
        5,
        "",
        "derpctl: region 901: the registry has no node of it; start one, or correct "
        "region in derpctl's configuration\n",
    )


def test_map_has_every_node(derpctl, region, configured, etcd):
    """Those too that are not configured: clients lost them with the next map."""
    _, path = region

    def nodes(path) -> list[str]:
        ended = derpctl("--config", path, "map", "export", "-f", "derpmap")
        found = json.loads(ended.out)["Regions"]["900"]["Nodes"]
        return [node["Name"] for node in found]

    assert nodes(path) == ["900a", "900b", "900c"]
    bare = configured(extra={"registry": {"etcd": {"endpoints": [etcd.url]}}})
    assert nodes(bare) == ["900a", "900b", "900c"]


def test_map_is_without_a_node_that_was_taken_out(derpctl, region, soon):
    """Though it is configured, and answers: clients would be sent to an empty node."""
    found, path = region
    assert derpctl("--config", path, "node", "remove", "900a", "--force").code == 0
    b = found.nodes["b"]
    soon(lambda: b.node.region.membership()["struck"] == ["900a"])
    ended = derpctl("--config", path, "map", "export", "-f", "derpmap")
    names = [node["Name"] for node in json.loads(ended.out)["Regions"]["900"]["Nodes"]]
    assert names == ["900b", "900c"]


def test_drain_is_wished_for(derpctl, beside, region, soon):
    """The node follows, every node sees it, and a second one is refused."""
    found, path = region
    a, b, _ = found.nodes.values()
    person = beside.run(found.connect(b))
    drain = ("node", "drain", "900b", "--wait", "--grace", "2")
    ended = derpctl("--config", path, *drain, "-o", "json")
    document = json.loads(ended.out)
    assert (ended.code, document["state"], document["clients"]) == (0, "drained", 0)
    assert document["revision"] > 0
    assert "900b: wished for in the registry, revision" in ended.err
    assert "900b: 0 clients left" in ended.err
    assert person.ended
    assert b.node.state == "drained"
    soon(lambda: a.node.region.membership()["drains"] == ["900b"])
    ended = derpctl("--config", path, "node", "drain", "900c")
    assert (ended.code, ended.out) == (6, "")
    assert "900b is drained already, and two would be many" in ended.err
    assert derpctl("--config", path, "status").code == 9
    ended = derpctl("--config", path, "node", "undrain", "900b")
    assert (ended.code, ended.out) == (0, "900b: serving\n")
    soon(lambda: a.node.region.membership()["drains"] == [])


def test_etcd_is_away(derpctl, region, etcd):
    """The node is told itself, and what needs the registry says so."""
    found, path = region
    etcd.kill()
    ended = derpctl("--config", path, "node", "drain", "900a", "--wait", "--grace", "1")
    assert (ended.code, ended.out) == (0, "900a: drained, 0 clients left\n")
    assert "telling 900a itself" in ended.err
    ended = derpctl("--config", path, "node", "undrain", "900a", "-o", "json")
    assert json.loads(ended.out)["revision"] is None
    assert found.nodes["a"].node.state == "serving"
    status = derpctl("--config", path, "status")
    assert status.code == 0
    assert "the last good one stays in force" in status.out
    key = f"nodekey:{os.urandom(32).hex()}"
    for command in (("client", "deny", key), ("client", "list"), ("region", "show")):
        ended = derpctl("--config", path, *command)
        assert (ended.code, ended.out) == (4, "")
        assert ended.err.startswith("derpctl: registry: ")


def test_client_is_denied(derpctl, beside, region, soon):
    """It is cut, listed, and let in again when it is forgotten."""
    found, path = region
    private = fresh_key()
    person = beside.run(found.connect(found.nodes["c"], private))
    key = f"nodekey:{person.key.hex()}"
    ended = derpctl("--config", path, "client", "deny", key)
    assert ended.code == 0
    assert ended.out.startswith(f"{key}: deny, revision ")
    soon(lambda: person.ended, within=5.0)
    listed = derpctl("--config", path, "client", "list", "-o", "json")
    [item] = json.loads(listed.out)["items"]
    assert (item["key"], item["rule"], "@" in item["author"]) == (key, "deny", True)
    assert derpctl("--config", path, "client", "allow", key).code == 0
    assert f"{key}  allow" in derpctl("--config", path, "client", "list").out
    ended = derpctl("--config", path, "client", "forget", key, "-o", "json")
    assert json.loads(ended.out)["items"][0]["rule"] == "none"
    assert derpctl("--config", path, "client", "list").out == "KEY  RULE  AUTHOR\n"


def test_node_is_taken_out_and_listed_again(derpctl, region, soon):
    """Not while it serves; its siblings let go of it, and it of them."""
    found, path = region
    a, _, c = found.nodes.values()
    ended = derpctl("--config", path, "node", "remove", "900c")
    assert (ended.code, "900c" in ended.err, "drain" in ended.err) == (6, True, True)
    derpctl("--config", path, "node", "drain", "900c", "--wait")
    ended = derpctl("--config", path, "node", "remove", "900c")
    assert (ended.code, ended.out.startswith("900c: taken out")) == (0, True)
    soon(lambda: a.ups == {"900b"})
    soon(lambda: c.ups == set())
    assert derpctl("--config", path, "node", "remove", "900c").code == 5
    member = c.member
    add = ("--host", member.host, "--ipv6", "none", "--derp-port", "4433")
    ended = derpctl("--config", path, "node", "add", "900c", *add, "--pin", member.pin)
    assert (ended.code, ended.out.startswith("900c: listed")) == (0, True)
    soon(lambda: a.ups == {"900b", "900c"})
    ended = derpctl("--config", path, "node", "add", "900c", *add)
    assert (ended.code, "900c is in the region" in ended.err) == (6, True)
    assert ended.err.endswith(
        "; derpctl node remove 900c first, to list it as another\n"
    )


def test_dead_node_is_to_be_drained(derpctl, beside, region):
    """No other is drained meanwhile, and it is said how to change that."""
    found, path = region
    beside.run(found.nodes["b"].stop())
    ended = derpctl("--config", path, "node", "drain", "900b")
    assert (ended.code, "it is wished for in the registry, but" in ended.err) == (
        4,
        True,
    )
    ended = derpctl("--config", path, "node", "drain", "900c")
    assert (ended.code, ended.out) == (6, "")
    assert ended.err.endswith("; derpctl node undrain 900b first, or use --force\n")


@pytest.mark.parametrize(
    "command",
    [
        ("region", "set", "--no-bring-home"),
        ("region", "set", "--name", "Home"),
        ("region", "show"),
        ("region", "export"),
        ("client", "deny", f"nodekey:{'ab' * 32}"),
        ("client", "forget", f"nodekey:{'ab' * 32}"),
    ],
    ids=" ".join,
)
def test_region_that_nobody_has_named(derpctl, configured, etcd, command):
    """Nothing is written: `set` made up a code and a name, which are in the map.

    Where the region's number is mistaken, a client was denied where nobody reads it.
    """
    path = configured(901, extra={"registry": {"etcd": {"endpoints": [etcd.url]}}})
    ended = derpctl("--config", path, *command)
    assert (ended.code, ended.out) == (5, "")
    assert ended.err.startswith("derpctl: region 901: the registry has no such region")
    assert names(etcd.url, b"/derpmesh/") == []
    new = ("region", "set", "--code", "home", "--name", "Home", "--join", "listed")
    ended = derpctl("--config", path, *new, "-o", "json")
    found = json.loads(ended.out)
    assert (found["code"], found["name"], found["join"]) == ("home", "Home", "listed")
    assert found["author"] == author()


@pytest.mark.parametrize("text", ["", " ", "a\x1b[31m", "a\nb", "x" * 101])
def test_text_that_no_map_may_have(derpctl, region, text):
    """It is refused: a record of 70,000 bytes was written, which no node reads."""
    _, path = region
    hints = {
        "--code": "; give 1 to 32 of a to z, 0 to 9 and -\n",
        "--name": "; give 1 to 100 printable characters\n",
    }
    for option, hint in hints.items():
        ended = derpctl("--config", path, "region", "set", option, text)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.endswith(hint)
        assert ended.err.count("\n") == 1


def test_file_has_a_node_that_was_taken_out(derpctl, region, tmp_path, soon):
    """It stays out, and that is said: all of it was there, it was told."""
    found, path = region
    file = tmp_path / "region.yaml"
    file.write_text(derpctl("--config", path, "region", "export").out)
    derpctl("--config", path, "node", "remove", "900c", "--force")
    assert derpctl("--config", path, "region", "import", file) == (
        9,
        "",
        "derpctl: 900c: taken out in the registry; derpctl node add 900c lists it "
        "again\n",
    )
    b = found.nodes["b"]
    soon(lambda: b.ups == {"900a"})


def test_region_takes_listed_nodes_only(derpctl, beside, region, etcd, soon):
    """Another one says why it is not recorded, and joins once it is listed."""
    found, path = region
    shown = derpctl("--config", path, "region", "show", "-o", "json")
    assert (json.loads(shown.out)["join"], shown.code) == ("open", 0)
    ended = derpctl("--config", path, "region", "set", "--join", "listed")
    assert (ended.code, "join        listed" in ended.out) == (0, True)
    d = found.place("d")
    d.configure(registry={"etcd": {"endpoints": [etcd.url], "ttl": 5}})
    beside.run(found.start(d))
    soon(lambda: any("listed nodes only" in n for n in d.node.region.notes()))
    member = d.member
    add = ("--host", member.host, "--ipv6", "none", "--derp-port", "4433")
    assert (
        derpctl("--config", path, "node", "add", "900d", *add, "--pin", d.pin).code == 0
    )
    soon(lambda: d.ups == {"900a", "900b", "900c"}, within=20.0)
    assert derpctl("--config", path, "region", "set").code == 2


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ({"host": None}, "--host: missing"),
        ({"host": "a.example.com", "derp_port": 0}, "--derp-port = 0"),
        ({"host": "a.example.com", "pin": "sha1:12"}, "--pin = 'sha1:12'"),
        ({"host": "a b"}, "--host = 'a b'"),
        ({"host": "a.example.com", "ipv4": "::1"}, "--ipv4 = '::1'"),
        (
            {"host": "d.example.com", "admin": "ftp://x"},
            "--admin = 'ftp://x': not http",
        ),
    ],
)
def test_what_is_wrong_with_a_node(said, option):
    """The option is named."""
    with pytest.raises(CtlError) as caught:
        member_of("900d", said)
    assert str(caught.value).startswith(option)
    assert caught.value.exit is Exit.USAGE


def test_file_for_etcd_that_is_not_there(derpctl, configured):
    """It is named: which of the three it was had to be guessed."""
    etcd = {"endpoints": ["https://127.0.0.1:1"], "ca_file": "/none/ca.pem"}
    path = configured(extra={"nodes": [], "registry": {"etcd": etcd}})
    ended = derpctl("--config", path, "region", "show")
    assert ended.code == 3
    assert ended.err.startswith("derpctl: registry.etcd = '/none/ca.pem': ")


def test_node_that_was_taken_out_is_not_missed(derpctl, region, configured, etcd):
    """Though derpctl's configuration still names it: the region is well without it."""
    found, _ = region
    registry = {"etcd": {"endpoints": [etcd.url]}}
    path = configured(
        **admins(list(found.nodes.values())), extra={"registry": registry}
    )
    derpctl("--config", path, "node", "drain", "900c", "--wait")
    assert derpctl("--config", path, "node", "remove", "900c").code == 0
    eventually(lambda: derpctl("--config", path, "status").code == 0)
    document = json.loads(derpctl("--config", path, "status", "-o", "json").out)
    assert [item["name"] for item in document["items"]] == ["900a", "900b"]


def test_map_is_what_is_wanted(derpctl, region):
    """The region is called as operators say, and not as nodes were configured."""
    _, path = region
    said = ("region", "set", "--code", "edge", "--name", "The edge")
    assert derpctl("--config", path, *said).code == 0

    def exported() -> dict:
        text = derpctl("--config", path, "map", "export", "-f", "derpmap").out
        return json.loads(text)["Regions"]["900"]

    eventually(lambda: exported()["RegionCode"] == "edge")
    assert exported()["RegionName"] == "The edge"
    assert [node["Name"] for node in exported()["Nodes"]] == ["900a", "900b", "900c"]


def test_password_that_is_not_there(derpctl, configured):
    """The file is named: 3, as it is the operator's to mend."""
    etcd = {
        "endpoints": ["http://127.0.0.1:1"],
        "user": "ann",
        "password_file": "/none/password",
    }
    path = configured(extra={"registry": {"etcd": etcd}})
    ended = derpctl("--config", path, "client", "list")
    assert (ended.code, "/none/password" in ended.err) == (3, True)


def test_node_of_another_region(derpctl, configured):
    """Its name would not be unique: 2."""
    etcd = {"endpoints": ["http://127.0.0.1:1"]}
    path = configured(extra={"registry": {"etcd": etcd}})
    ended = derpctl("--config", path, "node", "add", "901a", "--host", "192.0.2.1")
    assert (ended.code, "this is region 900" in ended.err) == (2, True)


def test_no_registry_to_write_to(derpctl, configured):
    """It is said what to add to which file."""
    path = configured(_900a="unix:/none")
    assert load_ctl_config(path).registry.etcd is None
    ended = derpctl("--config", path, "client", "list")
    assert (ended.code, "add registry: {etcd:" in ended.err) == (3, True)


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ({"file": "/etc/region.yaml"}, "registry.file: nodes read"),
        ({"etcd": {"endpoints": ["127.0.0.1:1"]}}, "registry.etcd.endpoints.0"),
        ({"etcd": {"endpoints": []}}, "registry.etcd.endpoints"),
    ],
)
def test_registry_that_cannot_be_used(derpctl, configured, registry, said):
    """The setting is named: 3."""
    path = configured(_900a="unix:/none", extra={"registry": registry})
    ended = derpctl("--config", path, "status")
    assert (ended.code, said in ended.err) == (3, True)
