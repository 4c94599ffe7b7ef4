"""`derpctl key mesh show` and `rotate`, with real nodes."""

import errno
import json

import pytest

from derpctl.admin import MeshKeysView
from derpctl.errors import CtlError
from derpctl.keyring import NodeKeys, Stand, rotation_of
from derpmesh.link.plan import Target
from derpnode.server import meshkeys
from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing
from tests.ctl.regions import admins, start
from tests.ctl.standins import AdminStandIn, admin
from tests.mesh.region import (
    DERP_PORT,
    MESH_KEY,
    OTHER_MESH_KEY,
    LocalNode,
    cluster,
    until,
)


NEW = OTHER_MESH_KEY
OLD = MESH_KEY.fingerprint()


class Operated:
    """Three real nodes that are linked, and derpctl for them."""

    def __init__(self, derpctl, beside, configured):
        self.beside = beside
        self.region = beside.start(cluster())
        beside.run(start(self.region, "abc"))
        self.nodes = list(self.region.nodes.values())
        self._derpctl = derpctl
        self.config = configured(**admins(self.nodes))

    def run(self, *words):
        """Run `derpctl key mesh …`."""
        return self._derpctl("--config", self.config, "key", "mesh", *words)

    @property
    def rings(self) -> list[MeshRing]:
        """The keys of each node."""
        return [node.node.mesh_keys.ring for node in self.nodes]

    def step(self, number: int, phase: str, **more: str) -> None:
        """Take a step on one node, as if it was interrupted thereafter."""
        body = {"phase": phase, **more}
        status, found = self.beside.run(
            self.nodes[number].ask("/v1/mesh-key", "POST", body)
        )
        assert status == 200, found

    def attempts(self) -> list[int]:
        """How often each link was dialled."""
        return [
            link.attempts
            for node in self.nodes
            for link in node.node.region._links._links.values()
        ]


@pytest.fixture
def operated(derpctl, beside, configured):
    """Three real nodes, and derpctl for them."""
    return Operated(derpctl, beside, configured)


@pytest.fixture
def file(tmp_path):
    """Where an operator keeps the new key; it is not there yet."""
    return tmp_path / "new.key"


@pytest.fixture
def kept(file):
    """The same, with a key."""
    file.write_text(f"{NEW.text()}\n")
    file.chmod(0o600)
    return file


# Rotating.


