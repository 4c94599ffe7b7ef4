"""derpprobe, the tool by which operators of derper judge their relays."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.interop.conftest import Regions
from tests.interop.region import Region
from tests.support.peers import peer


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]


def probe_map(region: Region, folder: Path) -> Path:
    """Write the region's map as derpprobe needs it: it tries an address "none"."""
    derp_map = json.loads(region.map_file.read_text())
    for mapped in derp_map["Regions"].values():
        for node in mapped["Nodes"]:
            if node.get("IPv6") == "none":
                del node["IPv6"]
    path = folder / "derpmap.json"
    path.write_text(json.dumps(derp_map))
    return path


def probe(region: Region, release: str, folder: Path) -> set[str]:
    """Probe a region once, and return what was probed; all of it must be good."""
    result = subprocess.run(
        [
            *(peer(f"derpprobe-{release}"), "-once", "-spread=false"),
            *("-derp-map", f"file://{probe_map(region, folder)}"),
            *("-mesh-psk-file", region.demo["mesh_key_file"]),
            *("-bw-interval", "15s"),
        ],
        env=region.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "bad: " not in result.stderr
    return set(re.findall(r"good: derp/\w+/(\S+): ", result.stderr))


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
