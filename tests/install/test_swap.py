"""Changing the name of the image: from camllia/derper to ours, everything else stays.

The old image is a stand-in: Go's own derper, started as that image's entry does. The
tests are walked in their order; they are days in the life of one machine.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from derpnode.client import ClientError
from derpnode.client.relay import Relay
from derpnode.client.tls import ClientTls, own_certificates
from tests.install.projects import (
    COMPOSE,
    IMAGE,
    attempt,
    becomes,
    docker,
    require_engine,
    said_by,
)
from tests.interop.conftest import judge, start_check
from tests.interop.region import Demo, Region
from tests.interop.tailnet import Member, control_server, tailscaled
from tests.support.peers import MissingTool, peer


pytestmark = [pytest.mark.install, pytest.mark.timeout(180)]

SEED = Path(__file__).with_name("seed")
SEED_IMAGE = "derpmesh-seed:dev"

PROJECT = "swap"
ADDRESS = "172.30.92.10"
CLIENT = "1.102"

OLD = ("compose.yaml", "lab.yaml")
RENAMED = ("renamed.yaml", "lab.yaml")
SHIPPED = ("compose.ip.yaml", "lab.yaml")

TWO_RIGHTS = 1 << 1 | 1 << 10
"""CAP_DAC_OVERRIDE and CAP_NET_BIND_SERVICE. Source: ``linux/capability.h``."""

CONFIG_UNUSABLE = 3
RECREATIONS = 5


class Identity(NamedTuple):
    """What others know a node by."""

    pin: str
    key: str


async def _identity() -> Identity | None:
    relay = Relay(ADDRESS, 443, ClientTls())
    try:
        stream = await relay.meet(await relay.dial(ADDRESS), within=2)
    except ClientError:
        return None
    try:
        [certificate] = own_certificates(stream.presented())
        await stream.upgrade(within=2)
        key = await stream.server_key(within=2)
    except ClientError:
        return None
    finally:
        await stream.close()
    return Identity(f"sha256-raw:{hashlib.sha256(certificate).hexdigest()}", key.hex())


class Machine:
    """A machine that runs one relay by a compose file.

    Args:
        environment: Of a Docker engine.
        folder: Where the files are, and what they mount.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **environment,
            "SEED_IMAGE": SEED_IMAGE,
            "DERPMESH_IMAGE": IMAGE,
            "DERP_ADDRESS": ADDRESS,
        }
        for file in (SEED / "compose.yaml", SEED / "lab.yaml"):
            shutil.copy(file, folder)
        shutil.copy(COMPOSE / "compose.ip.yaml", folder)
        printed = (SEED / "compose.yaml").read_text()
        renamed = printed.replace("${SEED_IMAGE}", IMAGE)
        (folder / "renamed.yaml").write_text(renamed)
        self.sockets.mkdir()

    @property
    def sockets(self) -> Path:
        """What is `/var/run/tailscale` to the relay."""
        return self.folder / "tailscale"

    def compose(
        self, files: tuple[str, ...], *words: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of docker compose that may fail."""
        named = [word for file in files for word in ("-f", file)]
        command = ("compose", "-p", PROJECT, *named, *words)
        return attempt(self.environment, *command, folder=self.folder)

    def run(self, files: tuple[str, ...], *words: str) -> Identity:
        """Run the relay by some files; say who it is once it serves."""
        done = self.compose(files, "up", "--detach", *words)
        assert done.returncode == 0, done.stderr
        found: list[Identity] = []

        def serves() -> bool:
            identity = asyncio.run(_identity())
            found.extend([identity] if identity is not None else [])
            return identity is not None

        try:
            becomes(serves)
        except AssertionError as exc:
            raise AssertionError(self.logs()) from exc
        return found[0]

    def logs(self) -> str:
        """Give all that the relay has said."""
        done = attempt(self.environment, "logs", "derper")
        return done.stdout + done.stderr

    def stop(self, files: tuple[str, ...]) -> None:
        """Remove the container; its volumes stay."""
        self.compose(files, "rm", "--stop", "--force")


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Iterator[Machine]:
    """A machine with an engine, and with the image that it came from."""
    environment = require_engine()
    folder = tmp_path_factory.mktemp("swap")
    try:
        _build_seed(environment, folder / "seed")
    except MissingTool as missing:
        pytest.skip(f"NOT RUN against real Tailscale peers: {missing}")
    found = Machine(environment, folder)
    yield found
    found.compose(OLD, "down", "--timeout", "1")


def _build_seed(environment: Mapping[str, str], folder: Path) -> None:
    shutil.copytree(SEED, folder)
    shutil.copy(peer(f"derper-{CLIENT}"), folder / "derper")
    docker(environment, "build", "--quiet", "--tag", SEED_IMAGE, str(folder))


@pytest.fixture(scope="module")
def before(machine) -> Identity:
    """Who the relay is, as long as the old image runs it."""
    return machine.run(OLD)


@pytest.fixture(scope="module")
def policy(before, tmp_path_factory) -> Region:
    """What clients are told, by a policy that nobody touches from now on."""
    folder = tmp_path_factory.mktemp("policy")
    node = {
        "Name": "custom",
        "RegionID": 900,
        "HostName": ADDRESS,
        "IPv4": ADDRESS,
        "IPv6": "none",
        "CertName": before.pin,
        "DERPPort": 443,
    }
    region = {"RegionID": 900, "RegionCode": "c", "RegionName": "C", "Nodes": [node]}
    map_file, mesh_key = folder / "map.json", folder / "mesh.key"
    map_file.write_text(json.dumps({"Regions": {"900": region}}))
    mesh_key.write_text("5a" * 32)
    demo: Demo = {
        "region": 900,
        "mesh_key_file": str(mesh_key),
        "derp_map_file": str(map_file),
        "ca_file": None,
        "nodes": [
            {
                "name": "custom",
                "host": ADDRESS,
                "derp_port": 443,
                "http_port": 80,
                "stun_port": 3478,
                "pin": before.pin,
                "admin": "",
                "pid": 0,
            }
        ],
    }
    document = folder / "region.json"
    document.write_text(json.dumps(demo))
    return Region(document, demo)


@pytest.fixture(scope="module")
def members(machine, policy, tmp_path_factory) -> Iterator[tuple[Member, Member]]:
    """Real tailscaleds: that of the machine, and one elsewhere, in one tailnet."""
    folder = tmp_path_factory.mktemp("tailnet")
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(control_server(folder, policy))
        own = stack.enter_context(tailscaled(machine.sockets, control))
        machine.sockets.chmod(0o755)  # as /var/run/tailscale is, where no state is kept
        (machine.sockets / "tailscaled.sock").symlink_to("sock")
        other = stack.enter_context(tailscaled(folder / "other", control))
        own.log_in()
        other.log_in()
        yield own, other


def assert_relays_for(members: tuple[Member, Member], policy: Region) -> None:
    """See that members reach each other through it, and that a stranger is refused.

    One that looked while its relay was away has no home until it looks again, which an
    idle one does only when it is told to.
    """
    own, other = members
    for member in members:
        member.tailscale("debug", "restun")
    assert other.ping(own, attempts=30).startswith("DERP(")
    verdict = judge(*start_check(policy, CLIENT, "refused").communicate(timeout=60))
    assert verdict["ok"], verdict["detail"]


def test_before(members, policy):
    """The old image: a member is admitted by the machine's tailscaled, nobody else."""
    assert_relays_for(members, policy)


def test_the_old_folder_is_roots(machine, before):
    """Renamed and nothing else: one line says why that folder will not do, and a way.

    The old image ran as root, and so does whatever Docker makes for a mount.
    """
    machine.stop(OLD)
    form = ("run", "--rm", "-T", "derper")
    done = machine.compose(RENAMED, *form)
    assert done.returncode == CONFIG_UNUSABLE
    said = [line for line in done.stderr.splitlines() if line.startswith("derpd: ")]
    problems = [line for line in said if "cannot be" in line]
    assert len(problems) == 1, done.stderr
    assert re.search(r'chown .*, or .*user: "0", cap_drop: \[ALL\]', problems[0])
    assert "Traceback" not in done.stderr


def test_renamed(machine, before, members, policy):
    """With the folder's owner as its user it is the same node, to the same clients."""
    assert machine.run(SHIPPED) == before
    assert_relays_for(members, policy)
    pid = docker(machine.environment, "inspect", "-f", "{{.State.Pid}}", "derper")
    status = Path(f"/proc/{pid.strip()}/status").read_text()
    found = re.search(r"^CapEff:\t(\w+)$", status, re.MULTILINE)
    assert found is not None
    assert int(found[1], 16) == TWO_RIGHTS


def test_it_says_what_became_of_the_variables(machine, before):
    """Each variable is answered by a key of ours; what was taken over is told."""
    machine.run(SHIPPED)
    said = machine.logs()
    assert "HOSTNAME" in said
    assert "node.host" in said
    assert "/var/lib/derper/derper.key: taken over as" in said


def test_recreated(machine, before, members, policy):
    """Five new containers are the same node, though the old key is out of reach now."""
    machine.run(SHIPPED)
    lab = (machine.folder / "lab.yaml").read_text()
    without = lab.replace("      - ./derper/:/var/lib/derper/\n", "")
    assert without != lab
    (machine.folder / "lab.yaml").write_text(without)
    for _ in range(RECREATIONS):
        assert machine.run(SHIPPED, "--force-recreate", "--timeout", "5") == before
    assert_relays_for(members, policy)


def test_the_folder_may_change_hands(machine, before, members, policy):
    """After the `chown` that the refusal names, the renamed image runs as nobody."""
    machine.run(SHIPPED)
    machine.stop(SHIPPED)
    chosen = {"COMPOSE_FILE": ":".join(RENAMED), "COMPOSE_PROJECT_NAME": PROJECT}
    for block in said_by("swap-image.md", "sh swap"):
        subprocess.run(
            ["sh", "-e", "-c", block.text],
            env={**machine.environment, **chosen},
            cwd=machine.folder,
            check=True,
        )
    assert machine.run(RENAMED) == before
    assert_relays_for(members, policy)
    form = ("inspect", "-f", "{{.Config.User}}", "derper")
    assert docker(machine.environment, *form).strip() == "65532:65532"


def test_bad_variables_are_named(machine):
    """What we do not do is refused: one line with the variable, our key, the remedy."""
    machine.stop(RENAMED)
    words = ("run", "--rm", "-T", "-e", "CERT_MODE=letsencrypt", "derper")
    done = machine.compose(RENAMED, *words)
    assert done.returncode == CONFIG_UNUSABLE
    said = [line for line in done.stderr.splitlines() if line.startswith("derpd: ")]
    assert any(re.search(r"CERT_MODE.*tls", line) for line in said), done.stderr
    assert "Traceback" not in done.stderr


def test_no_address(machine):
    """The shipped file asks for the address before anything starts."""
    machine.environment["DERP_ADDRESS"] = ""
    done = machine.compose(SHIPPED, "config", "--quiet")
    machine.environment["DERP_ADDRESS"] = ADDRESS
    assert done.returncode != 0
    assert "DERP_ADDRESS" in done.stderr
    assert "the public IP address" in done.stderr
