"""Containers of a test, run with the docker command and removed with the test."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from derpnode.wire.keys import NodeKey, parse_node_key
from tests.support.engine import NoEngine, engine
from tests.support.engine.client import DockerFailed, docker
from tests.support.engine.project import IMAGE


PATIENCE = 60
"""Seconds for whatever a container is to do, on a machine that is busy."""

HARDENED = (
    *("--read-only", "--tmpfs", "/run/derpd"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
"""All that the image can do without."""

_NODE_KEY = re.compile(r"nodekey:[0-9a-f]{64}")
_ENTRY = re.compile(r"for the DERP map: (\{.*\})$")


class Container:
    """One container, as the docker command shows it."""

    def __init__(self, environment: Mapping[str, str], name: str) -> None:
        self.environment = environment
        self.name = name

    def inspect(self, form: str) -> str:
        """Ask for a part of what the engine knows of it."""
        return docker(self.environment, "inspect", "--format", form, self.name)

    @property
    def log(self) -> str:
        """What it wrote so far, to both streams."""
        return subprocess.run(
            ["docker", "logs", self.name],
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        ).stdout

    @property
    def health(self) -> str:
        """One of `starting`, `healthy`, `unhealthy`."""
        return self.inspect("{{.State.Health.Status}}")

    def until(self, health: str) -> None:
        """Wait until its health is this."""
        since = str(int(datetime.now(UTC).timestamp()))
        words = ["events", "--since", since, "--filter", f"container={self.name}"]
        with self._lines(*words, "--filter", "event=health_status") as lines:
            while self.health != health:
                assert self.inspect("{{.State.Running}}") == "true", self.log
                assert next(lines, None), f"still {self.health}: {self.log}"

    def until_said(self, text: str, times: int = 1) -> str:
        """Wait until it logs a text so many times; return the line."""
        with self._lines("logs", "--follow", self.name) as lines:
            for line in lines:
                times -= text in line
                if not times:
                    return line
        pytest.fail(f"it does not say {text!r}: {self.log}")

    def until_serving(self) -> None:
        """Wait until the node takes clients."""
        self.until_said(": serving")

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        with self._lines("wait", self.name) as lines:
            return int(next(lines))

    def stop(self) -> int:
        """Stop it as the engine does by default, 10 s before a KILL."""
        docker(self.environment, "stop", self.name)
        return self.wait()

    def signal(self, name: str) -> None:
        """Send its first process a signal."""
        docker(self.environment, "kill", "--signal", name, self.name)

    def execute(self, *words: str) -> str:
        """Run a command in it; return what it printed."""
        return docker(self.environment, "exec", self.name, *words)

    @property
    def key(self) -> NodeKey:
        """What clients know the node by, as it logged it."""
        return parse_node_key(_NODE_KEY.findall(self.log)[0])

    @property
    def entry(self) -> dict[str, object]:
        """What it logged for the DERP map."""
        messages = [_message(line) for line in self.log.splitlines()]
        found = next(filter(None, map(_ENTRY.search, messages)))
        return dict(json.loads(found[1]))

    @contextmanager
    def _lines(self, *words: str) -> Iterator[Iterator[str]]:
        """Read what a docker command prints, for as long as we are patient."""
        with subprocess.Popen(
            ["timeout", str(PATIENCE), "docker", *words],
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                yield iter(process.stdout)
            finally:
                process.terminate()


def _message(line: str) -> str:
    try:
        return str(json.loads(line).get("message", ""))
    except ValueError:
        return line


class Containers:
    """What a test makes of containers and volumes; `close` removes all of it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._containers: list[str] = []
        self._volumes: list[str] = []

    def start(self, *options: str, words: tuple[str, ...] = ()) -> Container:
        """Start one of the image, and leave it running.

        Args:
            options: Of ``docker run``.
            words: For the program in it.
        """
        name = self.name()
        labels = ("--name", name, "--detach")
        docker(self.environment, "run", *labels, *options, IMAGE, *words)
        return Container(self.environment, name)

    def run(
        self, *options: str, words: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the image to its end."""
        return subprocess.run(
            ["docker", "run", "--rm", *options, IMAGE, *words],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def name(self) -> str:
        """Give a name for a container that somebody else starts."""
        name = _free_name()
        self._containers.append(name)
        return name

    def volume(self) -> str:
        """Make a volume; return its name."""
        name = _free_name()
        docker(self.environment, "volume", "create", name)
        self._volumes.append(name)
        return name

    def remove(self, container: Container) -> None:
        """Remove one now, and whatever it has but volumes with a name."""
        docker(self.environment, "rm", "--force", "--volumes", container.name)
        self._containers.remove(container.name)

    def close(self) -> None:
        """Remove everything that is left."""
        if self._containers:
            with suppress(DockerFailed):  # one may be gone already
                words = ("rm", "--force", "--volumes")
                docker(self.environment, *words, *self._containers)
        if self._volumes:
            docker(self.environment, "volume", "rm", "--force", *self._volumes)


def _free_name() -> str:
    return f"derpmesh-test-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def containers() -> Iterator[Containers]:
    """Give a room for containers; skips where there is no engine."""
    try:
        environment = engine()
    except NoEngine as exc:
        pytest.skip(str(exc))
    made = Containers(environment)
    try:
        yield made
    finally:
        made.close()
