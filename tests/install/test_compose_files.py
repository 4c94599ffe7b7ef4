"""The compose files as they are written; what comes of them is in test_compose.py."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from derpmesh.config import DaemonConfig
from derpnode import __version__
from tests.docs.blocks import blocks_of
from tests.install.projects import COMPOSE, ROOT


FILES = sorted(COMPOSE.glob("compose*.yaml"))

ALONE = {
    "compose.yaml": "derpmesh",
    "compose.prod.yaml": "derpmesh-prod",
    "compose.ip.yaml": "derpmesh-ip",
}
"""Files that are laid over no other, and the projects that they are."""

CI = "compose.ci.yaml"
"""Says of no service what it is."""


class _Loader(yaml.SafeLoader):
    """Reads what compose adds to YAML as well."""


_Loader.add_constructor("!reset", lambda _loader, _node: None)

Service = Mapping[str, object]


def read(name: str) -> Mapping[str, object]:
    """Read a compose file as it is, with its variables."""
    # A safe loader, with one tag more that makes nothing.
    tree = yaml.load((COMPOSE / name).read_text(), _Loader)  # noqa: S506
    assert isinstance(tree, dict)
    return tree


def services(name: str) -> dict[str, Service]:
    """Give the services of a file by name."""
    found = read(name)["services"]
    assert isinstance(found, dict)
    return found


def ours(name: str) -> dict[str, Service]:
    """Give the services of a file that run our image."""
    return {
        service: tree
        for service, tree in services(name).items()
        if "derpmesh" in str(tree.get("image"))
    }


def relays(name: str) -> dict[str, Service]:
    """Give those of them that run what our image runs by itself."""
    return {
        service: tree
        for service, tree in ours(name).items()
        if "entrypoint" not in tree
    }


def seconds(text: object) -> float:
    """Read a duration as these files write it."""
    assert isinstance(text, str)
    found = re.fullmatch(r"(\d+)s", text)
    assert found is not None, text
    return float(found[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_our_image_is_that_of_this_version(path: Path):
    """It is built where there is none of that name, as none need be published.

    A release pushes no `latest`, and three files named it and could build nothing.
    """
    found = ours(path.name)
    assert found or path.name == CI
    for service, tree in found.items():
        wanted = f"${{DERPMESH_IMAGE:-ghcr.io/derpmesh/derpmesh:{__version__}}}"
        assert tree["image"] == wanted, service
        assert tree["build"] == "..", service
    assert (COMPOSE / ".." / "Dockerfile").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_relays_have_time_to_say_farewell(path: Path):
    """Docker kills after 10 s unless told; compose.ip.yaml did not tell."""
    needed = DaemonConfig.model_fields["drain_grace"].default
    found = relays(path.name)
    assert bool(found) == (path.name not in {CI, "compose.monitoring.yaml"})
    for service, tree in found.items():
        assert seconds(tree["stop_grace_period"]) > needed, service


def test_what_stands_alone_is_a_project_of_its_own():
    """A `down` of the trial ended the relay of compose.prod.yaml on the same host."""
    named = {path.name: read(path.name).get("name") for path in FILES}
    assert {name: project for name, project in named.items() if project} == ALONE
    assert len(set(ALONE.values())) == len(ALONE)


def test_swapping_is_printed_as_it_is_shipped():
    """What the page has readers write goes on where compose.ip.yaml does."""
    (shipped,) = services("compose.ip.yaml").values()
    page = ROOT / "docs/howto/swap-image.md"
    printed = [yaml.safe_load(b.text) for b in blocks_of(page) if b.mark == "yaml"]
    assert printed
    for tree in printed:
        (service,) = tree["services"].values()
        assert "stop_grace_period" in service
        for key in service.keys() - {"image", "environment"}:
            assert service[key] == shipped[key], key


def test_prometheus_is_given_no_secret():
    """It had the volume of the keys, and with the token the command of the region.

    Of the keys it gets one certificate, which another container copies. Nor is it on
    the network of etcd, which asks nobody who he is.
    """
    found = services("compose.monitoring.yaml")
    assert found["prometheus"]["volumes"] == [
        "./config/prometheus.yaml:/config/prometheus.yaml:ro",
        "prometheus:/data",
    ]
    assert found["prometheus"]["networks"] == ["region"]
    (asks,) = yaml.safe_load((COMPOSE / "config/prometheus.yaml").read_text())[
        "scrape_configs"
    ]
    assert asks["tls_config"] == {"ca_file": "/data/ca.crt"}
    assert "authorization" not in asks
    copies = found["init-prometheus"]
    authority = "/etc/derpmesh/keys/admin/ca.crt"
    assert copies["entrypoint"] == ["cp", authority, "/var/lib/derpd/ca.crt"]
    assert copies["network_mode"] == "none"
    relays_say = yaml.safe_load((COMPOSE / "config/derpd.yaml").read_text())
    assert relays_say["admin"]["public_metrics"] is True
