"""Compose projects of the files that are shipped, in the engine of the tests."""

import contextlib
import http.client
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.interop.region import Demo, Node, Region
from tests.load import node as load
from tests.support.peers import MissingTool


ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"

PATIENCE = 60.0
"""Seconds until something that must happen did not, on a machine that others use."""

IMAGE = "derpmesh:dev"

NODES = {"node-a": "900a", "node-b": "900b", "node-c": "900c"}
"""Services of compose.yaml that are relays, and what the map calls them."""

ETCDS = ("etcd-1", "etcd-2", "etcd-3")

PROJECT = "derpmesh-test"
"""Another name than in the files: somebody may run a region of his own here."""

LABEL = f"label=com.docker.compose.project={PROJECT}"
"""What everything that compose makes is found by."""

_NETWORK = "172.30.90"
_ADMIN_PORT = 9090
_LOOK = 0.05  # seconds between two looks


def said_by(page: str, mark: str) -> list[Block]:
    """Give the blocks of a page of ``docs/howto`` that have a mark, in order."""
    found = [
        block for block in blocks_of(ROOT / "docs/howto" / page) if block.mark == mark
    ]
    assert found, f"{page} has no block {mark}"
    return found


def require_engine() -> Mapping[str, str]:
    """Give the environment of a Docker engine, or skip."""
    from tests.support.engine import engine  # noqa: PLC0415 - it needs Docker

    try:
        return engine()
    except MissingTool as missing:
        pytest.skip(f"NOT RUN in containers: {missing}")


