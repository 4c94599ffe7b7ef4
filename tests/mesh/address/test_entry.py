"""The program, as the first container of a pod runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from derpmesh.config import load_daemon_config


ENVIRONMENT = {
    "POD_NAME": "derp-0",
    "POD_NAMESPACE": "net",
    "POD_IP": "10.244.1.7",
    "NODE_NAME": "metal-1",
    "HOST_IP": "192.0.2.1",
}

TEMPLATE = {
    "region": {"id": 901},
    "admission": {"urls": ["https://headscale.example.com/verify"]},
    "admin": {"listen": []},
}


class Folder:
    """What is mounted into the container."""

    def __init__(self, path: Path) -> None:
        self.template = path / "derpd.yaml.in"
        self.settings = path / "address.yaml"
        self.output = path / "run" / "derpd.yaml"
        self.tree = {
            "template": str(self.template),
            "output": str(self.output),
            "sources": ["hosts", "hostIP"],
            "admin_host": "{pod}.derp-nodes.net.svc",
        }
        self.write(TEMPLATE)

    def write(self, template: object) -> None:
        self.template.write_text(yaml.safe_dump(template))

    def run(self, *, environ: dict[str, str] = ENVIRONMENT, **more: object):
        """Run it; returns its end, with what it said."""
        self.settings.write_text(yaml.safe_dump({**self.tree, **more}))
        command = [sys.executable, "-m", "derpmesh.address.entry", str(self.settings)]
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, check=False
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Mount what the chart mounts."""
    return Folder(tmp_path)


def test_what_it_writes_is_what_derpd_reads(folder: Folder):
    """Nothing of the template is lost."""
    ended = folder.run()
    assert ended.stderr.splitlines() == [
        "derpd-address: hosts: nothing there",
        "derpd-address: 192.0.2.1: from hostIP",
    ]
    assert (ended.returncode, ended.stdout) == (0, "")
    found = load_daemon_config(folder.output, {})
    assert found.node.host == "192.0.2.1"
    assert found.admin.host == "derp-0.derp-nodes.net.svc"
    assert found.region.id == 901
    assert found.admission.urls == ["https://headscale.example.com/verify"]
    assert folder.output.stat().st_mode & 0o777 == 0o644


def test_both_families(folder: Folder):
    """The map has both."""
    folder.run(hosts={"metal-1": "203.0.113.1,2001:db8::1"})
    found = load_daemon_config(folder.output, {})
    assert found.node.host == "203.0.113.1"
    assert (found.node.ipv4, str(found.node.ipv6)) == (None, "2001:db8::1")


def test_what_is_configured_is_kept(folder: Folder):
    """No source is asked where the operator says it himself."""
    folder.write({**TEMPLATE, "node": {"host": "203.0.113.9"}, "admin": {"host": "a"}})
    ended = folder.run(sources=["loadBalancer"])
    assert ended.stderr == "derpd-address: node.host: as configured\n"
    tree = yaml.safe_load(folder.output.read_text())
    assert (tree["node"]["host"], tree["admin"]["host"]) == ("203.0.113.9", "a")


def test_a_pod_without_a_name_of_its_own_is_found_by_its_address(folder: Folder):
    """Pods of a DaemonSet; CoreDNS answers to that."""
    folder.run(admin_host="{ip}.derp-nodes.net.svc")
    tree = yaml.safe_load(folder.output.read_text())
    assert tree["admin"]["host"] == "10-244-1-7.derp-nodes.net.svc"


@pytest.mark.parametrize(
    ("more", "status", "line"),
    [
        (
            {"sources": ["loadBalancer"]},
            4,
            "address.sources: there is no cluster here to ask; "
            "run it in a pod, or name other sources",
        ),
        (
            {"sources": ["hosts"]},
            4,
            "address.sources: none of hosts has an address; "
            "say it in address.hosts, or name another source",
        ),
        (
            {"sources": ["moon"]},
            3,
            "sources.0 = 'moon': Value error, 'moon' is not a valid SourceName; "
            "correct the file",
        ),
        (
            {"template": "/nowhere"},
            3,
            "file = '/nowhere': cannot be read: No such file or directory; "
            "name a file of YAML that can be read",
        ),
        (
            {"output": "/proc/derpd.yaml", "hosts": {"0": "203.0.113.1"}},
            3,
            "output = '/proc/derpd.yaml': cannot be written: No such file or "
            "directory; mount a folder there",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Folder, more: dict[str, object], status: int, line: str
):
    """And never half of a file."""
    ended = folder.run(**more)
    assert ended.stderr.splitlines()[-1] == f"derpd-address: {line}"
    assert ended.returncode == status
    assert not folder.output.exists()


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("- a list", "not a mapping of keys; name a file of YAML that can be read"),
        ("a: [", "not YAML: "),
        ("node: 900a", "node = '900a': not a mapping of keys"),
    ],
)
def test_a_template_that_is_none(folder: Folder, template: str, line: str):
    """It is said which file it is, or which key."""
    folder.template.write_text(template)
    ended = folder.run()
    assert line in ended.stderr
    assert ended.returncode == 3


def test_outside_of_a_pod(folder: Folder):
    """It does not guess who it is."""
    ended = folder.run(environ={})
    assert ended.stderr == (
        "derpd-address: POD_NAME = None: not set; "
        "set it by the downward API: metadata.name\n"
    )
    assert ended.returncode == 3
