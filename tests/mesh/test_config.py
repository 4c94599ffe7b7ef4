"""What `derpd` is told beside the settings of a node."""

import subprocess
import sys

import pytest

from derpmesh.config import load_daemon_config
from derpnode.config import InvalidConfig


OPEN = ("derp.listen=['127.0.0.1:0']", "admission.mode=open")
KEY = "mesh.key_file=/etc/derpmesh/mesh.key"
FILE = "registry.file=/etc/derpmesh/region.yaml"
HINT = "see docs/reference/configuration.md"


def load(*settings):
    """Read the settings of a node on loopback, and these."""
    return load_daemon_config(None, {}, [*OPEN, *settings])


def problems(*settings) -> list[str]:
    """Say what is wrong with settings."""
    with pytest.raises(InvalidConfig) as caught:
        load(*settings)
    return [str(problem) for problem in caught.value.problems]


def test_node_alone_needs_no_mesh():
    """Nothing of it is set."""
    found = load()
    assert (found.registry.file, found.mesh.peers) == (None, [])


def test_region_in_a_file():
    """The path is kept as it is."""
    assert str(load(KEY, FILE).registry.file) == "/etc/derpmesh/region.yaml"


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        (FILE, "registry.file", "'/etc/derpmesh/region.yaml'"),
        (
            "registry.etcd.endpoints=['https://a.example.com:2379']",
            "registry.etcd.endpoints",
            "\"['https://a.example.com:2379']\"",
        ),
        ("mesh.peers=[{url: 'https://old.example.com'}]", "mesh.peers", '"[MeshPeer('),
    ],
)
def test_mesh_without_a_key(setting, name, value):
    """Nobody would let such a node in."""
    [problem] = problems(setting)
    assert problem.startswith(f"{name} = {value}")
    assert problem.endswith(
        ": nodes mesh only with a key they share; "
        "set mesh.key_file; `derpctl key mesh generate` makes one"
    )


def test_other_problems_are_told_as_well():
    """Those of a node."""
    found = problems("tls.mode=self-signed", "node.host=derp.example.com", FILE)
    assert [problem.split(" = ")[0] for problem in found] == [
        "tls.mode",
        "registry.file",
    ]


def test_admission_without_a_source():
    """The region's list of clients is one, where there is a registry."""
    assert problems("admission.mode=any")[0].startswith("admission = ")
    assert load("admission.mode=any", KEY, FILE).admission.sources == 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://", "no host in it"),
        ("https://:443", "no host in it"),
        ("https://old.example.com:99999", "port out of range 0-65535"),
        (
            "https://old.example.com:https",
            "port could not be cast to integer value as 'https'",
        ),
        ("https://[::1", "invalid IPv6 URL"),
    ],
)
def test_regression_url_that_cannot_be_dialled(url, reason):
    """It is refused at the start. Before, it ended the node when links were opened."""
    assert problems(KEY, f"mesh.peers=[{{url: '{url}'}}]") == [
        f"mesh.peers.0.url = {url!r}: {reason}; {HINT}"
    ]


@pytest.mark.parametrize(
    "url",
    ["https://old.example.com", "http://10.0.0.1:8080", "https://[::1]:8443/derp"],
)
def test_url_that_can_be_dialled(url):
    """With a port or without."""
    assert load(KEY, f"mesh.peers=[{{url: '{url}'}}]").mesh.peers[0].url == url


def test_unknown_registry():
    """It is named."""
    [problem] = problems(KEY, "registry.consul=x")
    assert problem.startswith("registry.consul = ")


# etcd


ETCD = "registry.etcd.endpoints=['https://a.example.com:2379']"
LOCAL = "registry.etcd.endpoints=['http://127.0.0.1:2379']"


def test_region_in_etcd():
    """One endpoint is enough; nothing else must be said."""
    found = load(KEY, ETCD).registry.etcd
    assert found is not None
    assert (found.endpoints, found.prefix, found.ttl) == (
        ["https://a.example.com:2379"],
        "/derpmesh/v1",
        15,
    )
    assert (found.user, found.password_file, found.ca_file) == (None, None, None)


def test_etcd_from_the_environment():
    """Its keys have variables like all others."""
    environ = {
        "DERPD_MESH__KEY_FILE": "/k",
        "DERPD_REGISTRY__ETCD__ENDPOINTS": "[https://a:2379, 'https://[::1]:2379/']",
        "DERPD_REGISTRY__ETCD__TTL": "30",
    }
    found = load_daemon_config(None, environ, OPEN).registry.etcd
    assert found is not None
    assert (len(found.endpoints), found.ttl) == (2, 30)


