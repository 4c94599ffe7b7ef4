"""`derpctl demo`: with fakes that fail, and with the real derpd."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from derpctl.demo import children
from derpnode.client import ClientTls, connect
from derpnode.wire.keys import PrivateKey
from tests.ctl.demo.fakes import fake_daemon


ROOT = Path(__file__).parents[3]
ONE = ("demo", "--nodes", "1")


@pytest.fixture(autouse=True)
def _roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Children find our packages, and put temporary files where we look."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("node", "mesh", "ctl"))
    monkeypatch.setenv("PYTHONPATH", roots)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))


def is_gone(pid: int) -> bool:
    """Tell whether a process is no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# With fakes.


def test_node_that_dies(derpctl, monkeypatch, tmp_path: Path):
    """Its exit status and the end of its log; the files are kept for reading."""
    fake_daemon(monkeypatch, tmp_path, "dies")
    ended = derpctl(*ONE)
    (kept,) = (tmp_path / "tmp").iterdir()
    assert (ended.code, ended.out) == (10, "")
    assert ended.err == (
        "derpctl: starting 900a\n"
        f"derpctl: its files are kept in {kept}\n"
        "derpctl: 900a: ended with exit status 7 before it was ready; "
        f"the end of its log, {kept}/900a.log:\n"
        "  fake dies\n"
        "  settings\n"
    )


def test_node_gets_overrides_and_no_settings(derpctl, monkeypatch, tmp_path: Path):
    """`--set` is passed on; our own environment does not override its file."""
    fake_daemon(monkeypatch, tmp_path, "dies")
    monkeypatch.setenv("DERPD_REGION__ID", "7")
    directory = tmp_path / "d"
    ended = derpctl(*ONE, "--dir", directory, "--set", "limits.connections=7")
    assert "  fake dies --set limits.connections=7\n  settings\n" in ended.err
    assert "are kept" not in ended.err
    again = derpctl(*ONE, "--dir", directory)
    assert "limits.connections" not in again.err  # the log of this run alone


@pytest.mark.parametrize(
    ("how", "reason"),
    [("unready", "no certificate"), ("hangs", "connection refused")],
)
def test_node_that_never_is_ready(derpctl, monkeypatch, tmp_path, how, reason):
    """11 after the deadline, with what was missing; it is stopped."""
    fake_daemon(monkeypatch, tmp_path, how)
    monkeypatch.setattr(children, "READY_WITHIN", 4.0)
    ended = derpctl(*ONE, "--dir", tmp_path / "d")
    assert (ended.code, ended.out) == (11, "")
    assert f"900a: not ready in 4 s: {reason}; the end of its log" in ended.err


def test_port_that_somebody_took(derpctl, monkeypatch, tmp_path: Path):
    """Other ports are tried; the proof then fails, as a fake relays nothing."""
    fake_daemon(monkeypatch, tmp_path, "port-taken")
    ended = derpctl(*ONE, "--dir", tmp_path / "d")
    assert "derpctl: 900a: somebody took its ports; trying others\n" in ended.err
    assert "derpctl: ready: 900a\n" in ended.err
    assert (ended.code, ended.out) == (10, "")
    assert "the proof: tcp: " in ended.err


