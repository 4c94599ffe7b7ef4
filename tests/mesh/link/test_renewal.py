"""The mesh key is replaced: which links are dialled again, when, and with which key."""

import logging
from types import SimpleNamespace

import pytest

from derpmesh.link.backoff import delays
from derpmesh.link.renewal import PATIENCE, SECOND_TRY
from derpnode.plane.contract import CloseReason
from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing
from tests.mesh.link.conversation import CLIENT_INFO, MESH_KEY, NONCE, login
from tests.mesh.link.world import TICK, B, C, World, messages, target


NEW = MeshKey(b"\x66" * 32)
STAGED = MeshRing(MESH_KEY, next=NEW)
SWITCHED = MeshRing(NEW, previous=MESH_KEY)
DERPER = target("d", is_member=False)


@pytest.fixture
def world(monkeypatch, caplog):
    """Links whose delays are the longest possible."""
    caplog.set_level(logging.INFO)
    longest = lambda _low, high: high  # noqa: E731
    monkeypatch.setattr("derpmesh.link.link.delays", lambda **_: delays(longest))
    random = SimpleNamespace(urandom=lambda _size: NONCE)
    monkeypatch.setattr("derpmesh.link.link.os", random)
    return World()


def become(world: World, ring: MeshRing) -> None:
    """Have other keys from now on."""
    world.ring = ring
    world.links.renew()


def dials(world: World) -> list[str]:
    """Whom the plane has dialled."""
    return [address.host for address, _, _ in world.plane.dials]


def renewing(world: World) -> dict[str, bool]:
    """Which links are still to be dialled again."""
    return {one.peer: one.renewing for one in world.links.statuses()}


def proves(world: World, name: str) -> str:
    """The fingerprint of the key that a link was dialled with."""
    return world.status(name).mesh_key


def test_login():
    """The golden bytes are those of this key."""
    assert login(MESH_KEY) == CLIENT_INFO


def test_no_link_is_dialled_again_before_the_switch(world):
    """A key that is staged changes no link, nor does one that is dropped."""
    world.bring_up(B)
    world.bring_up(C)
    for ring in (STAGED, MeshRing(MESH_KEY)):
        become(world, ring)
        world.wait(5.0)
        assert (len(world.plane.dials), world.plane.closed) == (2, [])
        assert renewing(world) == {"900b": False, "900c": False}


def test_one_link_at_a_time(world, caplog):
    """The next one once the one before is up; each once, and in good order."""
    first, second = world.bring_up(B), world.bring_up(C)
    become(world, SWITCHED)
    assert renewing(world) == {"900b": True, "900c": True}
    world.wait(TICK)
    assert world.plane.closed == [(first, "another mesh key", False)]
    assert world.states == {"900b": "connecting", "900c": "up"}
    world.wait(1.0)
    assert len(world.plane.dials) == 3
    world.come_up(NEW)
    assert renewing(world) == {"900b": True, "900c": True}  # until the next look
    world.wait(TICK)
    assert world.plane.closed[1:] == [(second, "another mesh key", False)]
    assert renewing(world) == {"900b": False, "900c": True}
    assert world.states == {"900b": "up", "900c": "connecting"}
    world.come_up(NEW)
    world.wait(10.0)
    assert len(world.plane.dials) == 4
    assert set(renewing(world).values()) == {False}
    assert proves(world, "900b") == proves(world, "900c") == NEW.fingerprint()
    again = "link {}: dialling again, as the mesh key is another"
    assert [one for one in messages(caplog) if "again" in one] == [
        again.format("900b"),
        again.format("900c"),
    ]
    assert messages(caplog, logging.WARNING) == []


def test_link_that_does_not_come_back(world):
    """Does not keep the others waiting for ever."""
    world.bring_up(B)
    world.bring_up(C)
    become(world, SWITCHED)
    world.wait(TICK)
    while len(set(dials(world)[2:])) < 2 and world.now < 2000.0:
        if world.states["900b"] == "connecting":
            world.refuse()
        world.wait(TICK)
    assert PATIENCE <= world.now - 1000.0 < 2 * PATIENCE
    assert renewing(world) == {"900b": False, "900c": True}


def test_link_that_was_on_its_way(world):
    """It comes up with the old key, and then is dialled again."""
    world.want(B)
    become(world, SWITCHED)
    world.wait(1.0)
    assert dials(world) == ["192.0.2.98"]
    world.come_up()
    world.wait(TICK)
    assert dials(world) == ["192.0.2.98"] * 2
    world.come_up(NEW)
    assert proves(world, "900b") == NEW.fingerprint()


def test_link_that_waited(world):
    """Is dialled with the new key when its time comes."""
    world.want(B)
    world.refuse()
    become(world, SWITCHED)
    world.wait(1.0)
    world.come_up(NEW)
    world.wait(10.0)
    assert len(world.plane.dials) == 2
    assert renewing(world) == {"900b": False}


def test_a_second_thought(world):
    """Switched back while the first link is dialled: that one is dialled once more."""
    world.bring_up(B)
    world.bring_up(C)
    become(world, SWITCHED)
    world.wait(TICK)
    become(world, STAGED)
    assert renewing(world) == {"900b": True, "900c": False}
    world.come_up(NEW)
    world.wait(TICK)
    world.come_up()
    world.wait(10.0)
    assert dials(world) == ["192.0.2.98", "192.0.2.99", "192.0.2.98", "192.0.2.98"]
    assert proves(world, "900b") == MESH_KEY.fingerprint()