def test_members_in_two_places():
    """One of them must go; with etcd and without."""
    assert problems(KEY, FILE, ETCD) == [
        "registry.file = '/etc/derpmesh/region.yaml': the members are recorded in etcd "
        "as well, and one place must count; "
        "keep registry.file or registry.etcd, and remove the other"
    ]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("a.example.com:2379", "not an http:// or https:// URL with a host"),
        ("https://:2379", "not an http:// or https:// URL with a host"),
        ("https://a.example.com", "no port in it"),
        ("https://a.example.com:0", "no port in it"),
        ("https://a:99999", "not a URL: Port out of range 0-65535"),
        ("https://[::1", "not a URL: Invalid IPv6 URL"),
        ("https://a:2379/v3", "there is something after its port"),
        ("https://a:2379?x=1", "there is something after its port"),
    ],
)
def test_endpoint_that_cannot_be_asked(url, reason):
    """It is named by its place in the list."""
    assert problems(KEY, f"registry.etcd.endpoints=['https://b:1', '{url}']") == [
        f"registry.etcd.endpoints.1 = {url!r}: {reason}; "
        "write http://HOST:2379 or https://HOST:2379"
    ]


def test_password_in_an_endpoint_is_not_printed():
    """It has a file of its own."""
    said = problems("registry.etcd.endpoints=['https://root:secret@a:2379']")
    assert [problem.split(": ", 1)[0] for problem in said] == [
        "registry.etcd.endpoints.0 = 'https://…@a:2379'",
        "registry.etcd.endpoints = \"['https://…@a:2379']\"",
    ]
    assert "it holds a user; those belong to registry.etcd.user" in said[0]
    assert "secret" not in str(said)


LOGIN = ("registry.etcd.user=node", "registry.etcd.password_file=/p")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_password_in_the_clear_on_this_machine(host):
    """Nobody else reads it."""
    load(KEY, f"registry.etcd.endpoints=['http://{host}:2379']", *LOGIN)


@pytest.mark.parametrize("host", ["10.0.0.1", "a.example.com", "[2001:db8::1]"])
def test_password_in_the_clear_on_the_network(host):
    """It is refused; without a password, plain HTTP may be."""
    url = f"http://{host}:2379"
    load(KEY, f"registry.etcd.endpoints=['{url}']")
    assert problems(KEY, f"registry.etcd.endpoints=['{url}']", *LOGIN) == [
        f"registry.etcd.endpoints.0 = {url!r}: the password would cross the network in "
        "the clear; write https://, or an address of this machine"
    ]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("user", "password_file"),
        ("password_file", "user"),
        ("certificate", "key"),
        ("key", "certificate"),
    ],
)
def test_half_of_a_pair(given, missing):
    """Each is of no use alone."""
    assert problems(KEY, ETCD, f"registry.etcd.{given}=/x") == [
        f"registry.etcd.{given} = '/x': it goes together with {missing}; "
        f"set registry.etcd.{missing} as well, or neither"
    ]


def test_trust_without_tls():
    """It would check nothing."""
    [problem] = problems(KEY, LOCAL, "registry.etcd.ca_file=/ca.pem")
    assert problem == (
        "registry.etcd.ca_file = '/ca.pem': no endpoint is https://, so it would not "
        "be used; write https:// in registry.etcd.endpoints, or remove it"
    )


@pytest.mark.parametrize("prefix", ["derpmesh", "/derpmesh/", "/", "/derp mesh", "/ü"])
def test_prefix_that_is_no_path(prefix):
    """Keys would lie where nobody looks for them."""
    [problem] = problems(KEY, ETCD, f"registry.etcd.prefix={prefix}")
    assert problem.startswith(f"registry.etcd.prefix = {prefix!r}: not a path")


@pytest.mark.parametrize(
    ("setting", "start"),
    [
        ("registry.etcd.endpoints=[]", "registry.etcd.endpoints = []: "),
        ("registry.etcd.ttl=4", "registry.etcd.ttl = 4: "),
        ("registry.etcd.password=x", "registry.etcd.password = '…': unknown key; did"),
    ],
)
def test_setting_of_etcd_that_cannot_be_used(setting, start):
    """It is named, and the value of an unknown key is not shown."""
    [problem] = problems(KEY, ETCD, setting)
    assert problem.startswith(start)


def test_etcd_without_endpoints():
    """There is no default: nobody's etcd is where we would look."""
    [problem] = problems(KEY, "registry.etcd={}")
    assert problem.startswith("registry.etcd.endpoints = None: field required")


def test_import_of_the_daemon_leaves_etcd3_alone():
    """It costs 30 MB, and most nodes never need it."""
    code = "import sys, derpmesh.daemon; print('etcd3' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True) == "False\n"
