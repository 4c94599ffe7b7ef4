"""`derpctl init`: what it writes is taken by the real `derpd`, and by derpctl."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.mesh.stewards import running_etcd


BIN = Path(sys.executable).parent
LIMIT = 30.0


@pytest.fixture
def folder():
    """A folder with a short name: Unix sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="init-") as found:
        yield Path(found)


@pytest.fixture
def init(derpctl, folder):
    """Run it without a terminal, with both places in the folder."""

    def run(*words):
        own = ("--config", folder / "derpctl.yaml")
        return derpctl(*own, "init", "--dir", folder / "etc", *words)

    return run


@contextmanager
def node(folder, **settings):
    """Run the real `derpd` on what was written, on ports that are free."""
    free = '["127.0.0.1:0"]'
    ports = {f"DERPD_{one}__LISTEN": free for one in ("DERP", "HTTP", "STUN", "ADMIN")}
    environ = {**os.environ, **ports, **settings}
    command = [BIN / "derpd", "--config", folder / "etc/derpd.yaml"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environ, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0, (folder / "log").read_text()


def healthy(derpctl, folder):
    """Have derpctl ask the node until it serves."""
    end = time.monotonic() + LIMIT
    ended = derpctl("--config", folder / "derpctl.yaml", "status")
    while ended.code and time.monotonic() < end:
        time.sleep(0.1)
        ended = derpctl("--config", folder / "derpctl.yaml", "status")
    return ended


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_node_on_an_address(init, derpctl, folder):
    """One answer is enough; the node starts, and derpctl finds it."""
    etc = folder / "etc"
    ended = init("--yes", "--host", "127.0.0.1")
    assert ended == (
        0,
        f"written: {etc}/mesh.key\nwritten: {etc}/clients\nwritten: {etc}/region.yaml\n"
        f"written: {etc}/derpd.yaml\nwritten: {folder}/derpctl.yaml\nnext:\n"
        f"  derpd --config {etc}/derpd.yaml\n"
        f"  derpctl --config {folder}/derpctl.yaml status\n"
        f"  derpctl --config {folder}/derpctl.yaml map export\n",
        f"derpctl: list your clients in {etc}/clients: it admits nobody yet\n"
        f"derpctl: every node of the region needs a copy of {etc}/mesh.key\n",
    )
    words = [BIN / "derpd", "--check-config", "--config", etc / "derpd.yaml"]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert said.stdout == "configuration is valid\n"
    assert [
        one["name"]
        for one in yaml.safe_load((etc / "region.yaml").read_text())["nodes"]
    ] == ["900a"]
    with node(folder):
        shown = healthy(derpctl, folder)
        assert shown.code == 0, shown
        exported = derpctl("--config", folder / "derpctl.yaml", "map", "show")
        assert exported.out.splitlines()[1].split()[:3] == ["900", "home", "900a"]


def test_modes(init, folder):
    """Secrets are for their owner, the rest for a group at most."""
    old = os.umask(0)
    try:
        assert init("--yes", "--host", "203.0.113.10").code == 0
    finally:
        os.umask(old)
    etc = folder / "etc"
    assert mode(etc / "mesh.key") == 0o600
    assert mode(etc) == 0o750
    for name in ("etc/clients", "etc/derpd.yaml", "etc/region.yaml", "derpctl.yaml"):
        assert mode(folder / name) == 0o640, name


def test_nothing_is_overwritten(init, folder):
    """The file is named, and none is written."""
    path = folder / "derpctl.yaml"
    path.write_text("mine")
    ended = init("--yes", "--host", "203.0.113.10")
    assert (ended.code, ended.out) == (6, "")
    assert ended.err.startswith(f"derpctl: {path}: it is there already; ")
    assert [one.name for one in folder.iterdir()] == ["derpctl.yaml"]
    assert path.read_text() == "mine"


def test_force_keeps_what_others_go_by(init, folder):
    """Configurations are replaced; the mesh key and both lists are not."""
    assert init("--yes", "--host", "203.0.113.10").code == 0
    names = ("mesh.key", "clients", "region.yaml")
    before = {name: (folder / "etc" / name).read_text() for name in names}
    ended = init("--yes", "--force", "--host", "203.0.113.11", "-o", "json")
    found = json.loads(ended.out)
    assert [Path(one).name for one in found["files"]] == ["derpd.yaml", "derpctl.yaml"]
    assert [Path(one).name for one in found["kept"]] == list(names)
    assert before == {name: (folder / "etc" / name).read_text() for name in names}
    assert "host: 203.0.113.11" in (folder / "etc/derpd.yaml").read_text()
    assert "derpd --print-node" in ended.err


def test_everything_by_options(init, folder):
    """A domain, two ways to be admitted, a name, and the region's key."""
    assert init("--yes", "--host", "203.0.113.10").code == 0
    key = (folder / "etc/mesh.key").rename(folder / "mesh.key")
    for path in [*(folder / "etc").glob("*.*"), folder / "derpctl.yaml"]:
        path.unlink()
    words = "--region 901 --code fra --name Frankfurt --host derp.example.net"
    words += " --admit tailscaled:/run/ts.sock --admit https://h.example.net/verify"
    words += f" --registry file --node 901c --mesh-key-file {key}"
    ended = init(*words.split())
    assert ended.code == 0
    tree = yaml.safe_load((folder / "etc/derpd.yaml").read_text())
    assert tree["node"] == {"name": "901c", "host": "derp.example.net"}
    assert tree["region"] == {"id": 901, "code": "fra", "name": "Frankfurt"}
    assert tree["admission"] == {
        "tailscaled": ["/run/ts.sock"],
        "urls": ["https://h.example.net/verify"],
    }
    assert tree["mesh"] == {"key_file": str(key)}
    assert f"derp.example.net: {folder}/etc/derp.example.net.crt" in ended.err
    assert "derpd --print-node" in ended.err


@pytest.mark.interop
def test_a_node_in_etcd(init, derpctl, folder, tmp_path):
    """It records itself, and derpctl asks the registry."""
    with running_etcd(tmp_path) as etcd:
        ended = init("--yes", "--host", "127.0.0.1", "--registry", etcd.url)
        assert ended.code == 0
        assert not (folder / "etc/region.yaml").exists()
        with node(folder):
            assert healthy(derpctl, folder).code == 0
            shown = derpctl("--config", folder / "derpctl.yaml", "map", "show")
            assert shown.out.splitlines()[1].split()[2] == "900a"


def test_loopback_may_be_open(init, folder):
    """Only there, and there it listens nowhere else."""
    assert init("--yes", "--host", "::1", "--admit", "everybody").code == 0
    tree = yaml.safe_load((folder / "etc/derpd.yaml").read_text())
    assert tree["derp"] == {"listen": ["[::1]:443"]}
    assert tree["admission"] == {"mode": "open"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, "--region, --code, --name, --host, --admit, --registry: missing"),
        ("--yes", 2, "--host: missing, and there is nobody to ask"),
        ("--yes --host 1.2.3.4 --admit everybody", 6, "carries strangers' traffic"),
        ("--yes --host derp.example.net --admit everybody", 6, "carries strangers'"),
        ("--yes --host 1.2.3.4 --admit me", 2, "--admit me: nobody is called so"),
        ("--yes --host 1.2.3.4 --code A", 2, "--code A: no code"),
        ("--yes --host a:443", 2, "node.host: not a DNS name or an IP address"),
        ("--yes --host 1.2.3.4 --registry x", 2, "registry.etcd.endpoints.0"),
        ("--yes --host 1.2.3.4 --mesh-key-file /none", 3, "no such file"),
    ],
)
def test_what_cannot_be(init, folder, words, code, message):
    """Said before anything is written."""
    ended = init(*words.split())
    assert (ended.code, ended.out) == (code, "")
    assert message in " ".join(ended.err.split())
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(derpctl, folder):
    """In words, not in a traceback."""
    (folder / "etc").write_text("")
    own = ("--config", folder / "derpctl.yaml")
    words = ("init", "--yes", "--host", "203.0.113.10", "--dir", folder / "etc/x")
    ended = derpctl(*own, *words)
    assert (ended.code, ended.out) == (3, "")
    assert "cannot be written: not a directory" in ended.err


