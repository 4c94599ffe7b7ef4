"""What operators change of a region's map, how it was, and how it is taken over.

On a real etcd; no node runs, so that nobody can say how many clients there are.
"""

import json
import re
import secrets
import signal
import subprocess
import sys

import pytest

from derpctl.wanted.registry import author
from tests.mesh.stewards import running_etcd


pytestmark = pytest.mark.interop

PIN = f"sha256-raw:{'ab' * 32}"

UNKNOWN = (
    "derpctl: all clients of region 900 reconnect when they get this map\n"
    "derpctl: clients of region 900: how many there are now is not known: no node"
    " answers\n"
)

POLICY = """\
// Of somebody who has run a Go derper until now.
{
  "derpMap": {
    "Regions": {
      "1": null,
      "900": {"RegionID": 900, "RegionCode": "ams", "RegionName": "Amsterdam",
        "Latitude": 52.4, "Longitude": 4.9,
        "Nodes": [
          {"Name": "900b", "RegionID": 900, "HostName": "b.example.net",
           "IPv4": "8.8.8.2", "IPv6": "none", "CanPort80": true},
          {"Name": "900x", "RegionID": 900, "HostName": "8.8.8.3", "IPv4": "8.8.8.3",
           "IPv6": "none", "STUNPort": -1, "CertName": "PIN"}, // by its address
        ]},
    },
  },
}
""".replace("PIN", PIN)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    """An etcd for all of this file."""
    with running_etcd(tmp_path_factory.mktemp("etcd")) as found:
        yield found


@pytest.fixture
def path(configured, etcd):
    """A configuration with a registry of its own."""
    prefix = f"/{secrets.token_hex(8)}"
    registry = {"etcd": {"endpoints": [etcd.url], "prefix": prefix}}
    return configured(extra={"nodes": [], "registry": registry})


@pytest.fixture
def run(derpctl, path):
    """Run derpctl with that."""

    def command(*words):
        return derpctl("--config", path, *words)

    return command


@pytest.fixture
def region(run):
    """A region of two nodes; gives the revisions at which they were listed."""
    assert run("region", "set", "--code", "hkg", "--name", "Hong Kong").code == 0
    first = run("node", "add", "900a", "--host", "8.8.8.8", "--pin", PIN)
    words = ("--host", "b.example.net", "--ipv4", "8.8.4.4", "--ipv6", "none")
    second = run("node", "add", "900b", *words, "--yes")
    return [int(one.out.split()[-1]) for one in (first, second)]


def exported(run):
    """Give the nodes of the map, in its order."""
    tree = json.loads(run("map", "export", "-f", "derpmap").out)
    return [node["Name"] for node in tree["Regions"]["900"]["Nodes"]]


def test_a_first_node_disturbs_nobody(run):
    """Nobody has a map of the region yet, so that nobody is asked."""
    run("region", "set", "--code", "hkg", "--name", "Hong Kong")
    ended = run("node", "add", "900a", "--host", "8.8.8.8")
    assert (ended.code, ended.out.startswith("900a: listed, revision ")) == (0, True)
    assert ended.err == (
        'derpctl: region 900: added: RegionID 900, RegionCode "hkg",'
        ' RegionName "Hong Kong", Nodes 900a\nderpctl: no connection is dropped\n'
    )


CHANGES = {
    "order": (
        ("region", "order", "900b"),
        "region 900: order of Nodes changed from 900a, 900b to 900b, 900a",
    ),
    "code": (
        ("region", "set", "--code", "edge"),
        'region 900: RegionCode changed from "hkg" to "edge"',
    ),
    "measure": (
        ("region", "set", "--no-measure"),
        "region 900: NoMeasureNoHome added: true",
    ),
    "port": (
        ("node", "set", "900a", "--derp-port", "8443"),
        "region 900, node 900a: DERPPort added: 8443",
    ),
    "pin": (
        ("node", "set", "900a", "--pin", ""),
        f'region 900, node 900a: CertName removed: "{PIN}"',
    ),
    "stun": (
        ("node", "set", "900b", "--stun-only"),
        "region 900, node 900b: STUNOnly added: true",
    ),
    "removed": (
        ("node", "remove", "900b", "--force"),
        'region 900, node 900b: removed: Name "900b", RegionID 900, HostName'
        ' "b.example.net", IPv4 "8.8.4.4", IPv6 "none"',
    ),
}