def test_rotate(operated, file, caplog):
    """Every node has the key of the file, made for it; each link is dialled once."""
    before = operated.attempts()
    ended = operated.run("rotate", "--key-file", file)
    assert ended.code == 0, ended.err
    key = MeshKey.parse(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    assert operated.rings == [MeshRing(key)] * 3
    assert operated.attempts() == [count + 1 for count in before]
    new = key.fingerprint()
    names = ["900a", "900b", "900c"]
    assert ended.err.splitlines() == [
        *(f"derpctl: {name}: takes {new}, too" for name in names),
        *(f"derpctl: {name}: sends {new}" for name in names),
        *(f"derpctl: {name}: takes {OLD} no more" for name in names),
    ]
    assert [line.split() for line in ended.out.splitlines()] == [
        ["NODE", "PHASE", "CURRENT", "NEXT", "PREVIOUS"],
        *([name, "steady", new, "-", "-"] for name in names),
    ]
    for text in (ended.out, ended.err, caplog.text):
        assert key.text() not in text
        assert MESH_KEY.text() not in text
    again = operated.run("rotate", "--key-file", file)
    assert again.code == 0
    assert again.err == f"derpctl: every node has the key of {file} already\n"


def test_rotate_without_a_file(operated):
    """Only the nodes have the key; the document names it, and the old one."""
    ended = operated.run("rotate", "-o", "json")
    assert ended.code == 0
    found = json.loads(ended.out)
    [ring] = set(operated.rings)
    new = ring.current.fingerprint()
    assert ring == MeshRing(ring.current)
    assert (found["kind"], found["old"], found["new"]) == ("MeshKeyRotation", OLD, new)
    assert found["items"][1] == {
        "name": "900b",
        "phase": "steady",
        "current": new,
        "next": None,
        "previous": None,
        "error": "",
    }


def test_phase_by_phase(operated, kept):
    """It stops where it is told to, and goes on from there."""
    for until_phase, ring in (
        (["--until", "stage"], MeshRing(MESH_KEY, next=NEW)),
        (["--until", "switch"], MeshRing(NEW, previous=MESH_KEY)),
        ([], MeshRing(NEW)),
    ):
        ended = operated.run("rotate", "--key-file", kept, *until_phase)
        assert ended.code == 0, ended.err
        assert operated.rings == [ring] * 3
        shown = json.loads(operated.run("show", "-o", "json").out)
        assert {one["phase"] for one in shown["items"]} == {ring.phase.value}
        assert shown["items"][0]["name"] == "900a"
        for name, fingerprint in ring.fingerprints().items():
            assert shown["items"][0][name] == fingerprint


@pytest.mark.parametrize("steps", range(9))
def test_interrupted_anywhere(operated, kept, steps):
    """After any step of any node, it is run again and comes to the end."""
    taken = [
        (number, phase)
        for phase in ("stage", "switch", "retire")
        for number in range(3)
    ]
    for number, phase in taken[:steps]:
        key = {"key": NEW.text()} if phase == "stage" else {}
        operated.step(number, phase, **key)
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 0, ended.err
    assert operated.rings == [MeshRing(NEW)] * 3


@pytest.mark.parametrize("steps", range(1, 7))
def test_abort_anywhere(operated, steps):
    """All have the old key again, and are linked; at once, or after one more stop."""
    taken = [(number, phase) for phase in ("stage", "switch") for number in range(3)]
    for number, phase in taken[:steps]:
        key = {"key": NEW.text()} if phase == "stage" else {}
        operated.step(number, phase, **key)
    ended = operated.run("rotate", "--abort", "--until", "stage")
    assert ended.code == 0, ended.err
    assert {ring.current for ring in operated.rings} == {MESH_KEY}
    ended = operated.run("rotate", "--abort")
    assert ended.code == 0, ended.err
    assert operated.rings == [MeshRing(MESH_KEY)] * 3
    links = [link for node in operated.nodes for link in node.node.region.links()]
    assert {(link["state"], link["mesh_key"]) for link in links} == {("up", OLD)}
    ended = operated.run("rotate", "--abort")
    assert (ended.code, ended.err) == (0, "derpctl: no rotation is under way\n")


# Refusing.


def test_a_node_that_does_not_answer(operated, file):
    """Is named, and nothing is done: 6."""
    operated.beside.run(operated.nodes[2].stop())
    ended = operated.run("rotate", "--key-file", file)
    assert (ended.code, ended.out) == (6, "")
    assert ended.err.startswith("derpctl: 900c: http://")
    assert ended.err.endswith("; mend that, then run it again\n")
    assert operated.rings[:2] == [MeshRing(MESH_KEY)] * 2
    assert not file.exists()
    shown = operated.run("show")
    assert shown.code == 9
    assert shown.out.splitlines()[3].split() == ["900c", "unknown", "-", "-", "-"]
    assert shown.out.splitlines()[4].startswith("900c: http://")


def test_a_node_with_another_key(operated):
    """Is named, and nothing is done: 6."""
    odd = operated.nodes[1]
    (odd.folder / "mesh.key").write_text(NEW.text())
    odd.node.mesh_keys.check(asked=True)
    ended = operated.run("rotate")
    assert (ended.code, ended.out) == (6, "")
    assert ended.err == (
        "derpctl: 900b: other mesh keys than the other nodes, which have"
        f" {OLD}; give them the key file of another node, then run it again\n"
    )
    assert operated.run("show").code == 9


def test_a_node_that_derpctl_does_not_know(operated, configured):
    """It would be cut off: 6."""
    operated.config = configured(**admins(operated.nodes[:2]))
    ended = operated.run("rotate")
    assert ended.code == 6
    assert ended.err.startswith("derpctl: 900c: 900a is linked to it, and derpctl does")
    assert operated.rings == [MeshRing(MESH_KEY)] * 3


def test_a_key_that_is_nowhere_else(operated, kept):
    """Interrupted while staging, without the file: it is taken back, or given."""
    operated.step(0, "stage", key=NEW.text())
    ended = operated.run("rotate")
    assert ended.code == 6
    assert "900b: it has not got" in ended.err
    assert "give --key-file, or take all back with --abort" in ended.err
    assert operated.run("rotate", "--key-file", kept).code == 0


def test_another_file(operated, file):
    """Its key is not the one that the nodes are on their way to: 6; nor is none."""
    for number in range(3):
        operated.step(number, "stage", key=NEW.text())
    ended = operated.run("rotate", "--key-file", file)
    assert (ended.code, file.exists()) == (6, False)
    assert "and it is not there; give the file of that key" in ended.err
    file.write_text("33" * 32)
    file.chmod(0o600)
    ended = operated.run("rotate", "--key-file", file)
    assert ended.code == 6
    assert "33" * 32 not in ended.err
    assert operated.rings == [MeshRing(MESH_KEY, next=NEW)] * 3


def test_abort_that_comes_too_late(operated, kept):
    """One has retired the old key already: 6."""
    for phase in ("stage", "switch"):
        for number in range(3):
            key = {"key": NEW.text()} if phase == "stage" else {}
            operated.step(number, phase, **key)
    operated.step(2, "retire")
    ended = operated.run("rotate", "--abort")
    assert ended.code == 6
    assert ended.err == (
        "derpctl: 900c: the old key is retired there; go on, without --abort\n"
    )


def test_links_that_do_not_come_back(operated, kept):
    """Waited for as long as told: 11, and what is missing."""
    operated.run("rotate", "--key-file", kept, "--until", "stage")
    c = operated.nodes[2].node
    c.logins._is_mesh_key = lambda _: False
    ended = operated.run("rotate", "--key-file", kept, "--wait", "1")
    assert ended.code == 11
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"derpctl: links of 900a: not up with {NEW.fingerprint()}")
    assert "900c is " in last
    c.logins._is_mesh_key = c.mesh_keys.accepts
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("mode", "text"), [(0o640, NEW.text()), (0o600, "junk")], ids=["open", "none"]
)
def test_a_bad_key_file(operated, file, mode, text):
    """Refused as a node would: 3; never shown."""
    file.write_text(text)
    file.chmod(mode)
    ended = operated.run("rotate", "--key-file", file)
    assert ended.code == 3
    assert text not in ended.err
    assert operated.rings == [MeshRing(MESH_KEY)] * 3