def test_log_that_cannot_be_read(tmp_path: Path):
    """The reason is shown in place of it."""
    plan = type("Plan", (), {"log_file": tmp_path / "none"})
    child = children.Child(plan, None, 0)
    assert child.tail() == "(No such file or directory)"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--nodes", "0"], 2, "--nodes = 0: "),
        (["--bind", "x"], 2, "--bind = x: not an IP address; give an IP address that"),
        (["--bind", "::"], 2, "--bind = ::: nobody can dial it; give an IP address"),
        (["--bind", "192.0.2.1"], 2, "--bind = 192.0.2.1: cannot assign requested"),
        (["--set", "x"], 2, "--set = x: there is no = in it; write KEY=VALUE"),
        (["--set", "x=1"], 3, ": unknown key; the keys here are admin, admission, "),
        (["--region", "65536"], 2, "Invalid value for '--region'"),
        (["--tls", "x"], 2, "Invalid value for '--tls'"),
        (["--registry", "zk"], 2, "Invalid value for '--registry'"),
        (["--etcd", "http://127.0.0.1:2379"], 2, "add --registry etcd"),
        (["--dir", "/proc/x"], 2, "--dir = /proc/x: no such file or directory; give"),
    ],
)
def test_bad_options(derpctl, tmp_path: Path, arguments, code, message):
    """Nothing is started, nothing is left."""
    ended = derpctl(*ONE, *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert "starting" not in ended.err
    assert list((tmp_path / "tmp").iterdir()) == []


# Held, as a process of its own.


class Held:
    """A demo that is held."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "derpctl", *ONE, "--hold", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def document(self) -> dict[str, object]:
        """Read the one line that it prints."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str, float]:
        """Stop it; give exit code, the rest of both outputs, and how long it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err, time.monotonic() - started


@contextlib.contextmanager
def held(*arguments: object) -> Iterator[Held]:
    """Hold a demo, and leave nothing behind."""
    found = Held(*arguments)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.end(signal.SIGINT)
        found.process.stdout.close()
        found.process.stderr.close()


def test_interrupted_while_it_starts(monkeypatch, tmp_path: Path):
    """130, at once, with nothing left."""
    fake_daemon(monkeypatch, tmp_path, "hangs")
    with held("-o", "json") as demo:
        assert demo.process.stderr.readline() == "derpctl: starting 900a\n"
        time.sleep(0.3)
        code, out, err, took = demo.end(signal.SIGINT)
    assert (code, out, err) == (130, "", "")
    assert took < 5
    assert list((tmp_path / "tmp").iterdir()) == []


def test_deaf_node_is_killed(monkeypatch, tmp_path: Path):
    """All is over in five seconds, whatever a node makes of SIGTERM."""
    fake_daemon(monkeypatch, tmp_path, "deaf")
    with held("-o", "json") as demo:
        document = demo.document()
        code, _, _, took = demo.end()
    assert (code, took < 5) == (0, True)
    assert is_gone(document["nodes"][0]["pid"])


def test_contract(tmp_path: Path):
    """The document of a held demo: one line, absolute paths, everything usable."""
    directory = tmp_path / "d"
    with held("-o", "json", "--dir", directory, "--region", 901) as demo:
        document = demo.document()
        (node,) = document.pop("nodes")
        assert document == {
            "apiVersion": "derpctl/v1",
            "kind": "Demo",
            "region": 901,
            "dir": str(directory),
            "derpctl_config": f"{directory}/derpctl.yaml",
            "mesh_key_file": f"{directory}/mesh.key",
            "derp_map_file": f"{directory}/derp_map.json",
            "ca_file": None,
        }
        ports = [node.pop(key) for key in ("derp_port", "http_port", "stun_port")]
        pid, pin, admin = node.pop("pid"), node.pop("pin"), node.pop("admin")
        assert node == {
            "name": "901a",
            "host": "127.0.0.1",
            "config": f"{directory}/901a.yaml",
            "log": f"{directory}/901a.log",
        }
        assert len(set(ports)) == 3
        assert re.fullmatch(r"sha256-raw:[0-9a-f]{64}", pin)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", admin)
        derp_map = json.loads((directory / "derp_map.json").read_text())
        assert derp_map["Regions"]["901"]["Nodes"][0]["CertName"] == pin
        os.kill(pid, 0)
        code, out, err, took = demo.end(signal.SIGINT)
    assert (code, out) == (0, "")
    assert err == "derpctl: starting 901a\nderpctl: ready: 901a\n"
    assert took < 5
    assert is_gone(pid)
    assert directory.is_dir()


def test_other_commands(derpctl, tmp_path: Path):
    """`derpctl --config` talks to a held demo; a directory in use is refused."""
    directory = tmp_path / "d"
    with held("-o", "json", "--dir", directory) as demo:
        document = demo.document()
        config = document["derpctl_config"]
        ended = derpctl("--config", config, "status")
        assert (ended.code, ended.err) == (0, "")
        assert "region 900 derpmesh demo · healthy · serving 1/1" in ended.out
        ended = derpctl("--config", config, "map", "export", "-f", "derpmap")
        assert ended.out == Path(document["derp_map_file"]).read_text()
        ended = derpctl("--config", config, "probe", "node", "900a")
        assert (ended.code, ended.err) == (0, "")
        for layer in ("fast-start", "relay", "captive-portal", "stun4"):
            assert re.search(rf"^{layer} +ok ", ended.out, re.MULTILINE)
        ended = derpctl(*ONE, "--dir", directory)
        assert (ended.code, ended.out) == (6, "")


async def test_ca(tmp_path: Path):
    """Tools that know no pins trust the CA, by name."""
    directory = tmp_path / "d"
    with held("-o", "json", "--dir", directory, "--tls", "ca") as demo:
        document = demo.document()
        (node,) = document["nodes"]
        assert (node["host"], node["pin"]) == ("localhost", "")
        assert document["ca_file"] == f"{directory}/ca.crt"
        tls = ClientTls(ca_file=Path(document["ca_file"]))
        private = PrivateKey(bytes([7]) * 32)
        options = {"private": private, "tls": tls, "addresses": ["127.0.0.1"]}
        async with connect("localhost", node["derp_port"], **options) as client:
            assert await client.ping() > 0


def test_node_that_is_killed(derpctl, tmp_path: Path):
    """It is reported, not restarted, and does not end the demo."""
    with held("-o", "json", "--dir", tmp_path / "d") as demo:
        document = demo.document()
        (node,) = document["nodes"]
        os.kill(node["pid"], signal.SIGKILL)
        for _ in range(2):
            assert demo.process.stderr.readline().startswith("derpctl: ")
        assert demo.process.stderr.readline() == (
            f"derpctl: 900a (pid {node['pid']}): ended with signal 9; "
            f"its log is {node['log']}\n"
        )
        ended = derpctl("--config", document["derpctl_config"], "status")
        assert (ended.code, "900a  dead" in ended.out) == (10, True)
        assert demo.process.poll() is None
        assert demo.end()[0] == 0


def test_held_pages(tmp_path: Path):
    """For people: the node, the map, and what to do now; then a word on each."""
    with held("--dir", tmp_path / "d") as demo:
        for line in demo.process.stderr:
            if "map export -f headscale" in line:
                break
        code, out, _, _ = demo.end()
    assert code == 0
    assert out.startswith("NODE  HOST")
    assert '"derpMap": {' in out
    assert "Round trips" not in out


# To the end.

PAGES = """\
NODE HOST DERP HTTP STUN PID ADMIN
900a 127.0.0.1 N N N N http://127.0.0.1:N

Round trips, there and back; 618 packets compared:
FROM TO MEDIAN 95 %
900a client 1 900a client 2 T T
900a client 1 900a client 3 T T
900a client 2 900a client 1 T T
900a client 2 900a client 3 T T
900a client 3 900a client 1 T T
900a client 3 900a client 2 T T
900a client 1 node T T
900a client 2 node T T
900a client 3 node T T

The map, for a Tailscale policy file:
// DERP map of region 900, revision R.
// The member below belongs at the top level of the policy file.
{
"derpMap": {
"OmitDefaultRegions": false,
"Regions": {
"900": {
"RegionID": 900,
"RegionCode": "demo",
"RegionName": "derpmesh demo",
"Nodes": [
// pinned: another certificate needs another map
{"Name": "900a", "RegionID": 900, "HostName": "127.0.0.1", "CertName": "PIN", \
"IPv4": "127.0.0.1", "IPv6": "none", "STUNPort": N, "DERPPort": N},
],
},
},
},
}
"""

TALK = """\
derpctl: starting 900a
derpctl: ready: 900a
derpctl: sending packets between 3 clients
Next:
  derpctl demo --hold                keep one up, and point clients at it
  derpctl demo --hold --dir DIR      the same, with its files in DIR
  derpd --config FILE                a node for others to use
"""


def masked(text: str) -> str:
    """Hide what differs between runs, and how wide it is."""
    for pattern, mask in (
        (r"sha256-raw:[0-9a-f]{64}", "PIN"),
        (r"revision [0-9a-f]{12}", "revision R"),
        (r"\d{4}-\d\d-\d\d", "DATE"),
        (r"\d+\.\d\d ms", "T"),
        (r"\b(?!900\b|618\b)\d{2,6}\b(?!\.0\.0\.1| %)", "N"),
        (r"[ \t]+", " "),
    ):
        text = re.sub(pattern, mask, text)
    return "\n".join(line.strip() for line in text.split("\n"))


def test_demo(derpctl, tmp_path: Path):
    """The whole output; nothing is left of it."""
    ended = derpctl(*ONE)
    assert (ended.code, masked(ended.out), ended.err) == (0, PAGES, TALK)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_demo_document(derpctl, tmp_path: Path):
    """One line, with the proof; ports stay those of the directory."""
    directory = tmp_path / "d"
    ended = derpctl(*ONE, "-o", "json", "--dir", directory)
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    first = json.loads(ended.out)
    assert first["proof"]["packets"] == 618
    assert is_gone(first["nodes"][0]["pid"])
    again = json.loads(derpctl(*ONE, "-o", "json", "--dir", directory).out)
    assert again["nodes"][0]["derp_port"] == first["nodes"][0]["derp_port"]
    assert again["nodes"][0]["pin"] == first["nodes"][0]["pin"]


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_demo_on_ipv6(derpctl):
    """Another address of loopback, and no STUN."""
    ended = derpctl(*ONE, "-o", "json", "--bind", "::1", "--set", "stun.enabled=false")
    (node,) = json.loads(ended.out)["nodes"]
    assert (ended.code, node["host"], node["stun_port"]) == (0, "::1", None)
    ended = derpctl(*ONE, "--set", "stun.enabled=false")
    assert ended.code == 0


def test_demo_that_admits_nobody(derpctl, tmp_path: Path):
    """The proof comes with the mesh right where strangers are refused."""
    keys = tmp_path / "keys"
    keys.write_text("# nobody\n")
    closed = ["--set", "admission.mode=any", "--set", f"admission.key_file={keys}"]
    assert derpctl(*ONE, *closed).code == 0
