"""Regions for the interop suite, and what it does where its peers cannot be built."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict, cast

import pytest

from tests.interop.region import Region, Server, Tls, demo
from tests.interop.relays import meshed
from tests.support.peers import PEERS, BuildFailed, MissingTool, peer, unbuilt


# Every check is run against the original too: that is what makes it a fact.
SERVERS: tuple[Server, ...] = ("ours", "derper-1.104")

# Regions of several relays, by what tests call them.
MESHES: dict[str, Sequence[Server]] = {
    "ours": ["ours", "ours", "ours"],
    "stock": ["derper-1.104", "derper-1.102", "derper-1.104"],
    "mixed": ["derper-1.102", "derper-1.104", "ours", "ours"],
}

HERE = Path(__file__).parent


class Verdict(TypedDict):
    """What a driver prints of one check."""

    name: str
    ok: bool
    detail: str


# What a driver prints when a check is run over pairs of nodes: "from" is no name.
PairVerdict = TypedDict(
    "PairVerdict", {"name": str, "from": str, "to": str, "ok": bool, "detail": str}
)

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
        self._started: dict[tuple[str, Tls], Region | Exception] = {}

    def single(self, server: Server, tls: Tls) -> Region:
        """Return a region of one relay."""
        return self._get((f"one {server}", tls), [server])

    def mesh(self, name: str, tls: Tls) -> Region:
        """Return a region of several, one of `MESHES`."""
        return self._get((name, tls), MESHES[name])

    def _get(self, wanted: tuple[str, Tls], servers: Sequence[Server]) -> Region:
        """Return a running region; one that did not start is not tried again."""
        if wanted not in self._started:
            try:
                self._started[wanted] = self._start(wanted, servers)
            except Exception as error:  # noqa: BLE001 - raised again for every test
                self._started[wanted] = error
        found = self._started[wanted]
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self, wanted: tuple[str, Tls], servers: Sequence[Server]) -> Region:
        name, tls = wanted
        folder = self._folder / f"{name}-{tls}".replace(" ", "-")
        if set(servers) == {"ours"}:
            return self._stack.enter_context(demo(folder, tls, nodes=len(servers)))
        return self._stack.enter_context(meshed(servers, folder, tls)).region


@pytest.fixture(scope="session")
def regions(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Regions]:
    """All regions of this run, stopped at its end."""
    with contextlib.ExitStack() as stack:
        yield Regions(tmp_path_factory.mktemp("regions"), stack)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    """Whose relay is under test."""
    return cast("Server", request.param)


class LongChecks:
    """Checks of more than a minute: they run while others do."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, region: Region, name: str) -> None:
        """Begin a check with the client of today."""
        process = start_check(region, "1.104", name)
        self._running[f"{name} {region.document}"] = process

    def verdict(self, region: Region, name: str) -> Verdict:
        """Wait for what it found."""
        process = self._running[f"{name} {region.document}"]
        return judge(*process.communicate(timeout=100))

    def kill(self) -> None:
        """End those that nobody waits for any more."""
        for process in self._running.values():
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def long_checks(
    request: pytest.FixtureRequest, regions: Regions
) -> Iterator[LongChecks]:
    """The long checks of this run, begun with the first test that has a region."""
    checks = LongChecks()
    wanted = {
        (item.originalname, item.callspec.params.get("server"))
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    for server in SERVERS:
        if ("test_keepalive", server) in wanted:
            with contextlib.suppress(Exception):  # its own test will tell
                checks.start(regions.single(server, "pinned"), "keepalive")
    names = {getattr(item, "originalname", "") for item in request.session.items}
    if "test_links_last" in names:
        with contextlib.suppress(Exception):
            checks.start(regions.mesh("mixed", "pinned"), "coming-and-going")
    yield checks
    checks.kill()


@pytest.fixture
def region_pinned(regions: Regions, server: Server, long_checks: LongChecks) -> Region:
    """A region that clients know by its certificate's hash."""
    return regions.single(server, "pinned")


@pytest.fixture
def region_ca(regions: Regions, server: Server) -> Region:
    """A region whose certificates are signed by a CA made for the occasion."""
    return regions.single(server, "ca")


@pytest.fixture(scope="session")
def check(built: None) -> Check:
    """Run one check with the client of a release; return what it printed."""

    def run(region: Region, client: str, name: str) -> Verdict:
        process = start_check(region, client, name)
        output, errors = process.communicate(timeout=60)
        return judge(output, errors)

    return run


def start_check(region: Region, client: str, *words: str) -> subprocess.Popen[str]:
    """Start one check; further words are options of the driver."""
    name, *options = words
    return subprocess.Popen(
        [
            *(peer(f"check-{client}"), "--region", region.document),
            *("--run", name, *options),
        ],
        env=region.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_check(region: Region, client: str, *words: str) -> list[PairVerdict]:
    """Run one check over pairs of nodes; further words are options of the driver."""
    output, errors = start_check(region, client, *words).communicate(timeout=100)
    verdicts = [cast("PairVerdict", json.loads(line)) for line in output.splitlines()]
    assert verdicts, errors
    return verdicts


def judge(output: str, errors: str) -> Verdict:
    """Return the only verdict of a driver."""
    lines = output.splitlines()
    assert len(lines) == 1, f"{len(lines)} verdicts; it said:\n{output}{errors}"
    return cast("Verdict", json.loads(lines[0]))
