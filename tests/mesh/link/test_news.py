"""What is told of links: each outage once, however long it lasts."""

from types import SimpleNamespace

import pytest

from derpmesh.link.backoff import MOST, delays
from derpnode.plane.contract import CloseReason
from tests.mesh.link.conversation import NONCE
from tests.mesh.link.world import B, C, World


@pytest.fixture
def world(monkeypatch):
    """The links of a node, whose delays are the longest possible."""
    monkeypatch.setattr(
        "derpmesh.link.link.delays", lambda **_: delays(lambda _low, high: high)
    )
    random = SimpleNamespace(urandom=lambda _size: NONCE)
    monkeypatch.setattr("derpmesh.link.link.os", random)
    return World()


def told(world: World) -> list[tuple[str, str, str]]:
    """Give kind, subject and text of each event."""
    return [
        (event.kind.value, event.subject, event.text)
        for event in world.journal.after(0)
    ]


def test_up_lost_and_up_again(world):
    """With the reason, and how long it was up."""
    connection = world.bring_up(B)
    world.wait(2.0)
    world.end(connection)
    world.wait(MOST)
    world.come_up()
    assert told(world) == [
        ("link_up", "900b", "it carries packets"),
        ("link_lost", "900b", "closed by the peer"),
        ("link_up", "900b", "it carries packets"),
    ]
    fields = world.journal.after(1)[0].fields
    assert fields["was_up"] is True
    assert fields["lasted"] == pytest.approx(2.0)


def test_peer_that_cannot_be_reached(world):
    """It is told once, though each attempt may fail in a way of its own."""
    world.want(B)
    for number in range(10):
        detail = "refused" if number % 2 else "unreachable"
        world.end(world.plane.last, CloseReason.RESET, detail)
        world.wait(MOST)
    [(kind, subject, text)] = told(world)
    assert (kind, subject) == ("link_lost", "900b")
    assert text.startswith("cannot be had: ")
    assert world.journal.after(0)[0].fields == {"was_up": False}


def test_link_that_is_not_wanted_any_more(world):
    """That is told of one that was up; it may come back as a new one."""
    world.bring_up(B)
    world.want()
    assert told(world)[-1] == ("link_lost", "900b", "it is not wanted any more")
    world.want(C)
    world.want()
    assert len(told(world)) == 2