def test_an_older_node(derpctl, beside, configured):
    """It knows of no rotation: 6, and nobody's keys are known: 4."""
    url = beside.start(admin(AdminStandIn(links=[])))
    path = configured(_900a=url)
    ended = derpctl("--config", path, "key", "mesh", "rotate")
    assert ended.code == 6
    assert "it has no mesh key, or knows of no rotation" in ended.err
    assert derpctl("--config", path, "key", "mesh", "show").code == 4


def test_a_directory_that_the_node_may_not_write(operated, kept, monkeypatch):
    """The operator drops the file that is named, runs it again, and it goes on."""
    write = meshkeys._write
    odd = operated.nodes[1].folder
    file = odd / "mesh.key.next"

    def refuse(path, key):
        if path.parent == odd:
            raise OSError(errno.EROFS, "Read-only file system")
        write(path, key)

    monkeypatch.setattr(meshkeys, "_write", refuse)
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 6
    assert ended.err.splitlines()[-1] == (
        f"derpctl: 900b: {file}: cannot be written: read-only file system;"
        f" put the key into {file} yourself, then `derpctl key mesh rotate` goes on;"
        " run it again after that, or with --abort"
    )
    assert NEW.text() not in ended.err
    file.write_text(NEW.text())
    file.chmod(0o600)
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 6
    assert f"and move {file} over it, yourself" in ended.err
    (odd / "mesh.key").replace(odd / "mesh.key.previous")
    file.replace(odd / "mesh.key")
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 0, ended.err
    assert operated.rings == [MeshRing(NEW)] * 3


