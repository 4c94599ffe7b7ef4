"""What `derpd` is told beside the settings of a node."""

import pytest

from derpmesh.config import load_daemon_config
from derpnode.config import InvalidConfig


OPEN = ("derp.listen=['127.0.0.1:0']", "admission.mode=open")
KEY = "mesh.key_file=/etc/derpmesh/mesh.key"
FILE = "registry.file=/etc/derpmesh/region.yaml"
HINT = "see docs/reference/configuration.md"


def load(*settings):
    """Read the settings of a node on loopback, and these."""
    return load_daemon_config(None, {}, [*OPEN, *settings])


def problems(*settings) -> list[str]:
    """Say what is wrong with settings."""
    with pytest.raises(InvalidConfig) as caught:
        load(*settings)
    return [str(problem) for problem in caught.value.problems]


def test_node_alone_needs_no_mesh():
    """Nothing of it is set."""
    found = load()
    assert (found.registry.file, found.mesh.peers) == (None, [])


def test_region_in_a_file():
    """The path is kept as it is."""
    assert str(load(KEY, FILE).registry.file) == "/etc/derpmesh/region.yaml"


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        (FILE, "registry.file", "'/etc/derpmesh/region.yaml'"),
        ("mesh.peers=[{url: 'https://old.example.com'}]", "mesh.peers", '"[MeshPeer('),
    ],
)
def test_mesh_without_a_key(setting, name, value):
    """Nobody would let such a node in."""
    [problem] = problems(setting)
    assert problem.startswith(f"{name} = {value}")
    assert problem.endswith(
        ": nodes mesh only with a key they share; "
        "set mesh.key_file; `openssl rand -hex 32` makes one"
    )


def test_other_problems_are_told_as_well():
    """Those of a node."""
    found = problems("admission.mode=any", FILE)
    assert [problem.split(" = ")[0] for problem in found] == [
        "admission",
        "registry.file",
    ]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://", "no host in it"),
        ("https://:443", "no host in it"),
        ("https://old.example.com:99999", "port out of range 0-65535"),
        (
            "https://old.example.com:https",
            "port could not be cast to integer value as 'https'",
        ),
        ("https://[::1", "invalid IPv6 URL"),
    ],
)
def test_regression_url_that_cannot_be_dialled(url, reason):
    """It is refused at the start. Before, it ended the node when links were opened."""
    assert problems(KEY, f"mesh.peers=[{{url: '{url}'}}]") == [
        f"mesh.peers.0.url = {url!r}: {reason}; {HINT}"
    ]


@pytest.mark.parametrize(
    "url",
    ["https://old.example.com", "http://10.0.0.1:8080", "https://[::1]:8443/derp"],
)
def test_url_that_can_be_dialled(url):
    """With a port or without."""
    assert load(KEY, f"mesh.peers=[{{url: '{url}'}}]").mesh.peers[0].url == url


def test_unknown_registry():
    """It is named."""
    [problem] = problems(KEY, "registry.consul=x")
    assert problem.startswith("registry.consul = ")
