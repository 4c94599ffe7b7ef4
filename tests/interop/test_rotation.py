"""The mesh key is replaced in a region that stock derper is a member of."""

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from derpnode.wire.keys import MeshKey
from tests.interop.conftest import run_check
from tests.interop.region import Server, ask
from tests.interop.relays import Meshed, Relay, eventually, meshed


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]

OURS = ("900b", "900c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where everything is kept."""
    return tmp_path / "region"


class Operator:
    """Who rotates: derpctl, the new key, and the derper that must follow."""

    def __init__(self, found: Meshed, folder: Path) -> None:
        self.found = found
        self.derper = found.relays["900a"]
        self.old = MeshKey.parse((folder / "mesh.key").read_text())
        self.file = folder / "new.key"
        self.new = MeshKey(secrets.token_bytes(32))
        self.file.touch(0o600)
        self.file.write_text(self.new.text())
        self._config = folder / "derpctl.yaml"
        nodes = [{"name": n, "admin": found.relays[n].node["admin"]} for n in OURS]
        self._config.write_text(yaml.safe_dump({"region": 900, "nodes": nodes}))
        for name in OURS:  # as on machines of their own
            self._part(found.relays[name], folder / "mesh.key")

    @staticmethod
    def _part(relay: Relay, shared: Path) -> None:
        own, config = relay.folder / "mesh.key", relay.folder / "derpd.yaml"
        own.touch(0o600)
        own.write_text(shared.read_text())
        tree = yaml.safe_load(config.read_text())
        tree["mesh"]["key_file"] = str(own)
        config.write_text(yaml.safe_dump(tree))

    def rotate(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `derpctl key mesh rotate`."""
        command = [sys.executable, "-m", "derpctl", "--config", self._config, "key"]
        options = ["--key-file", self.file, *words]
        return subprocess.run(
            [*command, "mesh", "rotate", *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def restart_derper(self) -> None:
        """Give it the new key, which it reads when it starts."""
        command = list(self.derper.command)
        command[command.index("-mesh-psk-file") + 1] = self.file
        self.derper.command = command
        self.derper.stop()
        self.derper.start()
        self.derper.await_ready()
        self.found.write()

    def link_keys(self) -> set[str]:
        """The keys that our links to derper prove, by fingerprint."""
        found = set()
        for name in OURS:
            items = json.loads(ask(self.found.relays[name].node, "/v1/links") or "")
            for link in items["items"]:
                if not link["is_member"] and link["state"] == "up":
                    found.add(link["mesh_key"])
        return found

    def await_derper_by(self, key: MeshKey) -> None:
        """Wait until both of our nodes are linked to derper with this key."""
        what = f"links to derper with {key.fingerprint()}"
        eventually(lambda: self.link_keys() == {key.fingerprint()}, what)
        self.found.await_links()

    def hold(self) -> None:
        """Packets of all sizes pass between all nodes, derper included."""
        verdicts = run_check(self.found.region, "1.104", "sizes", "--every-pair")
        assert len(verdicts) == 9
        failed = [verdict for verdict in verdicts if not verdict["ok"]]
        assert not failed, json.dumps(failed, indent=1)


@pytest.mark.parametrize("server", ["derper-1.102", "derper-1.104"])
def test_derper_follows_after_the_switch(built: None, folder: Path, server: Server):
    """It is linked with the old key until it is restarted, and nobody forgets it."""
    with meshed([server, "ours", "ours"], folder, "ca", start=False) as found:
        operator = Operator(found, folder)
        found.start()
        operator.hold()
        ended = operator.rotate("--until", "switch")
        assert ended.returncode == 0, ended.stderr
        operator.await_derper_by(operator.old)
        operator.hold()
        ended = operator.rotate()
        assert ended.returncode == 6
        reason = f"the link takes {operator.old.fingerprint()} only, which is to go"
        assert f"900b to https://{operator.derper.address}: {reason}" in ended.stderr
        operator.hold()
        operator.restart_derper()
        operator.await_derper_by(operator.new)
        ended = operator.rotate()
        assert ended.returncode == 0, ended.stderr
        operator.hold()
        for key in (operator.old, operator.new):
            for relay in found.relays.values():
                if relay.is_ours:
                    assert key.text() not in relay.log.read_text()


@pytest.mark.parametrize("server", ["derper-1.102", "derper-1.104"])
def test_derper_goes_first(built: None, folder: Path, server: Server):
    """Restarted while the new key is staged, it is linked with that from then on."""
    with meshed([server, "ours", "ours"], folder, "ca", start=False) as found:
        operator = Operator(found, folder)
        found.start()
        ended = operator.rotate("--until", "stage")
        assert ended.returncode == 0, ended.stderr
        operator.await_derper_by(operator.old)
        operator.restart_derper()
        operator.await_derper_by(operator.new)
        operator.hold()
        ended = operator.rotate()
        assert ended.returncode == 0, ended.stderr
        assert operator.link_keys() == {operator.new.fingerprint()}
        operator.hold()
