"""The configurations that the chart writes, read by what will read them."""

from pathlib import Path

import pytest
import yaml

from derpctl.config import load_ctl_config
from derpmesh.address.config import load_address_config
from derpmesh.address.fill import fill_admin, fill_place, fill_ports, has_host
from derpmesh.address.place import Place, Pod
from derpmesh.config import DaemonConfig, load_daemon_config
from derpnode.config import InvalidConfig
from derpnode.wire.keys import MeshKey
from tests.install.charts import EXAMPLES, NAME, objects_of


pytestmark = pytest.mark.install

NAMED = ("bare-metal-dns", "cert-manager", "eks", "existing-secrets")
"""Examples whose relays have DNS names."""


def filled(example: str, folder: Path, *words: str) -> DaemonConfig:
    """Read derpd's configuration as a pod has it."""
    tree = yaml.safe_load(objects_of(example, *words).configuration("derpd.yaml.in"))
    pod = Pod(
        name=f"{NAME}-0", namespace="net", ip="10.1.2.3", machine="", machine_ip=""
    )
    host = "derp-a.example.com" if example in NAMED else "203.0.113.1"
    if not has_host(tree):
        fill_place(tree, Place(host))
    fill_admin(tree, "{pod}.nodes.net.svc", pod)
    if example == "node-port":
        fill_ports(tree, {"derp": 30443, "stun": 30478})
    path = folder / "derpd.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_daemon_config(path, {})


@pytest.mark.parametrize("example", EXAMPLES)
def test_derpd_takes_its_configuration(example: str, tmp_path: Path):
    """What --check-config would say, for every set of values."""
    found = filled(example, tmp_path)
    assert found.node.name == "auto"
    assert found.admin.host == f"{NAME}-0.nodes.net.svc"
    assert str(found.admin_socket) == "/run/derpd/admin.sock"
    assert found.registry.etcd is not None


@pytest.mark.parametrize("example", EXAMPLES)
def test_derpd_address_takes_its_settings(example: str, tmp_path: Path):
    """It writes where derpd reads."""
    path = tmp_path / "address.yaml"
    found = objects_of(example)
    path.write_text(found.configuration("address.yaml"))
    output = load_address_config(path).output
    (container,) = found.relay()["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env["DERPD_CONFIG"] == str(output)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("key", ["derpctl.yaml", "self.yaml"])
def test_derpctl_takes_its_configuration(example: str, key: str, tmp_path: Path):
    """The one for people, and the one for the end of a pod."""
    path = tmp_path / key
    path.write_text(objects_of(example).configuration(key))
    load_ctl_config(path)


def test_config_is_laid_over_what_the_chart_writes(tmp_path: Path):
    """A key beside those that the chart sets leaves them as they are."""
    found = filled("external-etcd", tmp_path)
    assert found.homing.share == 0.02
    assert found.log.level == "warning"
    etcd = found.registry.etcd
    assert etcd is not None
    assert (etcd.ttl, etcd.user) == (30, "derpd")
    assert str(etcd.password_file) == "/etc/derpmesh/keys/etcd/password"


def test_a_wrong_key_in_config_is_found_by_derpd(tmp_path: Path):
    """The schema of the chart leaves `config` to it."""
    with pytest.raises(InvalidConfig, match=r"^homing\.shar = '…': unknown key; did "):
        filled("minimal", tmp_path, "--set=config.homing.shar=1")


def test_the_mesh_key_that_is_made_is_one():
    """64 hex digits."""
    MeshKey.parse(objects_of("minimal").secret(f"{NAME}-mesh")["mesh.key"].decode())


def test_ports_of_machines_are_in_the_map(tmp_path: Path):
    """And port 80 is not promised, as nobody could ask there."""
    found = filled("node-port", tmp_path)
    assert (found.derp.public_port, found.stun.public_port) == (30443, 30478)
    assert not found.http.enabled
