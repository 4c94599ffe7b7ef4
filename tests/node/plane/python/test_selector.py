"""The loop's waiting: asyncio's descriptors and timers beside those of a plane."""

import asyncio
import contextlib
import selectors
import socket
from pathlib import Path

import pytest

from derpnode.plane.python.selector import PlaneSelector, new_event_loop, selector_of


@pytest.fixture
def selector():
    with contextlib.closing(PlaneSelector()) as found:
        yield found


@pytest.fixture
def pair():
    """Two sockets, the first of which is never written to."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


@pytest.fixture
def packets(selector, pair):
    """A descriptor of the plane's that is ready, and what was made of it."""
    near, far = pair
    selector.epoll.register(near.fileno(), selectors.EVENT_READ)
    turns = []

    def turn(ready):
        turns.append([descriptor for descriptor, _ in ready])
        near.recv(1)
        if len(turns) < 3:
            far.send(b"x")
        return False

    selector.turn = turn
    far.send(b"x")
    return turns


def test_packets_go_on_until_nothing_comes(selector, packets, pair):
    """Asyncio is told of nothing, and has waited as long as it wanted."""
    assert selector.select(0.01) == []
    assert packets == [[pair[0].fileno()]] * 3


def test_packets_that_are_there_go_on_without_waiting(selector, packets):
    """A timer that is due ends it after what is ready."""
    assert selector.select(0) == []
    assert len(packets) == 1


def test_turn_that_gave_work_ends_the_wait(selector, packets):
    """Though nobody said how long to wait."""
    turn = selector.turn
    selector.turn = lambda ready: turn(ready) or True
    assert selector.select(None) == []
    assert len(packets) == 1


def test_asyncios_descriptors_end_the_wait(selector, packets):
    """Both get what is theirs."""
    near, far = socket.socketpair()
    with near, far:
        selector.register(near, selectors.EVENT_READ, "data")
        far.send(b"x")
        [(key, events)] = selector.select(None)
        assert (key.data, events) == ("data", selectors.EVENT_READ)
        selector.modify(near, selectors.EVENT_READ | selectors.EVENT_WRITE, "more")
        [(key, events)] = selector.select(None)
        assert (key.data, events) == ("more", 3)
        selector.modify(near, selectors.EVENT_WRITE, "other")
        [(key, events)] = selector.select(None)
        assert (key.data, events) == ("other", selectors.EVENT_WRITE)
        selector.unregister(near)
        assert selector.select(0.01) == []
    assert packets


def test_without_a_plane(selector):
    """It is what asyncio has by itself."""
    assert selector.select(0) == []
    assert selector.select(0.001) == []


def test_closed_selector_leaves_no_descriptor():
    """It has two, of one set."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    PlaneSelector().close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_one_plane_has_a_loops_waiting():
    """The next one waits by itself, as in loops of others."""
    with contextlib.closing(new_event_loop()) as loop:
        found = selector_of(loop)
        assert found is not None
        found.turn = lambda _: False
        assert selector_of(loop) is None
    with contextlib.closing(asyncio.new_event_loop()) as other:
        assert selector_of(other) is None


async def test_failing_turn_does_not_end_the_loop(scene, monkeypatch):
    """It is reported as a failing callback is, and the plane goes on."""
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    broken = ZeroDivisionError("for the test")

    def fail(*_):
        raise broken

    monkeypatch.setattr(scene.plane, "_act", fail)
    _, address = scene.listen()
    with socket.create_connection(address):
        await scene.until(lambda: told)
        monkeypatch.undo()
    assert set(told) == {broken}
    await scene.guest(address=address)
