"""Scenes for the tests of the planes, over each plane there is."""

import asyncio

import pytest

from derpnode.plane.contract import PlaneLimits
from derpnode.plane.python.selector import new_event_loop
from tests.node.plane.planes import PLANES
from tests.node.plane.scene import Scene


def pytest_asyncio_loop_factories(config, item):
    """Take the daemon's loop, and one whose waiting the plane has no part in."""
    del config, item
    return {"shared": new_event_loop, "apart": asyncio.new_event_loop}


@pytest.fixture(params=PLANES)
def plane(request):
    """Make a plane."""
    return PLANES[request.param]


@pytest.fixture
async def opens(plane):
    """Make scenes with other limits than the default."""
    scenes = []

    def make(uniform=None, **limits) -> Scene:
        options = {} if uniform is None else {"uniform": uniform}
        scene = Scene(plane, PlaneLimits(**limits), **options)
        scenes.append(scene)
        return scene

    yield make
    for scene in scenes:
        await scene.end()


@pytest.fixture
async def scene(opens):
    """A plane with the limits that it has by default."""
    return opens()
