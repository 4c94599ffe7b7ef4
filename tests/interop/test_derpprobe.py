"""derpprobe, the tool by which operators of derper judge their relays."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.interop.region import Region
from tests.support.peers import peer


pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


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


@pytest.mark.parametrize("release", ["1.102", "1.104"])
def test_once(region_ca: Region, release: str, tmp_path: Path):
    """Every probe is good: TLS, STUN, relaying, a megabyte in bulk."""
    result = subprocess.run(
        [
            *(peer(f"derpprobe-{release}"), "-once", "-spread=false"),
            *("-derp-map", f"file://{probe_map(region_ca, tmp_path)}"),
            *("-mesh-psk-file", region_ca.demo["mesh_key_file"]),
            *("-bw-interval", "15s"),
        ],
        env=region_ca.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "bad: " not in result.stderr
    good = re.findall(r"good: \S*/(\w+): ", result.stderr)
    assert set(good) >= {"tls", "udp", "mesh", "bw"}, result.stderr
