"""What the variables of other images become, family by family."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.config import DaemonConfig
from derpmesh.images import FAMILIES, family_of, map_entry, translate
from derpmesh.images.families import FLAGS


DERPD = Path(sys.executable).with_name("derpd")

XAVIER = {
    "HOSTNAME": "203.0.113.10",
    "ADDR": ":8443",
    "HTTP_PORT": "-1",
    "RUN_STUN": "true",
    "STUN_PORT": "3479",
    "CERT_MODE": "manual",
    "CERT_DIR": "derper-certs",
    "VERIFY_CLIENTS": "true",
    "VERIFY_CLIENT_URL": "https://headscale.example.net/verify",
    "VERIFY_FAIL_OPEN": "true",
    "MESH_WITH": "203.0.113.10,b.example.net,c.example.net/198.51.100.7",
    "MESH_PSKFILE": "/run/mesh.key",
    "CONFIG_PATH": "/var/lib/derper/derper.key",
    "DEV": "false",
    "VERSION_FLAG": "false",
    "RUN_DERP": "true",
    "FLAGHOME": "blank",
    "SECRETS_URL": "https://setec.example.net",
    "SECRETS_PREFIX": "prod/derp",
    "SECRETS_CACHEDIR": "/var/cache",
    "BOOTSTRAP_DNS": "a.example.net, b.example.net",
    "UNPUBLISHED_DNS": "c.example.net",
    "SOCKET": "/run/tailscaled.sock",
    "ACCEPT_CONNECTION_LIMIT": "+Inf",
    "ACCEPT_CONNECTION_BURST": "100",
    "TCP_KEEPALIVE_TIME": "10m0s",
    "TCP_USER_TIMEOUT": "15s",
    "TCP_WRITE_TIMEOUT": "500ms",
}

TREE = {
    "node": {"host": "203.0.113.10"},
    "derp": {"listen": [":8443"], "home": "blank"},
    "http": {"enabled": False},
    "stun": {"listen": [":3479"]},
    "state_dir": "/var/lib/derpd",
    "tls": {"mode": "self-signed"},
    "admission": {
        "tailscaled": ["/run/tailscaled.sock"],
        "urls": ["https://headscale.example.net/verify"],
    },
    "mesh": {
        "key_file": "/run/mesh.key",
        "peers": [
            {"url": "https://b.example.net"},
            {"url": "https://c.example.net", "dial": "198.51.100.7:443"},
        ],
    },
    "limits": {
        "accept_rate": 0,
        "accept_burst": 100,
        "tcp_keepalive": 600.0,
        "tcp_user_timeout": 15.0,
        "write_timeout": 0.5,
    },
    "bootstrap_dns": {"names": ["a.example.net", "b.example.net"]},
}


NOTHING = ({}, [], [])


def accepted(tree, folder):
    """Have the real `derpd` read it."""
    path = folder / "derpd.yaml"
    path.write_text(yaml.safe_dump(tree))
    words = [str(DERPD), "--check-config", "--config", str(path)]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    return said.stdout + said.stderr


def test_every_variable_of_camllia(tmp_path):
    """All of them at once, to the letter."""
    found = translate(XAVIER)
    assert found.tree == TREE
    assert accepted(found.tree, tmp_path) == "configuration is valid\n"
    assert {one.variable for one in found.refusals} == {
        "VERIFY_FAIL_OPEN",
        "SECRETS_URL",
        "UNPUBLISHED_DNS",
        "VERIFY_CLIENT_URL",
    }
    assert {one.variable for one in (*found.remarks, *found.refusals)} == set(XAVIER)


SAMPLES = {
    "fredliang/derper": {
        "DERP_DOMAIN": "derp.example.net",
        "DERP_ADDR": ":443",
        "DERP_HTTP_PORT": "80",
        "DERP_STUN": "true",
        "DERP_STUN_PORT": "3478",
        "DERP_CERT_MODE": "letsencrypt",
        "DERP_CERT_DIR": "/app/certs",
        "DERP_VERIFY_CLIENTS": "false",
        "DERP_VERIFY_CLIENT_URL": "http://127.0.0.1:8080/verify",
        "DERP_VERIFY_CLIENT_URL_FAIL_OPEN": "false",
    },
    "yangchuansheng/ip_derper": {
        "DERP_HOST": "203.0.113.10",
        "DERP_ADDR": "0.0.0.0:443",
        "DERP_HTTP_PORT": "80",
        "DERP_STUN": "false",
        "DERP_CERTS": "/app/certs/",
        "DERP_VERIFY_CLIENTS": "true",
    },
    "nitezs/derper": {
        "DERP_HOSTNAME": "derp.example.net",
        "DERP_ADDR": ":443",
        "DERP_HTTP_PORT": "80",
        "DERP_STUN_ENABLE": "true",
        "DERP_STUN_PORT": "3478",
        "DERP_CERTMODE": "manual",
        "DERP_VERIFY_CLIENTS": "true",
    },
    "arcticlampyrid/derper-custom-cert": {
        "DERP_DOMAIN": "derp.example.net",
        "DERP_PORT": "8443",
        "DERP_HTTP_PORT": "-1",
        "DERP_STUN": "true",
        "DERP_STUN_PORT": "3478",
        "DERP_CERT_MODE": "manual",
        "DERP_CERT_DIR": "/app/certs",
        "DERP_VERIFY_CLIENTS": "true",
        "DERP_VERIFY_CLIENT_URL": "https://x.example.net/verify",
    },
    "tijjjy/tailscale-derp": {
        "TAILSCALE_DERP_HOSTNAME": "derp.example.net",
        "TAILSCALE_DERP_CERTMODE": "manual",
        "TAILSCALE_DERP_VERIFY_CLIENTS": "true",
        "TAILSCALE_AUTH_KEY": "tskey-auth-secret",
    },
    "youngv/derper": {
        "DERP_HOST": "derp.example.net",
        "DERP_PORT": "443",
        "HTTP_PORT": "80",
        "STUN_PORT": "3478",
        "VERIFY_CLIENTS": "true",
        "TZ": "Asia/Shanghai",
    },
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_variable_of_every_family(name, tmp_path):
    """The family is known by its variables, and `derpd` takes what they become."""
    environ = SAMPLES[name]
    (family,) = [one for one in FAMILIES if one.name == name]
    assert environ.keys() == family.variables.keys()
    assert family_of(environ) == family
    found = translate(environ)
    assert found.tree["node"]["host"] == family_host(family, environ)
    assert {one.variable for one in (*found.remarks, *found.refusals)} >= set(environ)
    assert accepted(found.tree, tmp_path) == "configuration is valid\n"


def family_host(family, environ):
    """Give the value of the variable that names the node."""
    (name,) = [one for one, flag in family.variables.items() if flag == "-hostname"]
    return environ[name]


def test_every_family_has_a_sample():
    """None of them is left out above."""
    assert {"camllia/derper", *SAMPLES} == {family.name for family in FAMILIES}
    (xavier,) = [one for one in FAMILIES if one.name == "camllia/derper"]
    assert XAVIER.keys() == xavier.variables.keys()


def test_images_are_known_by_name():
    """Where a compose file names one, its variables need not."""
    assert family_of({}, "ghcr.io/xavieralpha/derper:latest").name == "camllia/derper"
    assert family_of({}, "fredliang/derper").name == "fredliang/derper"
    assert family_of({"PATH": "/bin"}, "nginx") is None
    assert translate({"PATH": "/bin", "HOSTNAME": "3f2a9c01d2e4"})[:3] == NOTHING


@pytest.mark.parametrize("hostname", ["3f2a9c01d2e4", "derper-7d9f-x2x", "vps1", ""])
def test_the_hostname_of_a_runtime(hostname):
    """What Docker or Kubernetes sets is not what clients dial."""
    found = translate({"HOSTNAME": hostname, "VERIFY_CLIENTS": "true"})
    assert "node" not in found.tree
    (refusal,) = found.refusals
    assert refusal.variable == "HOSTNAME"
    assert refusal.text.endswith(
        "set node.host to the name or the address that clients dial"
    )


def test_the_hostname_of_others_is_not_theirs():
    """Only camllia/derper reads it; elsewhere the runtime alone does."""
    found = translate({"HOSTNAME": "1.2.3.4", "DERP_HOST": "203.0.113.10"})
    assert found.tree["node"] == {"host": "203.0.113.10"}
    found = translate({"HOSTNAME": "1.2.3.4", "DERP_VERIFY_CLIENTS": "true"})
    assert "node" not in found.tree


def test_an_open_relay_is_not_made():
    """By default these images let everybody in; here somebody must say so."""
    found = translate({"DERP_DOMAIN": "derp.example.net"})
    assert found.tree["admission"] == {"key_file": "/etc/derpmesh/clients"}
    texts = {one.variable: one.text for one in found.refusals}
    assert texts["DERP_VERIFY_CLIENTS"].startswith("not set, which is false: an open")
    assert texts["DERP_CERT_MODE"].startswith("not set, which is letsencrypt: derpd")


def test_plain_http_behind_a_proxy():
    """There is no TLS on another port, unless it is told of a certificate."""
    found = translate(
        {"DERP_DOMAIN": "derp.example.net", "DERP_ADDR": "127.0.0.1:8080"}
    )
    assert found.tree["tls"] == {"mode": "off"}
    assert found.tree["stun"] == {"listen": ["127.0.0.1:3478"]}
    assert found.tree["http"] == {"listen": ["127.0.0.1:80"]}


def test_secrets_are_not_shown():
    """Neither in the configuration nor in words."""
    url = "https://user:hunter2@x.example.net/verify?token=hunter2#hunter2"
    environ = {"TAILSCALE_AUTH_KEY": "hunter2", "VERIFY_CLIENT_URL": url}
    environ |= {"SECRETS_URL": "https://hunter2.example.net", "HOSTNAME": "1.2.3.4"}
    found = translate(environ)
    assert found.tree["admission"]["urls"] == ["https://x.example.net/verify"]
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ADDR", "derp:443", "octets"),
        ("HTTP_PORT", "x", "not a whole number"),
        ("STUN_PORT", "70000", "not a port"),
        ("RUN_STUN", "yes", "neither true nor false"),
        ("CERT_MODE", "acme", "no mode of derper's"),
        ("VERIFY_CLIENT_URL", "verify", "not an http:// or https:// URL"),
        ("MESH_WITH", "a/b.example.net", "no IP address to dial"),
        ("MESH_WITH", "ht:tp//x", "no host to dial"),
        ("FLAGHOME", "about", "neither blank nor a URL"),
        ("BOOTSTRAP_DNS", "a b", "no DNS name"),
        ("ACCEPT_CONNECTION_LIMIT", "NaN", "not a number"),
        ("TCP_USER_TIMEOUT", "15", "not a duration"),
        ("HOSTNAME", "https://derp.example.net", "no DNS name and no IP address"),
        ("DEV", "true", "set derp.listen to 127.0.0.1:3340"),
        ("VERSION_FLAG", "1", "run derpd --version"),
    ],
)
def test_what_cannot_be_read_is_refused(variable, value, reason, tmp_path):
    """The default holds, and somebody is told."""
    found = translate(
        {"HOSTNAME": "203.0.113.10", "VERIFY_CLIENTS": "true", variable: value}
    )
    assert any(
        one.variable == variable and reason in one.text for one in found.refusals
    )
    assert DaemonConfig.model_validate(found.tree)


def test_left_over_variables():
    """Two that say the same, one that nobody knows, and one that changes nothing."""
    environ = {"DERP_ADDR": ":443", "DERP_PORT": "444", "DERP_DOMAIN": "a.example.net"}
    environ |= {"DERP_HTTP_PORT": "80", "DERP_HOST": "b.example.net", "DERP_X": "1"}
    texts = dict(translate(environ).remarks)
    assert texts["DERP_HOST"] == "left out: DERP_DOMAIN says it"
    assert texts["DERP_PORT"] == "left out: DERP_ADDR says it"
    assert texts["DERP_X"] == "left out: no image that we know reads it"
    stun_only = {"RUN_DERP": "false", "VERIFY_CLIENTS": "false", "HOSTNAME": "1.2.3.4"}
    texts = dict(translate(stun_only).remarks)
    assert texts["VERIFY_CLIENTS"] == "left out: it changes nothing here"


def test_map_entry():
    """Known for a name; of an address only its certificate tells the pin."""
    environ = SAMPLES["arcticlampyrid/derper-custom-cert"]
    assert map_entry(translate(environ).tree) == {
        "Name": "900a",
        "RegionID": 900,
        "HostName": "derp.example.net",
        "DERPPort": 8443,
    }
    assert map_entry(translate(XAVIER).tree) is None
    assert map_entry({}) is None
    quiet = {"HOSTNAME": "a.example.net", "RUN_STUN": "false", "RUN_DERP": "false"}
    entry = map_entry(translate(quiet).tree)
    assert (entry["STUNPort"], entry["STUNOnly"]) == (-1, True)


_values = st.sampled_from([*XAVIER.values(), "false", "letsencrypt"]) | st.text(
    max_size=6
)


@given(st.dictionaries(st.sampled_from(sorted(FLAGS)), _values))
def test_any_environment_makes_a_configuration(environ):
    """Whatever is set, `derpd` would accept it, and nothing is passed over."""
    found = translate(environ)
    if family_of(environ) is None:
        assert found[:3] == NOTHING
        return
    config = DaemonConfig.model_validate(found.tree)
    assert list(config.problems()) == []
    map_entry(found.tree)
    spoken = {one.variable for one in (*found.remarks, *found.refusals)}
    said = {name for name, value in environ.items() if value.strip()}
    assert spoken >= said - {"HOSTNAME", "TZ"}
