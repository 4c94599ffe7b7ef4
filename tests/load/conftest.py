"""What the load tests share: the generator, nodes, and the figures at the end."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.bench.build import CrateNotBuilt, derpload
from tests.load.fleet import Fleet, fleet, fleet_in_etcd
from tests.load.generator import Generator
from tests.load.node import Node, region, running
from tests.load.scale import WHOLE
from tests.support.etcd import require_etcd
from tests.support.peers import MissingTool


_FIGURES = pytest.StashKey[list[str]]()

StartNode = Callable[..., contextlib.AbstractContextManager[Node]]
StartRegion = Callable[..., contextlib.AbstractContextManager[Sequence[Node]]]
StartFleet = Callable[..., contextlib.AbstractContextManager[Fleet]]
Say = Callable[[str], None]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the generator before the first test: its time limit is not meant for that.

    That it cannot be built is told by the fixture.
    """
    wanted = any("generator" in getattr(i, "fixturenames", ()) for i in session.items)
    if wanted and not session.config.option.collectonly:
        with contextlib.suppress(MissingTool, CrateNotBuilt):
            derpload()


@pytest.fixture(scope="session")
def generator() -> Generator:
    """Have the load generator, or skip; on CI there is no skipping."""
    try:
        return Generator(derpload())
    except MissingTool as missing:
        reason = f"NOT RUN under load: {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def start_node(tmp_path: Path) -> StartNode:
    """Start nodes that keep their files with the test."""

    def start(
        *settings: str, address: str | None = None
    ) -> contextlib.AbstractContextManager[Node]:
        return running(tmp_path / "node", settings, address)

    return start


@pytest.fixture
def start_region(tmp_path: Path) -> StartRegion:
    """Start regions that keep their files with the test."""

    def start(
        nodes: int, *settings: str
    ) -> contextlib.AbstractContextManager[Sequence[Node]]:
        return region(tmp_path / "region", nodes, settings)

    return start


@pytest.fixture
def start_fleet(tmp_path: Path) -> StartFleet:
    """Prepare regions in etcd that keep their files with the test, or skip."""
    try:
        require_etcd()
    except MissingTool as missing:
        reason = f"NOT RUN under load: {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    def start(most: int, *settings: str) -> contextlib.AbstractContextManager[Fleet]:
        return fleet_in_etcd(tmp_path, most, settings)

    return start


@pytest.fixture
def start_fleet_in_file(tmp_path: Path) -> StartFleet:
    """Prepare regions in a file that keep their files with the test."""

    def start(most: int, *settings: str) -> contextlib.AbstractContextManager[Fleet]:
        return fleet(tmp_path, most, None, settings)

    return start


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Iterator[Say]:
    """Take the figures of a test; they are printed at the end, passed or not."""
    said: list[str] = []
    before = os.getloadavg()[0]
    yield said.append
    load = f"load average {before:.1f} to {os.getloadavg()[0]:.1f}"
    figures = request.config.stash.setdefault(_FIGURES, [])
    figures += [f"{request.node.name}, {load}:", *(f"    {line}" for line in said)]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures."""
    figures = config.stash.get(_FIGURES, [])
    if not figures:
        return
    size = "at full size" if WHOLE else "at a tenth"
    terminalreporter.section(f"under load, {size}, {os.cpu_count()} CPUs")
    for line in figures:
        terminalreporter.write_line(line)
