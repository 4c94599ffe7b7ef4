"""Addresses: IPv4 inside 16 bytes, and back out."""

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.wire.addresses import from_wire, to_wire, unmap


@pytest.mark.parametrize(
    ("ip", "packed"),
    [
        (ip_address("127.0.0.1"), "00000000000000000000ffff7f000001"),
        (ip_address("2001:db8::1"), "20010db8000000000000000000000001"),
        (ip_address("0.0.0.0"), "00000000000000000000ffff00000000"),
        (None, "00000000000000000000000000000000"),
    ],
)
def test_layout(ip, packed):
    """IPv4 travels v4-mapped, and an unknown address as zeros."""
    assert to_wire(ip).hex() == packed
    assert from_wire(bytes.fromhex(packed)) == ip


def test_unmap():
    """Only a v4-mapped address changes."""
    assert unmap(IPv6Address("::ffff:192.0.2.1")) == ip_address("192.0.2.1")
    assert unmap(IPv6Address("::1")) == ip_address("::1")
    assert unmap(ip_address("192.0.2.1")) == ip_address("192.0.2.1")


@given(st.binary(min_size=16, max_size=16))
def test_any_sixteen_bytes(packed):
    """Every 16 bytes are an address, and pack to themselves."""
    assert to_wire(from_wire(packed)) == packed
