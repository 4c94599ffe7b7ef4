"""The engine of the tests: quiet on the machine, and gone when it is stopped."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.install.containers import containers
from tests.support.engine import NoEngine, daemon
from tests.support.engine.client import docker
from tests.support.engine.home import Home


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture
def home():
    """A folder for an engine of its own, with a short name: sockets are in it."""
    if os.geteuid() != 0:
        pytest.skip("only root starts an engine; run the tests as root")
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    made = Home.at(folder)
    yield made
    daemon.stop(made)
    shutil.rmtree(folder)


def firewall() -> str:
    """What the machine does with packets that are not for it, and with others."""
    rules = [
        subprocess.run(["iptables", "-t", table, "-S"], capture_output=True, check=True)
        for table in ("filter", "nat")
    ]
    return FORWARDING.read_text() + "".join(each.stdout.decode() for each in rules)


def test_it_starts_leaves_the_network_alone_and_stops(home):
    """With a network of containers as well; nothing is left behind, no mount either."""
    if shutil.which("iptables") is None:
        pytest.skip("iptables is not on PATH; install it: apt install iptables")
    before = firewall()
    try:
        daemon.start(home)
    except NoEngine as exc:
        pytest.skip(str(exc))
    docker(home.environment, "network", "create", "--internal", "apart")
    assert firewall() == before
    docker(home.environment, "network", "rm", "apart")
    pid = daemon.running(home)
    assert pid is not None
    daemon.stop(home)
    assert daemon.running(home) is None
    assert not Path(f"/proc/{pid}/exe").exists()
    assert str(home.run) not in Path("/proc/self/mounts").read_text()
    assert firewall() == before


def test_compose_and_buildx_are_there():
    """Compose is the second one, and buildx builds as well."""
    with containers() as room:
        said = docker(room.environment, "compose", "version", "--short")
        assert int(said.removeprefix("v").split(".")[0]) >= 2
        assert "buildx" in docker(room.environment, "buildx", "version")
