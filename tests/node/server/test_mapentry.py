"""What a node says of itself for the DERP map."""

from datetime import UTC, datetime

import pytest

from derpnode.config import NodeConfig
from derpnode.server.certificates import TlsIdentity
from derpnode.server.mapentry import map_entry, ready_node_line


PIN = "sha256-raw:" + "ab" * 32


def identity(*, self_signed=True) -> TlsIdentity:
    until = datetime(2036, 1, 1, tzinfo=UTC)
    return TlsIdentity(b"", b"", None, until, PIN, self_signed=self_signed)


def config(**sections) -> NodeConfig:
    tree = {"node": {"host": "192.0.2.7"}, "http": {"enabled": False}, **sections}
    return NodeConfig.model_validate(tree)


def entry(tls=None, derp_port=443, stun_port=3478, **sections) -> dict:
    return map_entry(config(**sections), tls, derp_port, stun_port)


MINIMAL = {
    "Name": "900a",
    "RegionID": 900,
    "HostName": "192.0.2.7",
    "IPv4": "192.0.2.7",
    "IPv6": "none",
}


def test_zero_values_are_left_out():
    """As Go's omitempty does: standard ports, no pin, nothing special."""
    assert entry() == MINIMAL


def test_order_of_fields():
    """The order of the Go struct, so that two renderings compare."""
    sections = {
        "node": {"host": "derp.example", "ipv4": "192.0.2.7", "ipv6": "2001:db8::1"},
        "derp": {"enabled": False, "listen": [":443"]},
        "http": {"listen": [":80"]},
    }
    assert list(entry(identity(), 8443, 3479, **sections)) == [
        "Name",
        "RegionID",
        "HostName",
        "CertName",
        "IPv4",
        "IPv6",
        "STUNPort",
        "STUNOnly",
        "DERPPort",
        "CanPort80",
    ]


def test_pin_only_when_self_signed():
    """With an authority behind it a CertName would be wrong."""
    assert entry(identity())["CertName"] == PIN
    assert "CertName" not in entry(identity(self_signed=False))


@pytest.mark.parametrize(
    ("node", "ipv4", "ipv6"),
    [
        ({"host": "192.0.2.7"}, "192.0.2.7", "none"),
        ({"host": "2001:db8::1"}, "none", "2001:db8::1"),
        ({"host": "derp.example"}, None, None),
        ({"host": "derp.example", "ipv4": "192.0.2.7"}, "192.0.2.7", None),
        ({"host": "derp.example", "ipv6": "none"}, None, "none"),
        ({"host": "192.0.2.7", "ipv4": "198.51.100.1"}, "198.51.100.1", "none"),
    ],
)
def test_addresses(node, ipv4, ipv6):
    """From the settings, else from a host that is one, else looked up by clients."""
    found = entry(node=node)
    assert (found.get("IPv4"), found.get("IPv6")) == (ipv4, ipv6)


def test_ports():
    """As bound, unless another one is published."""
    assert entry(derp_port=8443)["DERPPort"] == 8443
    assert entry(stun_port=3479)["STUNPort"] == 3479
    published = {"derp": {"public_port": 33443}, "stun": {"public_port": 33478}}
    found = entry(**published)
    assert (found["DERPPort"], found["STUNPort"]) == (33443, 33478)
    standard = {"derp": {"public_port": 443}, "stun": {"public_port": 3478}}
    assert entry(derp_port=8443, stun_port=3479, **standard) == MINIMAL


def test_no_stun():
    """-1 tells clients not to ask; 0 would be the standard port."""
    assert entry(stun_port=None)["STUNPort"] == -1


def test_stun_only():
    """A node without a relay is never dialled."""
    assert entry(derp={"enabled": False})["STUNOnly"] is True


@pytest.mark.parametrize(
    ("sections", "can"),
    [
        ({"http": {"listen": [":80"]}}, True),
        ({"http": {"listen": [":8080", "192.0.2.7:80"]}}, True),
        ({"http": {"listen": [":8080"]}}, False),
        ({"http": {"listen": [":80"], "enabled": False}}, False),
        ({"http": {}, "node": {"host": "derp.example"}}, False),
        ({"http": {}, "node": {"host": "192.0.2.7", "ipv4": "none"}}, False),
    ],
)
def test_port_80(sections, can):
    """Only with a listener on 80 and an IPv4 address that clients can use."""
    assert entry(**sections).get("CanPort80", False) is can


def test_line():
    """One line of JSON, as derper logs it, with our names and ports."""
    tree = config(node={"host": "192.0.2.7", "name": "901b"}, region={"id": 901})
    assert ready_node_line(tree, identity(), 8443, None) == (
        '{"Name":"901b","RegionID":901,"HostName":"192.0.2.7",'
        f'"CertName":"{PIN}","IPv4":"192.0.2.7","IPv6":"none","STUNPort":-1,"DERPPort":8443}}'
    )


def test_behind_a_proxy():
    """Where TLS ends in front of the node there is no certificate to name."""
    assert "CertName" not in entry(None)
