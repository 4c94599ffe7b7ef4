"""The configuration: what is taken, what is refused, and in which words."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.config import (
    Address,
    InvalidConfig,
    NodeConfig,
    is_ip,
    load_config,
    parse_address,
)


OPEN = ("admission.mode=open", "derp.listen=['127.0.0.1:0']")
"""What makes the defaults a configuration that can be used."""


def refusal(path: Path | None = None, environ=None, overrides=()) -> str:
    """Load what cannot be used; return what is said of it."""
    with pytest.raises(InvalidConfig) as raised:
        load_config(path, environ or {}, overrides)
    return str(raised.value)


@pytest.fixture
def file(tmp_path):
    """Write a configuration file."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "derpd.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# What is taken.


def test_the_defaults_admit_nobody():
    """They are no open relay: a source of admission must be named."""
    said = refusal()
    assert said.startswith("admission = 'any': no source says who may relay")
    assert "admission.key_file" in said


def test_a_file(file):
    """Keys of a file; comments and empty files are nothing."""
    path = file("node: {name: 901b}\nregion:\n  id: 901 # ours\n")
    config = load_config(path, {}, OPEN)
    assert (config.node.name, config.region.id) == ("901b", 901)
    assert load_config(file("# nothing\n"), {}, OPEN) == load_config(None, {}, OPEN)


def test_later_ones_win(file):
    """The file, then the environment, then the command line."""
    path = file("node: {name: a}\nregion: {id: 1, code: a}")
    environ = {"DERPD_NODE__NAME": "b", "DERPD_REGION__ID": "2", "PATH": "/"}
    config = load_config(path, environ, [*OPEN, "node.name=c"])
    found = config.node.name, config.region.id, config.region.code
    assert found == ("c", 2, "a")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DERPD_STUN__ENABLED", "no", False),
        ("DERPD_STUN__ENABLED", "true", True),
    ],
)
def test_the_environment_is_yaml(name, value, expected):
    """So that switches, numbers and lists can be set."""
    assert load_config(None, {name: value}, OPEN).stun.enabled is expected


def test_an_empty_variable_is_none():
    """As compose files have them for what is not set."""
    assert load_config(None, {"DERPD_NODE__NAME": ""}, OPEN).node.name == "900a"


def test_lists_in_an_override():
    """They are YAML too."""
    config = load_config(None, {}, [*OPEN, "stun.listen=['[::1]:1', ':2']"])
    assert config.stun.listen == [Address("::1", 1), Address("", 2)]


def test_an_override_of_something_else(file):
    """A section that is no mapping gives way to a key in it."""
    config = load_config(file("node: x"), {}, [*OPEN, "node.name=b"])
    assert config.node.name == "b"


def test_what_is_no_yaml_is_text():
    """A value with odd characters need not be quoted for the shell."""
    said = refusal(overrides=[*OPEN, "node.name=a: b: c"])
    assert said.startswith("node.name = 'a: b: c': ")


@pytest.mark.parametrize("mode", ["off", "'off'", "false"])
def test_tls_off(file, mode):
    """Regression: a bare `off` is false in YAML, and was refused."""
    config = load_config(file(f"tls: {{mode: {mode}}}"), {}, ["admission.key_file=/x"])
    assert config.tls_mode == "off"


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ((), "self-signed"),
        (("tls.certificate=a", "tls.key=b"), "files"),
        (("tls.mode=self-signed",), "self-signed"),
        (("tls.mode=files", "tls.certificate=a", "tls.key=b"), "files"),
    ],
)
def test_tls_modes(more, mode):
    """`auto` is decided by whether there is a certificate."""
    assert load_config(None, {}, [*OPEN, *more]).tls_mode == mode


def test_places_that_follow_from_others():
    """The admin socket is in the state directory, unless it is elsewhere."""
    config = load_config(None, {}, [*OPEN, "state_dir=/x"])
    assert config.admin_socket == Path("/x/admin.sock")
    config = load_config(None, {}, [*OPEN, "admin.socket=/y"])
    assert config.admin_socket == Path("/y")


def test_a_configuration_cannot_be_changed():
    """Whoever was given it may rely on it."""
    config = load_config(None, {}, OPEN)
    with pytest.raises(ValueError, match="frozen"):
        config.node = config.node  # type: ignore[misc]


# What is refused. S8: never without the name of the key, and never open.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: {}", "nodes = '…': unknown key; did you mean node?"),
        ("node: {nam: x}", "node.nam = '…': unknown key; did you mean name?"),
        (
            "region: {zzz: 1}",
            "region.zzz = '…': unknown key; the keys here are code, id, name",
        ),
        (
            "mesh: {peers: [{url: 'https://x', pins: y}]}",
            "mesh.peers.0.pins = '…': unknown key; did you mean pin?",
        ),
    ],
)
def test_unknown_keys(file, text, said):
    """With the nearest that there is; what stands there may be a secret."""
    assert refusal(file(text), {}, OPEN) == said


