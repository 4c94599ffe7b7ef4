"""`derpctl migrate env`: from what starts a container to a configuration."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest


DERPD = Path(sys.executable).with_name("derpd")

ENV = """\
# camllia/derper
export HOSTNAME=203.0.113.10
CERT_MODE="manual"

VERIFY_CLIENTS='true'
EMPTY=
NOT_SET
"""

MADE = """\
# derpd.yaml, made by derpctl migrate env.
# node.name (900a) and region (900) are the defaults: make them those of your map.
# Its place in the DERP map has the pin of its certificate: derpd --print-node says it.
node:
  host: 203.0.113.10
tls:
  mode: self-signed
admission:
  tailscaled:
  - /var/run/tailscale/tailscaled.sock
"""

COMPOSE = """\
services:
  web:
    image: nginx
  derper:
    image: ${IMAGE:-fredliang/derper:latest}
    environment:
      DERP_DOMAIN: derp.example.net
      DERP_CERT_MODE: manual
      DERP_VERIFY_CLIENTS: true
      DERP_STUN_PORT: 3479
"""

AS_LIST = """\
services:
  derper:
    image: camllia/derper
    environment:
      - HOSTNAME=203.0.113.10
      - VERIFY_CLIENT_URL=$URL
      - FROM_THE_SHELL
"""


@pytest.fixture
def migrate(derpctl, tmp_path):
    """Run the command on a file with this text."""

    def run(text, *words, name="file"):
        path = tmp_path / name
        path.write_text(text)
        return derpctl("migrate", "env", path, *words)

    return run


def test_env_file(migrate, tmp_path):
    """To the letter; and `derpd` accepts it."""
    ended = migrate(ENV)
    assert (ended.code, ended.out) == (0, MADE)
    assert ended.err.splitlines() == [
        "derpctl: HOSTNAME: node.host",
        "derpctl: CERT_MODE: tls.mode: copy 203.0.113.10.crt and .key from"
        " /root/derper-certs to /var/lib/derpd to keep the pin",
        "derpctl: VERIFY_CLIENTS: admission.tailscaled",
    ]
    path = tmp_path / "derpd.yaml"
    path.write_text(ended.out)
    said = subprocess.run(
        [DERPD, "--check-config", "--config", path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "configuration is valid\n"


def test_compose_file(migrate):
    """Values are what compose makes of them; the image tells the family."""
    ended = migrate(COMPOSE)
    assert ended.code == 0
    assert ended.out.splitlines()[2] == (
        '# In the DERP map: {"Name": "900a", "RegionID": 900, "HostName":'
        ' "derp.example.net", "STUNPort": 3479}'
    )
    assert "derpctl: DERP_VERIFY_CLIENTS: admission.tailscaled\n" in ended.err
    assert migrate(COMPOSE, "--service", "derper") == ended


def test_compose_file_with_a_list(migrate):
    """What only the shell knows is named, and is for somebody to set."""
    ended = migrate(AS_LIST)
    assert ended.code == 9
    assert "host: 203.0.113.10\n" in ended.out
    assert "derpctl: VERIFY_CLIENT_URL: its value is given where it" in ended.err


def test_json(migrate):
    """For programs: the configuration, the place, and what was said."""
    found = json.loads(migrate(COMPOSE, "-o", "json").out)
    assert found["kind"] == "Migration"
    assert found["configuration"]["node"] == {"host": "derp.example.net"}
    assert found["mapEntry"]["HostName"] == "derp.example.net"
    assert found["refusals"] == []
    assert {"variable": "DERP_STUN_PORT", "text": "stun.listen"} in found["remarks"]


INSPECTED = [
    {
        "Name": "/derper",
        "Config": {
            "Hostname": "3f2a9c01d2e4",
            "Image": "camllia/derper",
            "Env": ["PATH=/bin", "HOSTNAME=203.0.113.10", "STUN_PORT=3479"],
        },
    }
]


def test_inspected(migrate):
    """The variables of a container as Docker tells them."""
    ended = migrate(json.dumps(INSPECTED))
    assert ended.code == 0
    assert "listen:\n  - :3479\n" in ended.out


def test_the_hostname_that_docker_gave(migrate):
    """Though it looks like one that clients could dial."""
    text = json.dumps(INSPECTED).replace("3f2a9c01d2e4", "203.0.113.10")
    ended = migrate(text)
    assert ended.code == 9
    assert "HOSTNAME: nothing says what clients dial" in ended.err


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put a program called docker on PATH."""

    def install(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / "docker"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return folder

    return install


def test_a_container(derpctl, docker):
    """Docker is asked for it by name, and never by a shell."""
    folder = docker('echo "$@" > "$(dirname "$0")/asked"\ncat "$(dirname "$0")/said"')
    (folder / "said").write_text(json.dumps(INSPECTED))
    ended = derpctl("migrate", "env", "--container", "-x; y")
    assert ended.code == 0
    assert (folder / "asked").read_text() == "inspect --type container -- -x; y\n"


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("echo 'Error: No such container: x' >&2; exit 1", 5, "No such container: x"),
        ("echo 'Cannot connect to the daemon' >&2; exit 1", 4, "Cannot connect"),
        ("exit 1", 4, "docker says nothing"),
        ("echo x", 7, "not JSON"),
        ("echo '[]'", 7, "no container is in it"),
        ("echo '[1]'", 7, "no container is in it"),
    ],
)
def test_docker_that_does_not_help(derpctl, docker, script, code, message):
    """Each in its words, and with its exit code."""
    docker(script)
    ended = derpctl("migrate", "env", "--container", "x")
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err


def test_no_docker(derpctl, monkeypatch):
    """A file from elsewhere does as well."""
    monkeypatch.setenv("PATH", "/none")
    ended = derpctl("migrate", "env", "--container", "x")
    assert (ended.code, ended.out) == (3, "")
    assert "docker is not on PATH" in ended.err


@pytest.mark.parametrize(
    ("text", "words", "code", "message"),
    [
        ("PATH=/bin\n", [], 5, "no variable of an image that we know is in it"),
        ("a secret\n", [], 7, "line 1: not NAME=VALUE"),
        ("[", [], 7, "not JSON"),
        (COMPOSE, ["--service", "x"], 5, "there are: web, derper"),
        (COMPOSE.replace("nginx", "camllia/derper"), [], 2, "several relays: web, der"),
        (ENV, ["--container", "x"], 2, "give one of the two"),
    ],
)
def test_what_is_no_relay(migrate, text, words, code, message):
    """Said, and nothing is on stdout; nor is what may be a secret."""
    ended = migrate(text, *words)
    assert (ended.code, ended.out) == (code, "")
    assert message in " ".join(ended.err.split())
    assert "a secret" not in ended.err


def test_nothing_to_read(derpctl):
    """Neither a file nor a container."""
    assert derpctl("migrate", "env").code == 2