@pytest.mark.parametrize(("words", "line"), CHANGES.values(), ids=CHANGES)
def test_who_is_disturbed_is_said_before(run, region, words, line):
    """With no terminal to ask at, nothing happens without --yes."""
    before = run("map", "export").out
    ended = run(*words)
    what = " ".join(words[:3] if words[0] == "node" else words[:2])
    assert (ended.code, ended.out) == (6, "")
    assert ended.err == (
        f"derpctl: {line}\n{UNKNOWN}derpctl: {what}: an unknown number of clients would"
        " reconnect, and there is no terminal to ask at; give --yes\n"
    )
    limited = run(*words, "--max-impact", "10")
    assert (limited.code, limited.err.splitlines()[-1]) == (
        6,
        f"derpctl: {what}: an unknown number of clients would reconnect, limit is 10;"
        " give a greater --max-impact, or wait for a quiet hour",
    )
    assert run("map", "export").out == before
    done = run(*words, "--yes")
    assert (done.code, done.err) == (0, f"derpctl: {line}\n{UNKNOWN}")
    assert run("map", "export").out != before


def test_what_is_not_in_the_map_disturbs_nobody(run, region):
    """It is written without a question, and the map stays."""
    ended = run("region", "set", "--join", "listed")
    assert (ended.code, "join        listed" in ended.out) == (0, True)
    assert ended.err == "derpctl: no difference\n"
    admin = ("--admin", "https://a.example.net:9090")
    ended = run("node", "set", "900a", *admin)
    assert ended.code == 0
    assert "; the map is as it was, " in ended.out


def test_order(run, region):
    """Those not named follow, as they were; the same order again is no change."""
    run("region", "order", "900b", "--yes")
    assert exported(run) == ["900b", "900a"]
    ended = run("region", "order", "900b,900a")
    assert (ended.code, ended.err) == (0, "derpctl: no difference\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("region", "order", "900z"), 5, "900z: not in region 900, as the registry"),
        (("region", "order", "900a,900a"), 2, "NAMES = 900a,900a: 900a is in it twice"),
        (("node", "set", "900z", "--derp-port", "1"), 5, "900z: not in region 900"),
        (("node", "set", "900a"), 2, "node set 900a: nothing to change is named"),
        (("node", "set", "900a", "--host", ""), 2, "--host: missing"),
        (("node", "set", "900a", "--ipv4", "x"), 2, "--ipv4 = 'x': "),
        (("map", "rollback", "1"), 5, "rev:1: not kept: there is "),
        (("map", "rollback", "abababababab"), 5, "rev:abababababab: no map of that"),
        (("map", "diff", "rev:1", "cluster"), 5, "rev:1: not kept: there is "),
    ],
)
def test_what_cannot_be(run, region, words, code, message):
    """Says what, and changes nothing."""
    before = run("map", "export").out
    ended = run(*words, *(["--yes"] if words[1] != "diff" else []))
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(f"derpctl: {message}")
    assert run("map", "export").out == before


def test_a_change_that_breaks_the_map(run, region):
    """It is refused, by the rule; what it was stays."""
    run("node", "set", "900b", "--stun-only", "--yes")
    ended = run("node", "set", "900a", "--stun-only", "--yes")
    assert (ended.code, ended.out) == (7, "")
    assert ended.err == (
        "derpctl: DM005: Regions.900.Nodes: no node relays, but clients may choose the"
        " region; add one that does; nothing was changed\n"
    )


def test_regions(run, region, derpctl, configured, etcd):
    """All that the registry has, whichever is derpctl's own."""
    ended = run("region", "list")
    content = json.loads(run("map", "history", "-o", "json").out)["items"][-1]["map"]
    assert ended == (
        0,
        "REGION  CODE  NAME       SERVING  CLIENTS  MAP           PROBLEM\n"
        f"   900  hkg   Hong Kong      0/2        0  {content}  -\n",
        "",
    )
    document = json.loads(run("region", "list", "-o", "json").out)
    assert document["items"] == [
        {
            "id": 900,
            "code": "hkg",
            "name": "Hong Kong",
            "nodes": 2,
            "serving": 0,
            "clients": 0,
            "map": content,
            "problem": None,
        }
    ]


def test_no_regions(run):
    """There is nothing to list."""
    ended = run("region", "list")
    assert (ended.code, ended.out) == (5, "")
    assert ended.err.startswith("derpctl: region 900: the registry has no such region")


