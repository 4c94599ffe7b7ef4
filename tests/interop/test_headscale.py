"""headscale reads our map, by file and by URL, and hands it to real tailscaled."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.interop.headscaled import Gate, Headscale, gate, headscale, map_server
from tests.interop.region import Region, demo
from tests.interop.relays import eventually
from tests.interop.tailnet import Member, tailscaled


pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(150)]

PATH = "/derpmap/default"
REGION = "900"
NAMES = {"900a", "900b", "900c"}


@pytest.fixture(scope="module")
def region(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """Three nodes that serve their map as well."""
    folder = tmp_path_factory.mktemp("hs")
    with demo(folder, "ca", ["derp.serve_map=true"], nodes=3) as found:
        yield found


def config_of(region: Region) -> Path:
    """Say where derpctl's configuration is."""
    return region.document.parent / "derpctl.yaml"


def urls(*found: str) -> dict[str, object]:
    """Configure maps by URL, read again and again."""
    return {"urls": list(found), "auto_update_enabled": True, "update_frequency": "1s"}


def has_all(server: Headscale) -> bool:
    """Whether it hands out the region, whole."""
    return {number: set(names) for number, names in server.nodes().items()} == {
        REGION: NAMES
    }


def export(region: Region, *words: str | Path) -> str:
    """Print the map of the region, or what to do with it."""
    command = ["--config", config_of(region), "map", "export", "-f", *words]
    return subprocess.run(
        [sys.executable, "-m", "derpctl", *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_file(region: Region, tmp_path: Path):
    """It takes the file that `map export -f headscale` writes."""
    file = tmp_path / "derp.yaml"
    file.write_text(export(region, "headscale"))
    derp = {"urls": [], "paths": [str(file)]}
    with headscale(tmp_path / "hs", derp, os.environ) as server:
        assert has_all(server)
        told = f"headscale:{server.debug_url}"
        verify(region, told, f"{told}: has map ")


def verify(region: Region, against: str, said: str) -> None:
    """See that somebody has the map, as derpctl says."""
    command = ["--config", config_of(region), "map", "verify", "--ignore-order"]
    ended = subprocess.run(
        [sys.executable, "-m", "derpctl", *command, "--against", against],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout.startswith(said)) == (0, True)


DEFAULTS = {
    number: {
        "RegionID": number,
        "RegionCode": f"r{number}",
        "RegionName": f"Region {number}",
        "Nodes": [{"Name": f"{number}a", "RegionID": number, "HostName": "a.example"}],
    }
    for number in (1, 2)
}
"""Regions that are not ours, as Tailscale hands them out."""


def test_removed_regions(region: Region, tmp_path: Path):
    """A null in our file takes one region of others away, and leaves the other."""
    file = tmp_path / "derp.yaml"
    file.write_text(export(region, "headscale", "--remove-default", "1"))
    with gate() as (way, url):
        way.page = json.dumps({"Regions": DEFAULTS}).encode()
        derp = {"urls": [url + PATH], "paths": [str(file)]}
        with headscale(tmp_path / "hs", derp, os.environ) as server:
            assert set(server.nodes()) == {"2", REGION}


def test_printed_configuration(region: Region, tmp_path: Path):
    """It goes by the block that is printed for its configuration."""
    file = tmp_path / "derp.yaml"
    file.write_text(export(region, "headscale"))
    node = region.demo["nodes"][0]
    url = f"http://{node['host']}:{node['http_port']}{PATH}"
    for name, words in (
        ("file", ("--map-file", file)),
        ("url", ("--map-url", url)),
    ):
        block = export(region, "headscale-config", "--only-ours", *words)
        derp = yaml.safe_load(block)["derp"]
        with headscale(tmp_path / name, derp, os.environ) as server:
            assert has_all(server)


def test_url_of_a_node(region: Region, tmp_path: Path):
    """It takes the map that each node serves, over TLS and without."""
    node = region.demo["nodes"][0]
    secure = f"https://{node['host']}:{node['derp_port']}{PATH}"
    plain = f"http://{node['host']}:{node['http_port']}{PATH}"
    for name, url in ("secure", secure), ("plain", plain):
        with headscale(tmp_path / name, urls(url), region.environment) as server:
            assert has_all(server)
            server.await_refreshes(2)
            assert has_all(server)


def test_others_errors_take_the_region_away(region: Region, tmp_path: Path):
    """What our server takes care of: an error in JSON is a map without regions."""
    with (
        map_server(config_of(region), tmp_path) as ours,
        gate() as (way, url),
    ):
        way.target = ours
        eventually(lambda: way.answer(PATH)[0] == 200, "it serves")
        with headscale(tmp_path / "hs", urls(url + PATH), os.environ) as server:
            assert has_all(server)
            way.target, way.page = "", b'{"detail": "Bad Gateway"}'
            eventually(lambda: server.nodes() == {}, "its clients have lost the region")


class Watch:
    """Looks at the map that members have, all the time."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.orders: list[tuple[str, ...]] = []
        """Orders of the nodes, one after the other; empty: no region, or no map."""

        self._members = members
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            for member in self._members:
                self.orders.append(order(member))


def order(member: Member) -> tuple[str, ...]:
    """Return the nodes that a member knows, in its order; none if it has no region."""
    derp_map = json.loads(member.tailscale("debug", "derp-map")) or {}
    known = (derp_map.get("Regions") or {}).get(REGION) or {}
    return tuple(node["Name"] for node in known.get("Nodes") or ())


def home(member: Member) -> str:
    """Return the region that a member is at home in."""
    status = json.loads(member.tailscale("status", "--json"))
    return str(status["Self"]["Relay"])


class Day:
    """A tailnet of headscale's, and all that it may lose in a day."""

    def __init__(self, region: Region, folder: Path, way: Gate) -> None:
        self._region = region
        self._folder = folder
        self._serving = contextlib.ExitStack()
        self.way = way
        self.members: list[Member] = []
        lost = folder / "lost.yaml"
        lost.write_text("{region: 900, nodes: [{name: x, admin: 'unix:/none'}]}")
        self._knows, self._lost = config_of(region), lost
        self._cache = ("--cache", str(folder / "map.json"))

    @contextlib.contextmanager
    def begin(self, url: str) -> Iterator[None]:
        """Have two members at home in the region."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._serving)
            self._serve(self._knows, *self._cache, status=200)
            derp = urls(url + PATH) | {"update_frequency": "3s"}
            server = stack.enter_context(
                headscale(self._folder / "hs", derp, os.environ)
            )
            control = server.control(self._region)
            for name in ("one", "other"):
                member = stack.enter_context(tailscaled(self._folder / name, control))
                member.log_in()
                eventually(lambda m=member: home(m) == "demo", "it is at home")
                self.members.append(member)
            self.all_reach_all()
            for member in self.members:
                client = f"client:{member.api}"
                verify(self._region, client, f"{client}: has map ")
            yield

    def turn_around(self) -> None:
        """Have headscale read the map again, until the order is another one."""
        before = order(self.members[0])
        eventually(lambda: order(self.members[0]) != before, "another order")

    def lose_a_node(self) -> None:
        """Kill one of the three."""
        os.kill(self._region.demo["nodes"][0]["pid"], signal.SIGKILL)
        self.way.await_status(200, 2)

    def lose_the_map_server(self) -> None:
        """Stop it; what stands before it gives its own page."""
        self._serving.close()
        self.way.await_status(502)

    def serve_nothing(self) -> None:
        """Start it where it can ask nobody, and has kept nothing."""
        self._serve(self._lost, status=503)
        self.way.await_status(503)
        self._serving.close()

    def serve_what_was_kept(self) -> None:
        """Start it where it can ask nobody, with what it served last."""
        self._serve(self._lost, *self._cache, status=200)
        self.way.await_status(200, 2)

    def all_reach_all(self) -> None:
        """Have everybody reach everybody else, by the region alone."""
        for one, other in itertools.permutations(self.members, 2):
            assert one.ping(other) == "DERP(demo)"

    def _serve(self, config: Path, *options: str, status: int) -> None:
        server = map_server(config, self._folder, *options)
        self.way.target = self._serving.enter_context(server)
        eventually(lambda: self.way.answer(PATH)[0] == status, f"it answers {status}")


def test_a_bad_day(region: Region, tmp_path: Path):
    """Clients never lose the region, whatever happens to those who hand its map out.

    headscale turns its nodes around each time that it reads the map, and everybody
    still reaches everybody. It comes last here: a node dies of it.
    """
    with gate() as (way, url):
        day = Day(region, tmp_path, way)
        with day.begin(url), Watch(day.members) as watch:
            for trouble in (
                day.turn_around,
                day.turn_around,
                day.lose_a_node,
                day.lose_the_map_server,
                day.serve_nothing,
                day.serve_what_was_kept,
                day.turn_around,
            ):
                trouble()
                day.all_reach_all()
    assert set(map(frozenset, watch.orders)) == {frozenset(NAMES)}
    assert len(set(watch.orders)) > 1
    assert {status for status, _ in way.answers} == {200, 502, 503}
