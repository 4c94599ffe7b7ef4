"""What of a configuration is filled in."""

import pytest

from derpmesh.address.fill import fill_place, fill_ports
from derpmesh.address.place import Place
from derpnode.config import InvalidConfig


def test_ports_that_clients_dial():
    """Where the cluster gives others than are listened on; the rest stays."""
    tree: dict[str, object] = {"derp": {"listen": [":443"]}}
    fill_ports(tree, {"derp": 30443, "stun": 30478, "http": 30080})
    assert tree == {
        "derp": {"listen": [":443"], "public_port": 30443},
        "stun": {"public_port": 30478},
    }


def test_a_family_that_is_configured_is_kept():
    """`none` turns one off, whatever the cluster says."""
    tree: dict[str, object] = {"node": {"ipv6": "none"}}
    fill_place(tree, Place("203.0.113.1", None, "2001:db8::1"))
    assert tree == {"node": {"host": "203.0.113.1", "ipv6": "none"}}


def test_a_section_that_is_none():
    """It is named."""
    with pytest.raises(InvalidConfig, match=r"^derp = 5: not a mapping of keys"):
        fill_ports({"derp": 5}, {"derp": 1})