@pytest.mark.parametrize(
    ("override", "setting"),
    [
        ("region.id=x", "region.id"),
        ("region.id='900'", "region.id"),
        ("region.id=0", "region.id"),
        ("region.id=65536", "region.id"),
        ("region.id=true", "region.id"),
        ("region.id=1.5", "region.id"),
        ("region=1", "region"),
        ("node.name=UPPER", "node.name"),
        ("node.name=a_b", "node.name"),
        ("node.name=''", "node.name"),
        ("node.name=[a]", "node.name"),
        ("node.host=https://x", "node.host"),
        ("node.host='a b'", "node.host"),
        ("node.host=x:443", "node.host"),
        (f"node.host={'x' * 64}.example", "node.host"),
        ("node.ipv4=::1", "node.ipv4"),
        ("node.ipv4=256.1.1.1", "node.ipv4"),
        ("node.ipv4=7", "node.ipv4"),
        ("node.ipv6=127.0.0.1", "node.ipv6"),
        ("node.ipv6='fe80::1%eth0'", "node.ipv6"),
        ("derp.listen=[]", "derp.listen"),
        ("derp.listen=[x]", "derp.listen.0"),
        ("derp.listen=['1.2.3.4:70000']", "derp.listen.0"),
        ("derp.public_port=0", "derp.public_port"),
        ("derp.home=ftp://x", "derp"),
        ("derp.enabled=1", "derp.enabled"),
        ("tls.certificate=x", "tls"),
        ("tls.mode=files", "tls"),
        ("tls.mode=on", "tls.mode"),
        ("tls.certificate=5", "tls.certificate"),
        ("admission.mode=closed", "admission.mode"),
        ("admission.urls=[ftp://x]", "admission.urls.0"),
        ("admission.urls=https://x", "admission.urls"),
        ("admission.tailscaled=/x", "admission.tailscaled"),
        ("admission.timeout=0", "admission.timeout"),
        ("admission.timeout=never", "admission.timeout"),
        ("admission.grace=-1", "admission.grace"),
        ("limits.connections=-1", "limits.connections"),
        ("limits.queued_bytes=5", "limits.queued_bytes"),
        ("limits.write_timeout=.inf", "limits.write_timeout"),
        ("admin.listen=['0.0.0.0:1']", "admin"),
        ("admin.listen=[nonsense]", "admin"),
        ("bootstrap_dns.names=['a b']", "bootstrap_dns.names.0"),
        (f"bootstrap_dns.names=[{'x' * 64}]", "bootstrap_dns.names.0"),
        ("log.level=loud", "log.level"),
        ("log.format=xml", "log.format"),
        ("drain_grace=-1", "drain_grace"),
        ("plane=fast", "plane"),
        ("mesh.peers=[{}]", "mesh.peers.0.url"),
        ("mesh.peers=[{url: 'https://x', pin: 'sha256-raw:AB'}]", "mesh.peers.0.pin"),
        ("mesh.peers=[{url: 'https://x', dial: 'x:1'}]", "mesh.peers.0.dial"),
        ("state_dir=[]", "state_dir"),
    ],
)
def test_wrong_values(override, setting):
    """The message begins with the key, and has a remedy after the semicolon."""
    said = refusal(overrides=[*OPEN, override])
    assert re.match(rf"{re.escape(setting)} = .*: .+; .+", said, re.DOTALL), said


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("DERPD_ADMISION__MODE", "admision"),
        ("DERPD_ADMISSION__MOED", "admission.moed"),
        ("DERPD_ADMISSION_MODE", "admission_mode"),
    ],
)
def test_a_typo_in_the_environment(name, key):
    """It names the key, and the relay does not become open by it, or stay shut."""
    assert refusal(environ={name: "open"}).startswith(f"{key} = '…': unknown key; ")


def test_every_problem_is_listed():
    """One run of --check-config shows all that is to do."""
    said = refusal(overrides=["region.id=0", "node.name=_", "x=1"])
    assert len(said.splitlines()) == 3


