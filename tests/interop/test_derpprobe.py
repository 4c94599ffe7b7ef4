"""derpprobe, the tool by which operators of derper judge their relays."""

import itertools
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from derpctl.map.derpprobe import derpprobe
from derpctl.map.read import parse_derp_map
from tests.interop.conftest import Regions
from tests.interop.headscaled import map_server
from tests.interop.region import Region
from tests.interop.relays import eventually
from tests.support.peers import peer


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]


def probe_map(region: Region, folder: Path) -> Path:
    """Write the region's map as `map export -f derpprobe` does."""
    path = folder / "derpmap.json"
    path.write_text(derpprobe(parse_derp_map(region.map_file.read_text())))
    return path


def probe(region: Region, release: str, folder: Path) -> set[str]:
    """Probe a region once, and return what was probed; all of it must be good."""
    result = run_once(region, release, f"file://{probe_map(region, folder)}")
    assert result.returncode == 0, result.stderr
    assert "bad: " not in result.stderr
    return probed(result, "good")


def run_once(
    region: Region, release: str, map_url: str
) -> subprocess.CompletedProcess[str]:
    """Run every probe of a map once."""
    return subprocess.run(
        [
            *(peer(f"derpprobe-{release}"), "-once", "-spread=false"),
            *("-derp-map", map_url),
            *("-mesh-psk-file", region.demo["mesh_key_file"]),
            *("-bw-interval", "15s"),
        ],
        env=region.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def probed(result: subprocess.CompletedProcess[str], verdict: str) -> set[str]:
    """Return what it found good, or bad."""
    return set(re.findall(rf"{verdict}: derp/\w+/(\S+): ", result.stderr))


@pytest.mark.parametrize("release", ["1.102", "1.104"])
def test_once(region_ca: Region, release: str, tmp_path: Path):
    """Every probe is good: TLS, STUN, relaying, a megabyte in bulk."""
    kinds = {good.rpartition("/")[2] for good in probe(region_ca, release, tmp_path)}
    assert kinds >= {"tls", "udp", "mesh", "bw"}


@pytest.mark.parametrize("release", ["1.102", "1.104"])
@pytest.mark.parametrize("mesh", ["ours", "mixed"])
def test_mesh(regions: Regions, mesh: str, release: str, tmp_path: Path):
    """So are they over every ordered pair of nodes."""
    region = regions.mesh(mesh, "ca")
    names = [node["name"] for node in region.demo["nodes"]]
    wanted = {
        f"{one}/{other}/{kind}"
        for one, other in itertools.product(names, names)
        for kind in ("mesh", "bw")
    }
    assert probe(region, release, tmp_path) >= wanted


def test_map_by_url(regions: Regions, tmp_path: Path):
    """It reads the URL of `map serve`; all is good of what the map does not rule out.

    It tries the IPv6 address of a node that has none: "none" is no word to it.
    """
    region = regions.mesh("ours", "ca")
    names = {node["name"] for node in region.demo["nodes"]}
    config = region.document.parent / "derpctl.yaml"
    with map_server(config, tmp_path) as url:
        eventually(lambda: is_served(url), "the map is served")
        result = run_once(region, "1.104", f"{url}/derpmap/default")
    good = probed(result, "good")
    assert good >= {f"{name}/{kind}" for name in names for kind in ("tls", "udp")}
    assert good >= {f"{one}/{other}/mesh" for one in names for other in names}
    assert probed(result, "bad") == {f"{name}/udp6" for name in names}
    assert "good: derpmap-probe: " in result.stderr


def test_map_made_for_it(regions: Regions, tmp_path: Path):
    """With `map export -f derpprobe` nothing is left that it would call bad."""
    region = regions.single("ours", "ca")
    file = tmp_path / "derpmap.json"
    words = ("map", "export", "-f", "derpprobe", "-O", file)
    config = region.document.parent / "derpctl.yaml"
    command = [sys.executable, "-m", "derpctl", "--config", config, *words]
    subprocess.run(command, check=True)
    result = run_once(region, "1.104", f"file://{file}")
    assert result.returncode == 0, result.stderr
    assert probed(result, "bad") == set()
    assert probed(result, "good") >= {"900a/tls", "900a/udp", "900a/900a/mesh"}


def is_served(url: str) -> bool:
    """Whether a server has a map."""
    try:
        urllib.request.urlopen(f"{url}/derpmap/default").close()  # noqa: S310 - http
    except urllib.error.HTTPError:
        return False
    return True