def test_link_that_is_closed_meanwhile(world):
    """The others go on."""
    world.bring_up(B)
    world.bring_up(C)
    become(world, SWITCHED)
    world.wait(TICK)
    world.want(C)
    world.wait(TICK)
    world.come_up(NEW)
    assert world.states == {"900c": "up"}


# Peers that take one key only.


@pytest.mark.parametrize(
    ("ring", "tried"),
    [
        (MeshRing(MESH_KEY), [MESH_KEY] * 4),
        (STAGED, [MESH_KEY, NEW, MESH_KEY, NEW]),
        (SWITCHED, [NEW, MESH_KEY, NEW, MESH_KEY]),
    ],
)
@pytest.mark.parametrize("reason", [CloseReason.EOF, CloseReason.RESET])
def test_each_key_is_tried(world, ring, tried, reason):
    """In turn, while the peer hangs up on whatever we prove."""
    world.ring = ring
    world.want(DERPER)
    for key in tried:
        world.greet(world.plane.last, key=key)
        assert world.states == {"900d": "connecting"}
        world.end(world.plane.last, reason)
        assert world.status("900d").error.endswith("is the mesh key the same there?")
        assert proves(world, "900d") == key.fingerprint()
        world.wait(15.0)


def test_peer_with_the_old_key(world, caplog):
    """It is linked with that, said so, and dialled again for nothing but a loss."""
    connection = world.bring_up(DERPER)
    become(world, STAGED)
    become(world, SWITCHED)
    world.wait(TICK)
    world.greet(world.plane.last, key=NEW)
    world.end(world.plane.last)
    assert renewing(world) == {"900d": True}
    world.wait(TICK)
    other = world.come_up(MESH_KEY)
    world.wait(10 * TICK)
    assert world.plane.closed[0][0] == connection
    assert len(world.plane.dials) == 3
    assert renewing(world) == {"900d": False}
    said = "link 900d: the peer does not take the current mesh key; linked with another"
    assert said in messages(caplog, logging.WARNING)
    become(world, MeshRing(NEW))
    world.wait(5.0)
    assert world.states == {"900d": "up"}
    world.end(other)
    world.wait(1.0)
    world.come_up(NEW)  # it was started again, with the new key


def test_node_of_ours_that_hung_up_for_another_reason(world):
    """It is dialled once more, a second after it came up with the old key."""
    world.bring_up(B)
    world.bring_up(C)
    become(world, SWITCHED)
    world.wait(TICK)
    world.greet(world.plane.last, key=NEW)
    world.end(world.plane.last)
    world.wait(TICK)
    world.come_up(MESH_KEY)
    world.wait(SECOND_TRY / 2)
    assert renewing(world) == {"900b": True, "900c": True}
    world.wait(SECOND_TRY)
    world.come_up(NEW)
    world.wait(TICK)
    assert dials(world)[2:] == ["192.0.2.98"] * 3 + ["192.0.2.99"]
    assert renewing(world) == {"900b": False, "900c": True}


def test_node_of_ours_with_the_old_key_only(world):
    """It has been asked long enough: linked with that, it keeps nobody waiting."""
    world.bring_up(B)
    world.bring_up(C)
    become(world, SWITCHED)
    while "192.0.2.99" not in dials(world)[2:] and world.now < 2000.0:
        world.wait(TICK)
        if world.states["900b"] == "connecting":
            connection = world.plane.last
            world.greet(connection, key=NEW)
            world.end(connection)
            world.wait(1.0)
            world.come_up(MESH_KEY)
    assert PATIENCE <= world.now - 1000.0 < 2 * PATIENCE
    assert world.states["900b"] == "up"
    assert renewing(world) == {"900b": False, "900c": True}


def test_peer_with_the_new_key_before_the_switch(world):
    """It is linked with that, and not dialled again at the switch."""
    world.ring = STAGED
    world.want(DERPER)
    world.greet(world.plane.last)
    world.end(world.plane.last)
    world.wait(TICK)
    world.come_up(NEW)
    become(world, SWITCHED)
    world.wait(10.0)
    assert len(world.plane.dials) == 2


@pytest.mark.parametrize(("is_member", "count"), [(True, 3), (False, 2)])
def test_link_whose_key_is_dropped(world, is_member, count):
    """One of ours takes the one that stays; with a derper there is none better."""
    world.ring = STAGED
    world.want(target("d", is_member=is_member))
    world.greet(world.plane.last)
    world.end(world.plane.last)
    world.wait(TICK)
    world.come_up(NEW)
    become(world, MeshRing(MESH_KEY))
    world.wait(TICK)
    assert len(world.plane.dials) == count


def test_a_peer_that_was_away_is_not_doubted(world):
    """What a refused connection says nothing of is tried first again."""
    world.ring = STAGED
    world.want(DERPER)
    world.greet(world.plane.last)
    world.end(world.plane.last)
    world.wait(TICK)
    world.refuse()
    world.wait(1.0)
    world.come_up(MESH_KEY)