def test_five_questions(folder):
    """On a terminal; what cannot be read is asked again, and Enter is what is usual."""
    lines = ["901 fra", "901 fra Frankfurt am Main", "https://x", "203.0.113.10"]
    lines += ["", "", f"{folder}/etc"]
    command = [BIN / "derpctl", "--config", folder / "derpctl.yaml", "init"]
    ours, theirs = pty.openpty()
    try:
        os.write(ours, "".join(f"{line}\n" for line in lines).encode())
        said = subprocess.run(
            command,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    tree = yaml.safe_load((folder / "etc/derpd.yaml").read_text())
    assert tree["region"] == {"id": 901, "code": "fra", "name": "Frankfurt am Main"}
    assert tree["node"] == {"name": "901a", "host": "203.0.113.10"}
    assert tree["admission"] == {"key_file": f"{folder}/etc/clients"}
    assert "without scheme and port" in said.stderr
    assert said.stderr.count(": ") >= len(lines)
    assert said.stdout.startswith("written: ")


def test_a_terminal_that_hangs_up(folder):
    """No answer comes, so nothing is written."""
    command = [BIN / "derpctl", "--config", folder / "derpctl.yaml", "init"]
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"\x04")  # Ctrl-D
        said = subprocess.run(
            command,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.endswith("Aborted!\n")
    assert list(folder.iterdir()) == []
