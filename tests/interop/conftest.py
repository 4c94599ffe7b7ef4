"""Regions for the interop suite, and what it does where its peers cannot be built."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict, cast

import pytest

from tests.interop.region import Region, Server, Tls, run_region
from tests.support.peers import PEERS, BuildFailed, MissingTool, peer, unbuilt


# Every check is run against the original too: that is what makes it a fact.
SERVERS: tuple[Server, ...] = ("ours", "derper-1.104")

HERE = Path(__file__).parent


class Verdict(TypedDict):
    """What a driver prints of one check."""

    name: str
    ok: bool
    detail: str


Check = Callable[[Region, str, str], Verdict]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests last that wait for what began with the first."""
    items.sort(key=_is_slow)


def _is_slow(item: pytest.Item) -> bool:
    slow = item.get_closest_marker("slow") is not None
    return slow and item.path.is_relative_to(HERE)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the peers before the first test: its time limit is not meant for that."""
    wanted = any(item.get_closest_marker("interop") for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    missing = ", ".join(unbuilt())
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if missing and reporter is not None:
        reporter.write_line(f"interop: building {missing}; this takes minutes, once")
    with contextlib.suppress(MissingTool, BuildFailed):  # told by the fixture
        _build_all()


def _build_all() -> None:
    for name in PEERS:
        peer(name)


@pytest.fixture(scope="session")
def built() -> None:
    """Have every peer, or skip; on CI there is no skipping."""
    try:
        _build_all()
    except MissingTool as missing:
        reason = f"NOT RUN against real Tailscale peers: {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class Regions:
    """Regions that are started once, when first asked for."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._started: dict[tuple[Server, Tls], Region | Exception] = {}

    def get(self, server: Server, tls: Tls) -> Region:
        """Return the running region; one that did not start is not tried again."""
        wanted = (server, tls)
        if wanted not in self._started:
            folder = self._folder / f"{server}-{tls}"
            try:
                starting = run_region(server, folder, tls)
                self._started[wanted] = self._stack.enter_context(starting)
            except Exception as error:  # noqa: BLE001 - raised again for every test
                self._started[wanted] = error
        found = self._started[wanted]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(scope="session")
def regions(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Regions]:
    """All regions of this run, stopped at its end."""
    with contextlib.ExitStack() as stack:
        yield Regions(tmp_path_factory.mktemp("regions"), stack)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    """Whose relay is under test."""
    return cast("Server", request.param)


@pytest.fixture(scope="session")
def keepalives(
    request: pytest.FixtureRequest, regions: Regions
) -> Iterator[dict[Server, subprocess.Popen[str]]]:
    """Checks of more than a minute, begun before the first test that has a region."""
    servers = [
        cast("Server", item.callspec.params["server"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_keepalive"
    ]
    started: dict[Server, subprocess.Popen[str]] = {}
    for server in servers:
        with contextlib.suppress(Exception):  # its own tests will tell
            region = regions.get(server, "pinned")
            started[server] = start_check(region, "1.104", "keepalive")
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.fixture
def region_pinned(
    regions: Regions,
    server: Server,
    keepalives: dict[Server, subprocess.Popen[str]],
) -> Region:
    """A region that clients know by its certificate's hash."""
    return regions.get(server, "pinned")


@pytest.fixture
def region_ca(regions: Regions, server: Server) -> Region:
    """A region whose certificates are signed by a CA made for the occasion."""
    return regions.get(server, "ca")


@pytest.fixture(scope="session")
def check(built: None) -> Check:
    """Run one check with the client of a release; return what it printed."""

    def run(region: Region, client: str, name: str) -> Verdict:
        process = start_check(region, client, name)
        output, errors = process.communicate(timeout=60)
        return judge(output, errors)

    return run


def start_check(region: Region, client: str, name: str) -> subprocess.Popen[str]:
    """Start one check."""
    return subprocess.Popen(
        [peer(f"check-{client}"), "--region", region.document, "--run", name],
        env=region.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def judge(output: str, errors: str) -> Verdict:
    """Return the only verdict of a driver."""
    lines = output.splitlines()
    assert len(lines) == 1, f"{len(lines)} verdicts; it said:\n{output}{errors}"
    return cast("Verdict", json.loads(lines[0]))
