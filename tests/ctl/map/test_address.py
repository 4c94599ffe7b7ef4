"""Addresses as rules take them: quickly, and as Python's own module does."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from derpctl.map.lint.address import is_address, kind_of


_SIGNS = st.text("0123456789abcdefF:.%x", max_size=20)
_GIVEN = st.ip_addresses().map(str) | st.ip_addresses(v=6).map(lambda ip: ip.exploded)


@given(_SIGNS | _GIVEN | st.text(max_size=8))
@example("01.2.3.4")
@example("fe80::1%eth0")
@example("1.2.3.4%eth0")
@example("::ffff:1.2.3.4")
@example("a\0b:")
@example("1\0")
def test_any_text(text):
    """It is an address of one family, or of none."""
    try:
        version = ipaddress.ip_address(text).version
    except ValueError:
        version = 0
    assert [is_address(text, 4), is_address(text, 6)] == [version == 4, version == 6]


@pytest.mark.parametrize(
    ("first", "last", "kind"),
    [
        ("10.0.0.0", "10.255.255.255", "private"),
        ("100.64.0.0", "100.127.255.255", "shared by carrier-grade NAT"),
        ("127.0.0.0", "127.255.255.255", "loopback"),
        ("240.0.0.0", "255.255.255.255", "of no host"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "for documentation"),
    ],
)
def test_ranges(first, last, kind):
    """Both ends are in it, and their neighbours are not."""
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    assert (kind_of(first), kind_of(last)) == (kind, kind)
    assert kind_of(str(low - 1)) != kind
    if int(high) != (1 << high.max_prefixlen) - 1:
        assert kind_of(str(high + 1)) != kind


def test_no_address():
    """It is of no kind."""
    assert kind_of("a") == ""
