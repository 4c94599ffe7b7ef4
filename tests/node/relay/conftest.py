"""A relay with a recorder below it."""

import pytest

from derpnode.relay.relay import Relay
from tests.node.relay.recorder import Recorder
from tests.node.relay.scene import OWN, WATCHER, M, join, watch


@pytest.fixture
def world():
    """What the relay commands goes here."""
    return Recorder()


@pytest.fixture
def relay(world):
    """A relay that nobody has joined."""
    return Relay(world, OWN)


@pytest.fixture
def watcher(relay, world):
    """A mesh peer that watches, has read its flood, and was told nothing since."""
    join(relay, WATCHER, M, mesh=True)
    watch(relay, WATCHER)
    relay.drained(WATCHER)
    world.told(WATCHER)
    return WATCHER
