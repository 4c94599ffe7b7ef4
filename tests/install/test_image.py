"""The image, built from the shipped Dockerfile and run by a real engine."""

import asyncio
import json
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from derpnode import __version__
from derpnode.wire.frames import FrameType
from tests.conformance.scene import Place, private_key
from tests.install.containers import HARDENED, Container, Containers, containers
from tests.support.engine.client import docker
from tests.support.engine.project import IMAGE
from tests.support.etcd import free_ports


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

MOST = 70_000_000
"""Bytes that the image may add to its base."""

USER = 65532

STATE = "/var/lib/derpd"
CONFIG = "/etc/derpmesh/derpd.yaml"
MESH_KEY = "/etc/derpmesh/keys/mesh.key"

NODE = {
    "node": {"name": "900a", "host": "203.0.113.10", "ipv6": "none"},
    "region": {"id": 900, "code": "home", "name": "Home"},
    "admission": {"mode": "open", "i_know_this_is_public": True},
}
"""A node on its usual ports, which only root may have outside of containers."""

SET_LOOPBACK = """
import fcntl, socket, struct, sys
request = struct.pack("16sh", b"lo", int(sys.argv[1]))  # IFF_UP
fcntl.ioctl(socket.socket(), 0x8914, request)  # SIOCSIFFLAGS
"""

NO_SHELL = (
    "--volume",
    "/dev/null:/usr/bin/dash:ro",
    "--volume",
    "/dev/null:/usr/bin/bash:ro",
)


@pytest.fixture(scope="module")
def room():
    """Where the containers of this file are."""
    with containers() as made:
        yield made


def configured(folder: Path, tree: dict[str, object]) -> tuple[str, ...]:
    """Write a configuration; return the options that mount it."""
    file = folder / "derpd.yaml"
    file.write_text(yaml.safe_dump(tree))
    return ("--volume", f"{file}:{CONFIG}:ro")


QUICK = ("--health-interval", "1s", "--health-retries", "2")
"""A health check that tests can wait for."""


@pytest.fixture(scope="module")
def node(room, tmp_path_factory) -> Container:
    """A node with nothing that it can do without: capabilities, shell, network."""
    folder = tmp_path_factory.mktemp("node")
    return room.start(
        *HARDENED,
        *NO_SHELL,
        *configured(folder, NODE),
        *QUICK,
        *("--network", "none", "--volume", f"{room.volume()}:{STATE}"),
    )


# What it is made of.


def test_it_adds_little_to_its_base(room):
    """At most 70 MB: every layer above the base, as pulled and unpacked."""
    form = ("--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}")
    size = 0
    for line in docker(room.environment, "history", *form, IMAGE).splitlines():
        layer, created = line.split(maxsplit=1)
        if "ARG VERSION" in created:
            break
        size += int(layer)
    else:
        pytest.fail("the first of our own steps is not in the history")
    assert 30_000_000 < size <= MOST


def test_nothing_is_in_it_that_is_not_needed(room):
    """Exactly the project and what it requires; none of what built it."""
    program = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name: d.requires or [] for d in m.distributions()}))"
    )
    ran = room.run("--network", "none", "--entrypoint", "python", words=("-c", program))
    found = {
        canonicalize_name(name): list(map(Requirement, lines))
        for name, lines in json.loads(ran.stdout).items()
    }
    needed, open_ = set(), ["derpmesh"]
    while open_:
        name = open_.pop()
        needed.add(name)
        for requirement in found[name]:
            wanted = canonicalize_name(requirement.name)
            marker = requirement.marker
            applies = marker is None or marker.evaluate(
                {"extra": "", "python_version": "3.11", "python_full_version": "3.11.2"}
            )
            if applies and wanted not in needed:
                open_.append(wanted)
    assert set(found) == needed


