"""What a demo writes before it starts anything."""

import socket
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from derpctl.authority import Authority
from derpctl.config import load_ctl_config
from derpctl.demo.choices import Tls
from derpctl.demo.plan import Options, lock, make_plan
from derpctl.demo.ports import Ports, are_free, free_ports
from derpctl.errors import CtlError
from derpctl.exits import Exit


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """One pinned node on loopback."""
    return Options(
        nodes=1,
        region=900,
        directory=tmp_path,
        bind="127.0.0.1",
        tls=Tls.PINNED,
        settings=(),
    )


def test_pinned(options: Options, tmp_path: Path):
    """A configuration that derpd takes, whole."""
    plan = make_plan(options)
    (node,) = plan.nodes
    derp, http, stun, admin = node.ports
    assert yaml.safe_load(node.config_file.read_text()) == {
        "node": {
            "name": "900a",
            "host": "127.0.0.1",
            "ipv4": "127.0.0.1",
            "ipv6": "none",
        },
        "region": {"id": 900, "code": "demo", "name": "derpmesh demo"},
        "state_dir": f"{tmp_path}/900a",
        "derp": {"listen": [f"127.0.0.1:{derp}"]},
        "http": {"listen": [f"127.0.0.1:{http}"]},
        "stun": {"listen": [f"127.0.0.1:{stun}"]},
        "tls": {"mode": "self-signed"},
        "admission": {"mode": "open"},
        "mesh": {"key_file": f"{tmp_path}/mesh.key"},
        "registry": {"file": f"{tmp_path}/region.yaml"},
        "admin": {
            "listen": [f"127.0.0.1:{admin}"],
            "socket": f"{tmp_path}/900a.sock",
        },
        "log": {"format": "json"},
    }
    assert node.admin == f"http://127.0.0.1:{admin}"
    assert (node.name, node.log_file) == ("900a", tmp_path / "900a.log")
    assert plan.ca_file is None


def test_derpctl_config(options: Options):
    """Derpctl reads what was written for it."""
    plan = make_plan(replace(options, nodes=3, tls=Tls.CA))
    found = load_ctl_config(plan.derpctl_config)
    assert [node.name for node in found.nodes] == ["900a", "900b", "900c"]
    assert [node.admin for node in found.nodes] == [node.admin for node in plan.nodes]
    assert found.ca_file == plan.ca_file


def test_mesh_key_is_kept(options: Options):
    """It is secret, made once, and belongs to the directory."""
    plan = make_plan(options)
    assert stat.S_IMODE(plan.mesh_key_file.stat().st_mode) == 0o600
    assert make_plan(options).mesh_key.text() == plan.mesh_key.text()
    plan.mesh_key_file.write_text("junk")
    with pytest.raises(CtlError, match=r"mesh\.key: holds no mesh key; remove it, and"):
        make_plan(options)


def test_authority(options: Options):
    """Its certificate is good for localhost and the address; its key is nowhere."""
    plan = make_plan(replace(options, tls=Tls.CA))
    (node,) = plan.nodes
    assert node.config.tls_mode == "files"
    assert node.config.node.host == "localhost"
    assert stat.S_IMODE((options.directory / "900a.key").stat().st_mode) == 0o600
    assert plan.ca_file is not None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(
        options.directory / "900a.crt", options.directory / "900a.key"
    )
    client = ssl.create_default_context(cafile=plan.ca_file)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it
    for name in ("localhost", "127.0.0.1"):
        assert handshake(client, server, name) is None


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Shake hands in memory; raise what the client raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    front = client.wrap_bio(down, up, server_hostname=name)
    back = server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (front, back):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    front.do_handshake()


def test_certificates_last():
    """Derpprobe alarms a week before the end: a month at least must be left."""
    found = ssl.PEM_cert_to_DER_cert(
        Authority().issue(["localhost"]).certificate.decode()
    )
    assert found


def test_ipv6(options: Options):
    """Addresses have brackets where there is a port."""
    (node,) = make_plan(replace(options, bind="::1")).nodes
    tree = yaml.safe_load(node.config_file.read_text())
    assert tree["derp"]["listen"] == [f"[::1]:{node.ports.derp}"]
    assert (tree["node"]["ipv4"], tree["node"]["ipv6"]) == ("none", "::1")


def test_overrides(options: Options):
    """They count for what is checked, and leave the file as it is."""
    settings = ["admin.listen=[]", "limits.connections=7"]
    (node,) = make_plan(replace(options, settings=settings)).nodes
    assert node.config.limits.connections == 7
    assert node.admin == f"unix:{options.directory}/900a.sock"
    assert "limits" not in node.config_file.read_text()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("limits.x=1", "limits.x = "),
        ("limits.connections=x", "limits.connections = 'x': input should be a valid "),
        ("stun.listen=[x]", "stun.listen.0 = "),
    ],
)
def test_bad_overrides(options: Options, setting: str, message: str):
    """Checked like the file."""
    with pytest.raises(CtlError) as found:
        make_plan(replace(options, settings=[setting]))
    assert str(found.value).startswith(message)
    assert found.value.exit is Exit.CONFIG


def test_ports_are_remembered(options: Options):
    """A directory that is used again gives the same addresses, if it can."""
    (first,) = make_plan(options).nodes
    (again,) = make_plan(options).nodes
    assert again.ports == first.ports
    (fresh,) = make_plan(options, fresh_ports=True).nodes
    assert fresh.ports != first.ports
    with socket.create_server(("127.0.0.1", fresh.ports.derp)):
        (other,) = make_plan(options).nodes
    assert other.ports != fresh.ports
    first.config_file.write_text("admin: {listen: []}\nadmission: {mode: open}\n")
    assert make_plan(options).nodes


def test_ports():
    """All differ; an address of somebody else is refused."""
    found = free_ports("127.0.0.1", 4)
    assert len({port for ports in found for port in ports}) == 16
    assert are_free("127.0.0.1", found[0])
    assert not are_free("192.0.2.1", Ports(1, 2, 3, 4))
    with pytest.raises(
        CtlError, match=r"^--bind = 192\.0\.2\.1: cannot assign requested"
    ):
        free_ports("192.0.2.1", 1)


def test_long_directory(options: Options, tmp_path: Path):
    """The path of a socket must be short; then it is elsewhere."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    (node,) = make_plan(replace(options, directory=deep)).nodes
    path = node.config.admin_socket
    assert len(str(path)) <= 107
    assert path.name.startswith("derpctl-")


def test_lock(tmp_path: Path):
    """One demo in a directory at a time; it is made if it is not there."""
    directory = tmp_path / "a" / "b"
    with lock(directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        with pytest.raises(CtlError) as found:
            lock(directory)
    assert str(found.value) == (
        f"--dir = {directory}: another demo runs in it; "
        "stop that one, or give another directory"
    )
    assert found.value.exit is Exit.REFUSED
    lock(directory).close()


def test_directory_that_cannot_be_used(options: Options, tmp_path: Path):
    """Said before anything is started."""
    (tmp_path / "file").touch()
    with pytest.raises(CtlError, match=r"file: file exists; give a directory that can"):
        lock(tmp_path / "file")
    (tmp_path / ".mesh.key.new").mkdir()
    with pytest.raises(
        CtlError, match=r"mesh\.key: is a directory; make room, or check"
    ):
        make_plan(options)