def test_an_override_without_a_value():
    """It says how to write one."""
    assert refusal(overrides=["node.name"]) == (
        "--set = 'node.name': no `=` in it; write KEY=VALUE"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"a: [",
        b"a: b: c",
        b"\xff\xfe",
        b"\x00",
        b"- 1\n- 2",
        b"just text",
        b"5",
        b"a: 2026-02-31",
        b"a: !!int x",
        b"a: !!float x",
        b"a: !!bool x",
        b"a: !!timestamp x",
        b"a: " + b"9" * 5000,
        b"a: " + b"[" * 1500,
        b"? {a: 1}\n: 2",
        b"a: &x [*x]",
        b"a: !!python/object:os.system x",
        b"<<: 5",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_files_that_are_no_mapping(file, text):
    """Regression: dates and numbers that do not exist ended in a traceback."""
    assert refusal(file(text), {}, OPEN)


def test_keys_that_are_no_text(file):
    """YAML has them; we do not."""
    assert refusal(file("1: 2\nnull: 3\n"), {}, OPEN)


def test_a_missing_file(tmp_path):
    """Named, it must be there."""
    said = refusal(tmp_path / "missing.yaml")
    assert said.startswith(f"--config = '{tmp_path}/missing.yaml': cannot be read: ")


def test_a_directory(tmp_path):
    """It cannot be read either."""
    assert refusal(tmp_path).startswith("--config = ")


@pytest.mark.parametrize(
    "listen", ["[':443']", "['0.0.0.0:443']", "['127.0.0.1:1', '192.0.2.1:1']"]
)
def test_an_open_relay_in_public(listen):
    """It is refused, unless it is said in so many words."""
    more = ("admission.mode=open", f"derp.listen={listen}")
    assert refusal(overrides=more).startswith("admission.mode = 'open': an open relay")
    assert load_config(None, {}, [*more, "admission.i_know_this_is_public=true"])


@pytest.mark.parametrize("listen", ["['127.0.0.1:1']", "['127.9.9.9:1','[::1]:2']"])
def test_an_open_relay_on_loopback(listen):
    """It is nobody else's business."""
    assert load_config(None, {}, [OPEN[0], f"derp.listen={listen}"])


def test_a_stun_server_admits_nobody_and_asks_nobody():
    """Without DERP there is nothing to admit to."""
    assert load_config(None, {}, ["derp.enabled=false"]).admission.sources == 0


@pytest.mark.parametrize(
    ("more", "count"),
    [
        (("admission.key_file=/x",), 1),
        (("admission.tailscaled=[/x, /y]",), 2),
        (("admission.urls=['https://x']", "admission.key_file=/x"), 2),
    ],
)
def test_sources_of_admission(more, count):
    """Any one is enough to start."""
    assert load_config(None, {}, more).admission.sources == count


def test_a_name_needs_a_certificate():
    """Clients do not pin the certificate of a name."""
    said = refusal(overrides=[*OPEN, "node.host=derp.example.com"])
    assert said.startswith("tls.mode = 'auto': derp.example.com is a DNS name")


def test_admin_off_loopback_needs_tls_and_a_token():
    """Both, and it says which is missing."""
    listen = "admin.listen=['0.0.0.0:9090']"
    tls = ("admin.certificate=a", "admin.key=b")
    assert "set certificate and key" in refusal(overrides=[*OPEN, listen])
    assert "set token_file" in refusal(overrides=[*OPEN, listen, *tls])
    assert load_config(None, {}, [*OPEN, listen, *tls, "admin.token_file=c"])


# Secrets do not come out by way of errors. S2.


@pytest.mark.parametrize(
    "override",
    [
        "mesh.key=5ec2e75ec2e7",
        "mesh.key_fil=5ec2e75ec2e7",
        "admin.token=5ec2e75ec2e7",
        "admission.urls=[ftp://user:5ec2e75ec2e7@host/]",
        "admission.urls=https://user:5ec2e75ec2e7@host/",
        "admission.url=https://user:5ec2e75ec2e7@host/",
    ],
)
def test_secrets_in_the_wrong_place(override):
    """Regression: the value of an unknown key was repeated in the error."""
    assert "5ec2e75ec2e7" not in refusal(overrides=[*OPEN, override])


# Addresses.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:443", Address("127.0.0.1", 443)),
        (":443", Address("", 443)),
        ("[::1]:0", Address("::1", 0)),
        ("[2001:DB8::0:1]:65535", Address("2001:db8::1", 65535)),
        (Address("x", 1), Address("x", 1)),
    ],
)
def test_addresses(text, address):
    """IP literals in their short form, and an empty host for every address."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "443", "host:443", "1.2.3.4", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:65536"),
        *("::1:1", "[::1]", "[1.2.3.4]:1", "1.2.3.4:-1", "1.2.3.4:٣", "1.2.3.4:1 "),
        *(443, None),
    ],
)
def test_what_is_no_address(text):
    """Names are not looked up, and ports are decimal."""
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_addresses_as_text(ip, port):
    """What an address prints is read as the same."""
    address = Address(str(ip), port)
    assert parse_address(str(address)) == address
    assert address.is_loopback == ip.is_loopback


def test_every_address_is_not_loopback():
    """An empty host is reachable from everywhere."""
    assert not Address("", 1).is_loopback


@pytest.mark.parametrize(
    ("host", "expected"), [("1.2.3.4", True), ("::1", True), ("x", False), ("", False)]
)
def test_ip_literals(host, expected):
    """They are told from names."""
    assert is_ip(host) is expected


# Every setting can be explained.


def test_every_setting_has_a_docstring():
    """The reference page is made of them."""
    for name, section in NodeConfig.model_fields.items():
        fields = getattr(section.annotation, "model_fields", {name: section})
        for field in fields.values():
            if section.annotation is not None and field is not section:
                assert field.description