def test_it_says_how_it_is_to_be_run(room):
    """A number for its user, no shell in a command, and what tools read."""
    (found,) = json.loads(docker(room.environment, "image", "inspect", IMAGE))
    config = found["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["derpd", "--container"]
    assert not config.get("Cmd")
    assert config["Healthcheck"]["Test"] == ["CMD", "derpd-health"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"443/tcp", "80/tcp", "3478/udp", "9090/tcp"}
    labels = {
        name.rpartition(".")[2] for name in config["Labels"] if "opencontainers" in name
    }
    assert labels >= {"title", "description", "licenses", "version", "revision"}


# A node in it.


def test_it_becomes_healthy_with_nothing_it_can_do_without(node):
    """On ports below 1024, as nobody, read-only, with no capability and no shell."""
    node.until("healthy")
    status = node.execute("python", "-c", "print(open('/proc/1/status').read())")
    shown = dict(line.split(":\t", 1) for line in status.splitlines())
    assert shown["Uid"].split() == shown["Gid"].split() == [str(USER)] * 4
    assert shown["CapEff"] == shown["CapBnd"] == shown["CapPrm"] == "0" * 16
    assert shown["NoNewPrivs"] == "1"
    assert node.execute("derpd-health") == "ready"


def test_it_becomes_unhealthy_when_it_cannot_relay(room, node):
    """The process lives and its admin socket answers; that is not enough."""
    node.until("healthy")
    set_loopback(room, node, up=False)
    try:
        node.until("unhealthy")
        assert node.inspect("{{.State.Running}}") == "true"
    finally:
        set_loopback(room, node, up=True)
    node.until("healthy")


def set_loopback(room: Containers, node: Container, *, up: bool) -> None:
    """Have a container's loopback, or have it not, from a second one beside it."""
    beside = ("--network", f"container:{node.name}", "--entrypoint", "python")
    rights = ("--user", "0", "--cap-add", "NET_ADMIN")
    ran = room.run(*beside, *rights, words=("-c", SET_LOOPBACK, str(int(up))))
    assert ran.returncode == 0, ran.stderr


def test_arguments_are_those_of_derpd(room, tmp_path):
    """What is said after the image's name goes to `derpd`."""
    said = room.run("--network", "none", words=("--version",))
    assert (said.returncode, said.stdout) == (0, f"derpd {__version__}\n")
    options = ("--network", "none", *configured(tmp_path, NODE))
    said = room.run(*options, words=("--check-config",))
    assert (said.returncode, said.stdout) == (0, "configuration is valid\n")


def test_hup_has_files_read_again(room, tmp_path):
    """A list that cannot be used is complained of once, and again when told to read."""
    clients = tmp_path / "clients"
    clients.write_text(f"nodekey:{'7e' * 32}\n")
    tree = NODE | {"admission": {"key_file": "/etc/derpmesh/clients"}}
    options = (*HARDENED, *configured(tmp_path, tree), "--network", "none")
    mount = ("--volume", f"{clients}:/etc/derpmesh/clients:ro")
    state = ("--tmpfs", f"{STATE}:uid={USER},mode=0700")
    node = room.start(*options, *mount, *state)
    node.until_serving()
    clients.write_text("nonsense\n")
    complaint = "keys in use stay"
    node.until_said(complaint)
    node.signal("HUP")
    node.until_said(complaint, times=2)
    assert node.stop() == 0


async def test_stopping_sends_clients_elsewhere(room, tmp_path):
    """A packet is relayed; then TERM: a client is told, and the exit is a good one."""
    listen = ["127.0.0.1:0"]
    sections = ("derp", "http", "stun", "admin")
    tree = NODE | {name: {"listen": listen} for name in sections} | {"drain_grace": 5}
    tree |= {"admission": {"mode": "open"}, "node": {"name": "900a"}}
    options = (*HARDENED, *configured(tmp_path, tree), "--network", "host")
    state = ("--tmpfs", f"{STATE}:uid={USER},mode=0700")
    node = await asyncio.to_thread(room.start, *options, *state)
    await asyncio.to_thread(node.until_serving)
    entry = node.entry
    place = Place(entry["DERPPort"], 0, entry["STUNPort"], node.key)
    try:
        one, other = await place.login("one"), await place.login("other")
        await one.send(other, b"through a container")
        assert await other.packet() == (
            private_key("one").public,
            b"through a container",
        )
        ending = asyncio.create_task(asyncio.to_thread(node.stop))  # noqa: TID251
        await one.until(FrameType.RESTARTING)
        assert await ending == 0
    finally:
        await place.close()
    assert "stopped" in node.log.splitlines()[-1]


def test_recreated_five_times_it_is_the_same_node(room, tmp_path):
    """Key and pin are in the volume, and nothing else is."""
    options = (*HARDENED, *configured(tmp_path, NODE), "--network", "none")
    volume = ("--volume", f"{room.volume()}:{STATE}")
    seen = set()
    for _ in range(5):
        node = room.start(*options, *volume)
        node.until_serving()
        seen.add((node.key, node.entry["CertName"]))
        assert node.stop() == 0
        room.remove(node)
    assert len(seen) == 1


def test_the_mesh_key_is_made_in_it(room, tmp_path):
    """`derpctl` is there as well, and a fresh volume for keys belongs to the node."""
    keys = ("--volume", f"{room.volume()}:/etc/derpmesh/keys")
    making = ("--network", "none", "--entrypoint", "derpctl", *keys)
    made = room.run(*making, words=("key", "mesh", "generate", MESH_KEY))
    assert made.returncode == 0, made.stderr
    tree = NODE | {"mesh": {"key_file": MESH_KEY}}
    options = (*HARDENED, *configured(tmp_path, tree), "--network", "none", *keys)
    node = room.start(*options, "--tmpfs", f"{STATE}:uid={USER},mode=0700")
    node.until_serving()


# Bad input: one clear line for each problem, status 3, and no traceback.


def refused(ran: subprocess.CompletedProcess[str]) -> str:
    """Check that nothing was started; return the line that says why."""
    lines = ran.stderr.splitlines()
    ends = [line for line in lines if line.startswith("derpd: ")]
    assert ran.returncode == 3, ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ends) == 1, ran.stderr
    assert lines[-1] == ends[0]
    return ends[0]