def test_a_relay_that_takes_the_old_key_only(operated, kept):
    """It is linked until it has the new one; before that the old one is not retired."""
    region, beside, places = operated.region, operated.beside, operated.nodes
    relay = region.place("d")
    beside.run(region.start(relay))
    peer = f"https://{relay.host}:{DERP_PORT}"
    target = {peer: Target(peer, relay.host, DERP_PORT, pin=relay.pin, is_member=False)}
    for place in places:
        links = place.node.region._links
        wanted = {name: link.target for name, link in links._links.items()}
        beside.run(call(links.apply, wanted | target))

    async def linked_by(key: MeshKey) -> None:
        wanted = ("up", key.fingerprint())
        await until(lambda: {state(place, peer) for place in places} == {wanted})

    beside.run(linked_by(MESH_KEY))
    ended = operated.run("rotate", "--key-file", kept, "--until", "switch")
    assert ended.code == 0, ended.err
    beside.run(linked_by(MESH_KEY))
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 6
    assert ended.err == (
        f"derpctl: 900a to {peer}: the link takes {OLD} only, which is to go;"
        " restart that relay with the new key, then run it again\n"
    )
    assert operated.rings == [MeshRing(NEW, previous=MESH_KEY)] * 3
    beside.run(relay.stop())
    (relay.folder / "mesh.key").write_text(NEW.text())
    beside.run(region.start(relay))
    beside.run(linked_by(NEW))
    ended = operated.run("rotate", "--key-file", kept)
    assert ended.code == 0, ended.err


async def call(function, *arguments):
    """Call something where the nodes run."""
    return function(*arguments)


def state(place, peer: str) -> tuple[str, str]:
    """How a link is, and what it proves."""
    [found] = [one for one in place.node.region.links() if one["peer"] == peer]
    return str(found["state"]), str(found["mesh_key"])


@pytest.mark.parametrize("words", [["--key-file", "x"], ["--until", "switch"]])
def test_options_that_do_not_go_together(derpctl, configured, words):
    """Usage: 2."""
    path = configured(_900a="unix:/none/a.sock")
    ended = derpctl("--config", path, "key", "mesh", "rotate", "--abort", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("derpctl: --abort: it takes no --key-file")


async def start_sharing(region) -> list[LocalNode]:
    """Start nodes that are linked, and have their keys in the same files."""
    places = [region.place(letter) for letter in "abc"]
    shared = {"key_file": str(places[0].folder / "mesh.key")}
    for place in places:
        place.configure(mesh=shared)
    region.write(*places)
    for place in places:
        await region.start(place)
    await region.linked(*places)
    return places


def test_nodes_that_share_their_files(derpctl, beside, configured):
    """As those of a demo: what one does the others find done."""
    region = beside.start(cluster())
    places = beside.run(start_sharing(region))
    path = configured(**admins(places))
    rotate = ("--config", path, "key", "mesh", "rotate")
    for words, phase in (
        (["--until", "switch"], "switched"),
        (["--abort", "--until", "stage"], "staged"),
        (["--abort"], "steady"),
        ([], "steady"),
    ):
        ended = derpctl(*rotate, *words)
        assert ended.code == 0, ended.err
        assert {one.node.mesh_keys.ring.phase.value for one in places} == {phase}
    assert places[0].node.mesh_keys.ring.current != MESH_KEY


# What the keys of the nodes say.


def view(name: str, current: str, following=None, previous=None) -> NodeKeys:
    """The keys of a node."""
    return NodeKeys(
        name, MeshKeysView(current=current, next=following, previous=previous)
    )


def test_where_nodes_are():
    """Each between the old key and the new one."""
    found = rotation_of(
        [
            view("a", "old"),
            view("b", "old", "new"),
            view("c", "new", None, "old"),
            view("d", "new"),
        ]
    )
    assert (found.old, found.new) == ("old", "new")
    assert list(found.stands.values()) == [
        Stand.STEADY,
        Stand.STAGED,
        Stand.SWITCHED,
        Stand.RETIRED,
    ]


@pytest.mark.parametrize(
    ("odd", "others"),
    [
        (view("x", "third"), [view("a", "old"), view("b", "old")]),
        (view("x", "third"), [view("a", "old", "new"), view("b", "old")]),
        (view("x", "new", "old"), [view("a", "old", "new"), view("b", "old", "new")]),
        (view("x", "old", "third"), [view("a", "old", "new"), view("b", "old", "new")]),
        (view("x", "a", "b", "c"), [view("a", "a", "b")]),
        (NodeKeys("x", error="away"), [view("a", "old")]),
    ],
)
def test_who_is_odd(odd, others):
    """Is named, and nobody else."""
    with pytest.raises(CtlError) as caught:
        rotation_of([*others, odd])
    assert (caught.value.value, caught.value.exit) == ("x", 6)
