"""Real etcd servers of each version, where they are installed or can be built."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.etcds import Etcds, require
from tests.support.etcd import VERSIONS, Version, require_etcd
from tests.support.peers import BuildFailed, MissingTool


HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build etcd before the first test: its time limit is not meant for that."""
    wanted = any(
        item.path.is_relative_to(HERE) and item.get_closest_marker("interop")
        for item in session.items
    )
    if wanted and not session.config.option.collectonly:
        with contextlib.suppress(MissingTool, BuildFailed):  # told by the fixture
            require_etcd("current")


@pytest.fixture(scope="session")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcds]:
    """Give the clusters that tests share; they are killed at the end."""
    found = Etcds(tmp_path_factory.mktemp("etcds"))
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture(scope="session", params=VERSIONS)
def etcd_version(request: pytest.FixtureRequest) -> Version:
    """Have each version of etcd, or skip; on CI there is no skipping."""
    version: Version = request.param
    require(version)
    return version
