"""The page on containers, read by somebody who does what it says."""

import os
import subprocess

import pytest

from tests.docs.blocks import blocks_of
from tests.install.containers import Container, containers
from tests.support.docs import ROOT
from tests.support.engine.project import IMAGE


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

PAGE = ROOT / "docs/howto/docker.md"


@pytest.fixture
def room():
    """Where the containers of the page are."""
    with containers() as made:
        yield made


class Reader:
    """Follows the page in a folder that stands for the machine's own."""

    def __init__(self, room, folder):
        self.environment = room.environment
        self.name = room.name()
        self._folder = folder
        self._changes = {
            "install -d -m 0700 -o 65532 -g 65532 /etc/derpmesh": (
                f"install -d -m 0700 -o 65532 -g 65532 {folder}"
            ),
            "-v /etc/derpmesh:": f"-v {folder}:",
            "derpd-state": room.volume(),
            "--name derpd": f"--name {self.name}",
            "' derpd)": f"' {self.name})",
            # The engine of tests has no network of its own, and publishes no ports.
            "-p 443:443 -p 80:80 -p 3478:3478/udp": "--network none",
            "  derpmesh key": f"  {IMAGE} key",
            ":ro derpmesh --check": f":ro {IMAGE} --check",
            "derpctl.yaml derpmesh": f"derpctl.yaml {IMAGE}",
            **{
                f"docker {verb} derpd": f"docker {verb} {self.name}"
                for verb in ("logs", "exec", "stop", "rm")
            },
        }

    def write(self, block):
        """Save a file under the name in its first line."""
        name = block.text.splitlines()[0].removeprefix("# /etc/derpmesh/")
        (self._folder / name).write_text(block.text)

    def run(self, block):
        """Type the commands; the first that fails ends it."""
        text = block.text
        for printed, here in self._changes.items():
            text = text.replace(printed, here)
        said = subprocess.run(
            ["sh", "-e", "-c", text],
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert said.returncode == 0, f"{block}: {said.stdout}"
        return said.stdout


def test_whoever_does_what_it_says_has_a_node(room, tmp_path):
    """It becomes healthy, answers, stops well, and is the same node afterwards."""
    if os.geteuid() != 0:
        pytest.skip("only root gives a folder to another user; run the tests as root")
    reader = Reader(room, tmp_path)
    (tmp_path / "clients").write_text(f"nodekey:{'7e' * 32}\n")
    tmp_path.chmod(0o755)
    said = []
    entries = []
    for block in blocks_of(PAGE):
        if block.mark in {"yaml derpd", "yaml docker"}:
            reader.write(block)
        elif block.mark == "sh docker":
            if "docker stop" in block.text:
                container = Container(room.environment, reader.name)
                container.until_serving()
                entries.append(container.entry)
            said.append(reader.run(block))
            if "docker run -d" in block.text:
                start = block
    assert "configuration is valid" in said[0]
    assert any("region 900 Home" in text and "serving" in text for text in said)
    reader.run(start)
    container = Container(room.environment, reader.name)
    container.until_serving()
    assert [*entries, container.entry] == entries * 2
    assert container.stop() == 0