FRESH = ("--network", "none", "--tmpfs", f"{STATE}:uid={USER},mode=0700")


def test_a_volume_that_it_may_not_write(room, tmp_path):
    """A folder of the host belongs to somebody else; the remedy is in the line."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    options = (*configured(tmp_path, NODE), "--network", "none")
    said = refused(room.run(*options, "--volume", f"{state}:{STATE}"))
    assert f"state_dir = '{STATE}" in said
    assert "let the user that runs derpd write to the directory" in said


def test_a_read_only_root_without_a_volume(room, tmp_path):
    """No identity that is lost with the container is made silently."""
    options = (*HARDENED, *configured(tmp_path, NODE), "--network", "none")
    assert "Read-only file system" in refused(room.run(*options))


def test_a_read_only_root_without_a_place_for_its_socket(room, tmp_path):
    """The admin socket's folder must be writable."""
    options = ("--read-only", *configured(tmp_path, NODE), *FRESH)
    assert "admin.socket = '/run/derpd/admin.sock'" in refused(room.run(*options))


@pytest.mark.parametrize("section", ["derp", "stun", "http", "admin"])
def test_a_port_in_use(room, tmp_path, section):
    """Which address it is, and the key that says so."""
    kind = socket.SOCK_DGRAM if section == "stun" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        tree = NODE | {"admission": {"mode": "open"}, "node": {"name": "900a"}}
        for name in ("derp", "http", "stun", "admin"):
            listen = address if name == section else "127.0.0.1:0"
            tree |= {name: {"listen": [listen]}}
        options = (*configured(tmp_path, tree), "--network", "host")
        state = ("--tmpfs", f"{STATE}:uid={USER},mode=0700")
        said = refused(room.run(*options, *state))
    assert said.startswith(f"derpd: {section}.listen = '{address}': ")
    assert "in use" in said


def test_too_few_open_files(room, tmp_path):
    """A limit that no node can live with."""
    options = (*configured(tmp_path, NODE), *FRESH, "--ulimit", "nofile=32:32")
    assert "nofile = 32: file descriptors for no client" in refused(room.run(*options))


def test_few_open_files_are_told(room, tmp_path):
    """It starts, and says what that means."""
    options = (*configured(tmp_path, NODE), *FRESH, "--ulimit", "nofile=256:256")
    node = room.start(*options)
    node.until_serving()
    node.until_said("file descriptors: at most 256, so at most 128 clients")


def test_no_mesh_key(room, tmp_path):
    """The file that is missing, and where to get it."""
    tree = NODE | {"mesh": {"key_file": MESH_KEY}}
    said = refused(room.run(*configured(tmp_path, tree), *FRESH))
    assert f"mesh.key_file = '{MESH_KEY}': no such file" in said


def test_a_secret_that_it_may_not_read(room, tmp_path):
    """A secret of root with mode 0600, as hosts have them."""
    key = tmp_path / "mesh.key"
    key.write_text("5a" * 32)
    key.chmod(0o600)
    tree = NODE | {"mesh": {"key_file": MESH_KEY}}
    mount = ("--volume", f"{key}:{MESH_KEY}:ro")
    said = refused(room.run(*configured(tmp_path, tree), *mount, *FRESH))
    assert f"mesh.key_file = '{MESH_KEY}': cannot be read: Permission denied" in said


def test_a_key_that_does_not_exist(room, tmp_path):
    """A key of the configuration that is written wrong; which one was meant."""
    tree = NODE | {"regoin": {"id": 900}}
    said = refused(room.run(*configured(tmp_path, tree), *FRESH))
    assert "regoin" in said
    assert "region" in said.replace("regoin", "")


def test_no_configuration_at_all(room):
    """An image that is run with nothing says what it wants."""
    said = refused(room.run(*FRESH))
    assert "Traceback" not in said


def test_no_etcd(room, tmp_path):
    """It starts without the registry, serves, and says that the registry is away."""
    (port,) = free_ports(1)
    keys = ("--volume", f"{room.volume()}:/etc/derpmesh/keys")
    making = ("--network", "none", "--entrypoint", "derpctl", *keys)
    room.run(*making, words=("key", "mesh", "generate", MESH_KEY))
    etcd = {"endpoints": [f"http://127.0.0.1:{port}"]}
    tree = NODE | {"mesh": {"key_file": MESH_KEY}, "registry": {"etcd": etcd}}
    node = room.start(*configured(tmp_path, tree), *FRESH, *keys, *QUICK)
    node.until_said("registry")
    node.until("healthy")
    assert "Traceback" not in node.log
