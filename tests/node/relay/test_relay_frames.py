"""Frames that are not packets: rights, closing, and the home of a client."""

import pytest

from derpnode.relay.relay import HOME_SETTLES
from derpnode.wire.frames import FrameType
from tests.node.relay.scene import WATCHER, A, B, M, announce, join


def test_close_peer_closes_every_connection_of_a_key(relay, world):
    """And no other; they leave when they are gone."""
    join(relay, WATCHER, M, mesh=True)
    for connection, key in [(1, A), (2, A), (3, B)]:
        join(relay, connection, key)
    relay.frame(WATCHER, FrameType.CLOSE_PEER, A, now=0.0)
    assert world.closed == [(1, "closed by a mesh peer"), (2, "closed by a mesh peer")]
    assert relay.connections_of(A) == [1, 2]


def test_close_peer_of_an_unknown_key_does_nothing(relay, world):
    """Nor of one that another node has: only what is here can be closed."""
    join(relay, WATCHER, M, mesh=True)
    announce(relay, A, 7)
    world.commands.clear()
    relay.frame(WATCHER, FrameType.CLOSE_PEER, A, now=0.0)
    assert world.commands == []


def test_mesh_peer_may_close_itself(relay, world):
    """Its key is a key like others."""
    join(relay, WATCHER, M, mesh=True)
    relay.frame(WATCHER, FrameType.CLOSE_PEER, M, now=0.0)
    assert world.closed == [(WATCHER, "closed by a mesh peer")]


@pytest.mark.parametrize(
    ("kind", "payload", "detail"),
    [
        (FrameType.WATCH_CONNS, b"", "frame 0x10 needs the mesh right"),
        (FrameType.CLOSE_PEER, B, "frame 0x11 needs the mesh right"),
    ],
)
def test_mesh_right_is_needed(relay, world, kind, payload, detail):
    """Who asks without it is closed, and nothing else happens."""
    join(relay, 1, A)
    join(relay, 2, B)
    relay.frame(1, kind, payload, now=0.0)
    assert world.closed == [(1, detail)]
    assert (world.sent, relay.watchers) == ([], 0)


@pytest.mark.parametrize("mesh", [False, True])
@pytest.mark.parametrize("kind", [FrameType.PONG, FrameType.CLIENT_INFO, 0xFE])
def test_other_frames_mean_nothing(relay, world, kind, mesh):
    """Unknown frames are skipped, so that old servers survive new clients."""
    join(relay, 1, A, mesh=mesh)
    world.commands.clear()
    relay.frame(1, kind, bytes(8), now=0.0)
    assert world.commands == []


def test_frame_of_a_stranger_means_nothing(relay, world):
    """A connection that is gone asks for nothing more."""
    join(relay, 1, A)
    relay.frame(2, FrameType.WATCH_CONNS, b"", now=0.0)
    relay.frame(2, FrameType.NOTE_PREFERRED, b"\x01", now=9.0)
    assert (world.sent, world.closed) == ([], [])
    assert relay.counters.home_moves_in == 0


@pytest.mark.parametrize(
    ("payload", "home"), [(b"\x00", False), (b"\x01", True), (b"\x02", True)]
)
def test_home(relay, payload, home):
    """Everything that is not zero makes this node the client's home."""
    join(relay, 1, A)
    relay.frame(1, FrameType.NOTE_PREFERRED, payload, now=0.0)
    assert relay.client(1).home == home


@pytest.mark.parametrize(
    ("notes", "moves"),
    [
        ([], (0, 0)),
        ([(HOME_SETTLES, 1)], (0, 0)),
        ([(HOME_SETTLES + 0.1, 1)], (1, 0)),
        ([(1.0, 1), (6.0, 0)], (0, 1)),
        ([(1.0, 1), (2.0, 0), (3.0, 1)], (0, 0)),
        ([(6.0, 1), (7.0, 1), (8.0, 2)], (1, 0)),
        ([(6.0, 0)], (0, 0)),
        ([(6.0, 1), (7.0, 0), (8.0, 1)], (2, 1)),
    ],
)
def test_home_moves(relay, notes, moves):
    """Changes count once the login is 5 s old, repeats and departures never."""
    login = 1000.0
    join(relay, 1, A, since=login)
    for after, value in notes:
        relay.frame(1, FrameType.NOTE_PREFERRED, bytes([value]), now=login + after)
    relay.unregister(1)
    assert (relay.counters.home_moves_in, relay.counters.home_moves_out) == moves