def masked(text):
    """Hide what differs between two runs."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "CONTENT", text)
    return re.sub(r" +", " ", text.replace(author(), "WHO"))


def test_history(run, region):
    """When, by whom, and what; also as a revision to compare with."""
    first, second = region
    run("region", "order", "900b", "--yes")
    ended = run("map", "history")
    items = json.loads(run("map", "history", "-o", "json").out)["items"]
    last = items[-1]["revision"]
    assert (ended.code, ended.err) == (0, "")
    assert " ".join(masked(ended.out).split()) == (
        "REVISION MAP WHEN WHO CHANGE"
        f" {first} CONTENT TIME WHO region 900: added: RegionID 900, RegionCode"
        ' "hkg", RegionName "Hong Kong", Nodes 900a'
        f' {second} CONTENT TIME WHO region 900, node 900b: added: Name "900b",'
        ' RegionID 900, HostName "b.example.net", IPv4 "8.8.4.4", IPv6 "none"'
        f" {last} CONTENT TIME WHO region 900: order of Nodes changed from 900a,"
        " 900b to 900b, 900a"
    )
    shown = run("map", "history", "--limit", "1", "-o", "json").out
    assert [one["revision"] for one in json.loads(shown)["items"]] == [last]
    ended = run("map", "diff", f"rev:{first}", f"rev:{second}")
    assert ended.out.startswith('region 900, node 900b: added: Name "900b"')
    assert run("map", "lint", f"rev:{first}").code == 0


def test_going_back(run, region):
    """To a revision, or to a map by its name; the way back is a revision, too."""
    first, second = region
    was = run("map", "export", "-f", "derpmap").out
    content = json.loads(run("map", "history", "-o", "json").out)["items"][-1]["map"]
    ended = run("map", "rollback", str(first))
    assert (ended.code, exported(run)) == (6, ["900a", "900b"])
    ended = run("map", "rollback", str(first), "--yes")
    assert (ended.code, exported(run)) == (0, ["900a"])
    ended = run("map", "rollback", content, "--yes", "-o", "json")
    assert (ended.code, json.loads(ended.out)["map"]) == (0, content)
    assert run("map", "export", "-f", "derpmap").out == was
    again = run("map", "rollback", str(second))
    assert (again.code, again.err) == (0, "derpctl: no difference\n")


def test_import(run, tmp_path):
    """Clients that have the map of a Go derper do not notice."""
    file = tmp_path / "policy.hujson"
    file.write_text(POLICY)
    ended = run("map", "import", file)
    assert (ended.code, ended.out.startswith("revision ")) == (0, True)
    same = run("map", "diff", file, "cluster", "--exit-code")
    assert (same.code, same.out) == (0, "no difference\n")
    assert run("map", "verify", "--against", file).code == 0


def test_import_into_a_region(run, region, tmp_path):
    """Nodes that are not in the map stay, or go if that is asked for."""
    file = tmp_path / "policy.hujson"
    file.write_text(POLICY)
    ended = run("map", "import", file, "--dry-run")
    assert ended.code == 0
    assert 'RegionCode changed from "hkg" to "ams"' in ended.out
    assert exported(run) == ["900a", "900b"]
    assert run("map", "import", file, "--yes").code == 0
    assert exported(run) == ["900b", "900x", "900a"]
    assert run("map", "verify", "--against", file).code == 8
    assert run("map", "import", file, "--yes", "--replace").code == 0
    assert exported(run) == ["900b", "900x"]


def test_import_for_nodes_without_etcd(derpctl, tmp_path):
    """No configuration is needed; what is there is not written over."""
    source, file = tmp_path / "policy.hujson", tmp_path / "region.yaml"
    source.write_text(POLICY)
    ended = derpctl("map", "import", source, "-O", file)
    assert ended == (0, f"written: {file}\n", "")
    assert file.read_text() == (
        "region:\n  id: 900\n  code: ams\n  name: Amsterdam\n  latitude: 52.4\n"
        "  longitude: 4.9\nnodes:\n- name: 900b\n  host: b.example.net\n"
        "  ipv4: 8.8.8.2\n  ipv6: none\n  can_port80: true\n- name: 900x\n"
        f"  host: 8.8.8.3\n  ipv4: 8.8.8.3\n  ipv6: none\n  stun_port: -1\n"
        f"  pin: {PIN}\n"
    )
    again = derpctl("map", "import", source, "-O", file)
    assert (again.code, again.out) == (6, "")
    shown = derpctl("map", "import", source, "-O", file, "--dry-run")
    assert (shown.code, shown.out) == (0, file.read_text())


IMPOSSIBLE = {
    "insecure": (
        f'"CertName": "{PIN}"',
        '"InsecureForTests": true',
        "node 900x: InsecureForTests has clients take any certificate",
    ),
    "fronted": (f'"CertName": "{PIN}"', '"CertName": "x"', "node 900x: CertName"),
    "name": ('"900x"', '"a b"', "node a b: NAME = 'a b': "),
    "rule": ('"b.example.net"', '"b:1"', "DM007: Regions.900.Nodes[0].HostName: "),
    "none": ('"900": {"RegionID": 900', '"901": {"RegionID": 901', ": DM002: "),
}


@pytest.mark.parametrize(("old", "new", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_maps_that_cannot_be_imported(derpctl, tmp_path, old, new, message):
    """What no record has a place for, and what would not work."""
    source, file = tmp_path / "policy.hujson", tmp_path / "region.yaml"
    source.write_text(POLICY.replace(old, new))
    ended = derpctl("map", "import", source, "-O", file)
    assert (ended.code, ended.out, file.exists()) == (7, "", False)
    assert message in ended.err


def test_which_region_is_imported(run, derpctl, tmp_path):
    """The only one that is somebody's own, or the one that is named."""
    region = json.dumps({"RegionID": 901, "RegionCode": "x", "Nodes": []})
    two = tmp_path / "two.json"
    two.write_text(f'{{"Regions": {{"901": {region}, "902": {region}}}}}')
    ended = derpctl("map", "import", two, "-O", tmp_path / "region.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert "there is more than one region in it, or none: 901, 902" in ended.err
    ended = run("map", "import", two)
    assert (ended.code, "region 900 is not in it" in ended.err) == (5, True)
    ended = run("map", "import", two, "--region", "901")
    assert ended.err.startswith("derpctl: --region = 901: derpctl's is 900; ")
    assert ended.code == 2


def test_verify(run, region, tmp_path):
    """What is to change there, in words; other regions are their business."""
    file = tmp_path / "map.json"
    tree = json.loads(run("map", "export", "-f", "derpmap").out)
    tree["Regions"]["1"] = {"RegionID": 1, "Nodes": []}
    file.write_text(json.dumps(tree))
    ended = run("map", "verify", "--against", file)
    assert (ended.code, masked(ended.out)) == (0, f"{file}: has map CONTENT\n")
    tree["Regions"]["900"]["Nodes"].pop()
    file.write_text(json.dumps(tree))
    ended = run("map", "verify", "--against", file)
    assert (ended.code, masked(ended.out)) == (
        8,
        f"{file}: not map CONTENT: 1 thing to change there\n"
        'region 900, node 900b: added: Name "900b", RegionID 900,'
        ' HostName "b.example.net", IPv4 "8.8.4.4", IPv6 "none"\n',
    )
    found = json.loads(run("map", "verify", "--against", file, "-o", "json").out)
    assert (found["current"], len(found["items"])) == (False, 1)
    late = run("map", "verify", "--against", file, "--wait", "--patience", "0")
    assert late.code == 11
    gone = run("map", "verify", "--against", tmp_path / "none.json")
    assert (gone.code, gone.out) == (3, "")


def test_watch(run, region, path, tmp_path):
    """Each map that stays is told, with how it differs from the one told before."""
    marks = tmp_path / "marks"
    job = f"sh -c 'echo new >> {marks}'"
    words = ("--interval", "0.1", "--debounce", "1.5", "--exec", job)
    command = [sys.executable, "-m", "derpctl", "--config", path, "map", "watch"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE) as process:
        first = json.loads(process.stdout.readline())
        run("region", "order", "900b", "--yes")  # nobody is told of this one
        run("node", "set", "900a", "--derp-port", "1", "--yes")
        second = json.loads(process.stdout.readline())
        while not marks.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert (first["changes"], first["problem"]) == ([], None)
    assert {one["field"] for one in second["changes"]} == {"DERPPort", "Nodes"}
    assert second["reconnecting"] == [900]
    assert process.returncode == 130


def test_registry_is_away(derpctl, configured):
    """What is written there cannot be written; that is said, and why."""
    etcd = {"etcd": {"endpoints": ["http://127.0.0.1:9"]}}
    path = configured(extra={"nodes": [], "registry": etcd})
    for words in (
        ("region", "order", "900a"),
        ("region", "list"),
        ("node", "set", "900a", "--derp-port", "1"),
        ("map", "history"),
        ("map", "rollback", "1"),
        ("map", "show"),
    ):
        ended = derpctl("--config", path, *words)
        assert (ended.code, ended.out) == (4, "")
        assert ended.err.startswith("derpctl: registry: ")


def test_there_is_no_registry(derpctl, configured):
    """A region in a file is changed by editing that file."""
    path = configured(_900a="unix:/none/a.sock")
    for words in (("map", "history"), ("region", "order", "900a")):
        ended = derpctl("--config", path, *words)
        assert (ended.code, ended.out) == (3, "")
        assert "a region in a file is steered by editing that file" in ended.err