def docker(environment: Mapping[str, str], *words: str) -> str:
    """Run a command of docker, which must succeed; give what it prints."""
    done = attempt(environment, *words)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def attempt(
    environment: Mapping[str, str], *words: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of docker that may fail."""
    return subprocess.run(
        ["docker", *words],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def becomes(holds: Callable[[], bool], within: float = PATIENCE) -> float:
    """Wait until something holds; give the seconds that it took.

    Raises:
        AssertionError: It does not hold in time.
    """
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        assert waited < within, f"not within {within:g} s"
        time.sleep(_LOOK)
    return time.monotonic() - began


class Project:
    """A copy of the folder `compose`, and what runs by it.

    Args:
        environment: Of a Docker engine.
        folder: Where the copy is put.
        files: Those of compose that are laid over each other, in order.
    """

    def __init__(
        self, environment: Mapping[str, str], folder: Path, files: Sequence[str]
    ) -> None:
        self.folder = folder / "compose"
        shutil.copytree(COMPOSE, self.folder)
        self.environment = {
            **environment,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "DERPMESH_IMAGE": IMAGE,
            "DERP_NOFILE": "20000",
        }
        self.files = list(files)
        self.keys = folder / "keys"
        """The region's keys, once a relay was asked for something."""

        self._context: ssl.SSLContext | None = None

    # Commands.

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of docker compose that may fail."""
        files = [word for file in self.files for word in ("-f", file)]
        return attempt(self.environment, "compose", *files, *words, folder=self.folder)

    def compose(self, *words: str) -> str:
        """Run a command of docker compose, which must succeed; give what it prints."""
        done = self.run(*words)
        said = f"{' '.join(words)}: {done.stdout}{done.stderr}"
        assert done.returncode == 0, f"{said}\n{self._logs()}"
        return done.stdout

    def _logs(self) -> str:
        return self.run("logs", "--tail", "20").stdout

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run derpctl as the pages say."""
        return self.run("run", "--rm", "-T", "derpctl", *words)

    def follow(
        self, block: Block, *, also: Sequence[str] = (), paths: Mapping[str, str] = {}
    ) -> str:
        """Do what a block of a page says, in the folder; give what that prints.

        Args:
            block: Its commands; the first that fails ends it.
            also: Files that are laid over those which the commands name.
            paths: Where something is here that is elsewhere for readers.
        """
        over = "".join(f" -f {file}" for file in also)
        text = re.sub(r"( -f \S+)+", rf"\g<0>{over}", block.text)
        for printed, actual in paths.items():
            text = text.replace(printed, actual)
        done = subprocess.run(
            ["sh", "-e", "-c", text],
            env={
                **self.environment,
                "COMPOSE_FILE": ":".join(self.files),
                "PATH": f"{Path(sys.executable).parent}:{self.environment['PATH']}",
            },
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        return done.stdout

    def docker(self, *words: str) -> str:
        """Run a command of docker, which must succeed."""
        return docker(self.environment, *words)

    def inspect(self, service: str, form: str) -> str:
        """Give what the engine knows of a service's container."""
        return self.docker("inspect", "--format", form, container(service)).strip()

    # Networks.

    def networks(self, service: str) -> dict[str, str]:
        """Give the networks of a service, and the IP that it must have there if any."""
        text = self.inspect(service, "{{json .NetworkSettings.Networks}}")
        return {
            name: (one["IPAMConfig"] or {}).get("IPv4Address", "")
            for name, one in json.loads(text).items()
        }

    def cut_off(self, service: str) -> Callable[[], None]:
        """Take a service off all its networks; give what brings it back."""
        place = container(service)
        before = self.networks(service)
        for name in before:
            self.docker("network", "disconnect", name, place)

        def heal() -> None:
            for name, address in before.items():
                fixed = ("--ip", address) if address else ()
                alias = ("--alias", service)
                self.docker("network", "connect", *fixed, *alias, name, place)

        return heal

    # Relays.

    def address(self, service: str) -> str:
        """Give the IP address of a relay."""
        return f"{_NETWORK}.{11 + list(NODES).index(service)}"

    def ask(self, service: str, path: str) -> Mapping[str, object] | None:
        """Ask a relay's admin listener; None if it does not answer."""
        self._fetch_keys()
        token = (self.keys / "admin/token").read_text().strip()
        connection = http.client.HTTPSConnection(
            self.address(service), _ADMIN_PORT, timeout=2, context=self._context
        )
        with contextlib.closing(connection):
            try:
                headers = {"Authorization": f"Bearer {token}"}
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                body = response.read()
            except OSError:
                return None
        assert response.status == HTTPStatus.OK, f"{path}: {response.status} {body!r}"
        found: Mapping[str, object] = json.loads(body)
        return found

    def _fetch_keys(self) -> None:
        """Take the region's keys out of their volume."""
        if self._context is not None:
            return
        source = f"{container('node-a')}:/etc/derpmesh/keys/."
        self.keys.mkdir()
        self.docker("cp", source, str(self.keys))
        context = ssl.create_default_context(cafile=self.keys / "admin/ca.crt")
        context.check_hostname = False  # it is asked by its address
        self._context = context

    def links(self, service: str) -> dict[str, str]:
        """Give the state of each link of a relay, by peer; none if it is mute."""
        page = self.ask(service, "/v1/links")
        items = page["items"] if page else []
        assert isinstance(items, list)
        return {one["peer"]: one["state"] for one in items}

    def is_meshed(self, *services: str) -> bool:
        """Whether these relays are linked to each other."""
        names = {NODES[service] for service in services}
        return all(
            {n for n, state in self.links(one).items() if state == "up"} & names
            == names - {NODES[one]}
            for one in services
        )

    def is_content(self, service: str) -> bool:
        """Whether a relay serves, reads the registry, and has nothing to note."""
        node = self.ask(service, "/v1/node")
        membership = self.ask(service, "/v1/membership")
        return (
            node is not None
            and membership is not None
            and (node["state"], node["notes"]) == ("serving", [])
            and membership["source"] == "etcd"
        )

    def settle(self) -> float:
        """Wait until all is as it should be; give the seconds that it took."""
        return becomes(
            lambda: self.is_meshed(*NODES) and all(map(self.is_content, NODES))
        )

    def logged(self, service: str) -> list[Mapping[str, str]]:
        """Give what a relay has logged, line by line."""
        done = attempt(self.environment, "logs", container(service))
        lines = (done.stdout + done.stderr).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, service: str, start: str, since: datetime) -> datetime | None:
        """When a relay first logged a message that begins so, after a moment."""
        for line in self.logged(service):
            at = datetime.fromisoformat(line["timestamp"])
            if at >= since and line["message"].startswith(start):
                return at
        return None

    # For those who send packets.

    def region(self, folder: Path) -> Region:
        """Describe the region as the drivers of Go's clients are told of one."""
        self._fetch_keys()
        derp_map = json.loads(self.ctl("map", "export", "-f", "derpmap").stdout)
        (region,) = derp_map["Regions"].values()
        nodes: list[Node] = []
        for entry in region["Nodes"]:
            entry.setdefault("DERPPort", 443)
            nodes.append(
                {
                    "name": entry["Name"],
                    "host": entry["HostName"],
                    "derp_port": 443,
                    "http_port": 80,
                    "stun_port": 3478,
                    "pin": entry["CertName"],
                    "admin": "",
                    "pid": 0,
                }
            )
        map_file, document = folder / "map.json", folder / "region.json"
        map_file.write_text(json.dumps(derp_map))
        demo: Demo = {
            "region": 900,
            "mesh_key_file": str(self.keys / "mesh.key"),
            "derp_map_file": str(map_file),
            "ca_file": None,
            "nodes": nodes,
        }
        document.write_text(json.dumps(demo))
        return Region(document, demo)

    def loaded(self, service: str) -> load.Node:
        """Describe a relay as the load generator is told of one."""
        return load.Node(
            address=f"{self.address(service)}:443",
            admin="",
            pin="",
            pid=int(self.inspect(service, "{{.State.Pid}}")),
            log_file=Path(f"{NODES[service]}.log"),
        )


def container(service: str) -> str:
    """Name the container of a service, as compose does."""
    return f"{PROJECT}-{service}-1"


@contextlib.contextmanager
def project(
    environment: Mapping[str, str], folder: Path, files: Sequence[str]
) -> Iterator[Project]:
    """Prepare a project; what runs by it ends with the block, and leaves nothing."""
    found = Project(environment, folder, files)
    try:
        yield found
    finally:
        found.run("--profile", "*", "down", "--volumes", "--timeout", "1")
        left = found.docker("volume", "ls", "--quiet", "--filter", LABEL).split()
        if left:  # of files that a test did not come to
            attempt(environment, "volume", "rm", *left)


def now() -> datetime:
    """Give the time, as logs have it."""
    return datetime.now(UTC)
