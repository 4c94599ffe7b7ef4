"""The snapshot of a region, and what changes between two."""

import ipaddress
from dataclasses import FrozenInstanceError, replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from derpmesh.membership.model import (
    Change,
    Member,
    Membership,
    Region,
    difference,
)
from derpnode.config import NO_ADDRESS, Address, NodeConfig
from derpnode.server.mapentry import map_entry
from tests.mesh.membership.scene import (
    REGION,
    A,
    B,
    C,
    content,
    member,
    membership,
)


PIN = f"sha256-raw:{'0123456789abcdef' * 4}"

regions = st.sampled_from([REGION, Region(id=902), Region()])
variants = st.builds(
    member,
    st.sampled_from("abcde"),
    derp_port=st.sampled_from([443, 8443]),
    can_port80=st.booleans(),
)
snapshots = st.builds(
    lambda revision, members, region, struck: replace(
        membership(revision, *members, region=region), struck=struck
    ),
    st.integers(0, 9),
    st.lists(variants, max_size=5, unique_by=lambda found: found.name),
    regions,
    st.frozensets(st.sampled_from(["901f", "901g"])),
)


@given(snapshots, snapshots)
def test_difference_applied_is_the_other(before, after):
    """Members, their order, the region and the revision: all of it."""
    found = difference(before, after).apply(before)
    assert found == after
    assert content(found) == content(after)


@given(snapshots, snapshots)
def test_difference_says_no_more_than_changed(before, after):
    """Who stayed as they were are not in it, nor is an order that did."""
    change = difference(before, after)
    assert all(before.members.get(found.name) != found for found in change.put)
    assert change.removed.isdisjoint(after.members)
    assert (change.order is None) == (list(before.members) == list(after.members))
    assert (change.region is None) == (before.region == after.region)
    assert (change.struck is None) == (before.struck == after.struck)


@given(snapshots, snapshots)
def test_apply_leaves_what_was_before_alone(before, after):
    """Somebody may still act on it."""
    was = content(before)
    difference(before, after).apply(before)
    assert content(before) == was


@given(snapshots)
def test_difference_of_nothing(found):
    """An empty change, which changes nothing but the revision."""
    change = difference(found, found)
    assert change == Change(found.revision)
    assert change.apply(found) == found


def test_new_member_is_last_where_no_order_is_said():
    """A registry without an order of its own need not give one."""
    found = Change(2, put=(C,)).apply(membership(1, B, A))
    assert content(found) == (REGION, [B, A, C])
    assert found.revision == 2


def test_changed_member_keeps_its_place():
    """The order of the map changes only when an operator means it."""
    changed = member("a", derp_port=8443)
    found = Change(2, put=(changed,)).apply(membership(1, A, B))
    assert content(found) == (REGION, [changed, B])


def test_order_alone_may_change():
    """No member is put for it."""
    change = difference(membership(1, A, B, C), membership(2, C, A, B))
    assert change == Change(2, order=("901c", "901a", "901b"))


def test_member_that_was_taken_out_may_be_added():
    """That is a change, as nobody being struck is one."""
    before = replace(membership(1, A), struck=frozenset({B.name}))
    change = difference(before, membership(2, A, B))
    assert change == Change(2, put=(B,), order=(A.name, B.name), struck=frozenset())
    assert change.apply(before) == membership(2, A, B)


def test_place_in_the_history():
    """Revisions of a registry that began anew are later than all before."""
    old, new = membership(9, A), replace(membership(1, A), generation=1)
    assert old.place < new.place < replace(new, revision=2).place


def test_member_is_filed_under_its_name():
    """Anything else is a mistake of a backend."""
    with pytest.raises(ValueError, match="901a is filed under 901b"):
        Membership(1, REGION, MappingProxyType({"901b": A}))


def test_snapshot_is_frozen():
    """And so is what is in it."""
    with pytest.raises(FrozenInstanceError):
        membership(1, A).revision = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        A.host = "elsewhere.example.com"  # type: ignore[misc]


def test_record_of_a_newer_node_is_read():
    """What it says beyond what we know is left out."""
    assert member("a", weight=7) == A
    assert not hasattr(member("a", weight=7), "weight")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "900_a"),
        ("host", "https://a.example.com"),
        ("ipv4", "2001:db8::1"),
        ("ipv6", "192.0.2.1"),
        ("derp_port", 0),
        ("derp_port", 65_536),
        ("derp_port", "443"),
        ("stun_port", -2),
        ("can_port80", 1),
        ("pin", PIN.upper()),
        ("dial", "a.example.com:443"),
    ],
)
def test_record_that_makes_no_sense(key, value):
    """It is refused, and the key is named."""
    with pytest.raises(ValidationError, match=key):
        member("a", **{key: value})


@pytest.mark.parametrize("number", [0, 65_536])
def test_region_id_has_limits(number):
    """As in a map."""
    with pytest.raises(ValidationError, match="id"):
        Region(id=number)


# The map.


def test_least_entry_of_the_map():
    """Zero values are left out, as Go does."""
    assert A.map_entry(901) == {
        "Name": "901a",
        "RegionID": 901,
        "HostName": "a.example.com",
    }


def test_whole_entry_of_the_map():
    """In the order of the fields of `DERPNode`, which people compare by eye."""
    found = member(
        "a",
        ipv4="192.0.2.1",
        ipv6="2001:db8::1",
        derp_port=8443,
        stun_port=3479,
        can_port80=True,
        pin=PIN,
        dial="10.0.0.1:8443",
        admin="https://a.example.com:9090",
    ).map_entry(901)
    assert list(found.items()) == [
        ("Name", "901a"),
        ("RegionID", 901),
        ("HostName", "a.example.com"),
        ("CertName", PIN),
        ("IPv4", "192.0.2.1"),
        ("IPv6", "2001:db8::1"),
        ("STUNPort", 3479),
        ("DERPPort", 8443),
        ("CanPort80", True),
    ]


@pytest.mark.parametrize(
    ("about", "field", "value"),
    [
        ({"ipv4": NO_ADDRESS}, "IPv4", "none"),
        ({"ipv6": NO_ADDRESS}, "IPv6", "none"),
        ({"host": "192.0.2.1"}, "IPv4", "192.0.2.1"),
        ({"host": "2001:db8::1"}, "IPv6", "2001:db8::1"),
        ({"host": "192.0.2.1"}, "IPv6", "none"),
        ({"host": "2001:db8::1"}, "IPv4", "none"),
        ({"host": "192.0.2.1", "ipv4": "192.0.2.2"}, "IPv4", "192.0.2.2"),
        ({"host": "192.0.2.1", "ipv6": "2001:db8::1"}, "IPv6", "2001:db8::1"),
        ({"stun_port": -1}, "STUNPort", -1),
        ({"stun_port": 3478}, "STUNPort", None),
        ({"derp_port": 443}, "DERPPort", None),
    ],
)
def test_entry_of_the_map(about, field, value):
    """A family may be absent; an IP host has no other; usual ports go unsaid."""
    assert member("a", **about).map_entry(901).get(field) == value


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_entry_is_what_the_node_says_of_itself(host):
    """Else every start would warn of a difference."""
    config = NodeConfig.model_validate(
        {"node": {"host": host}, "admission": {"mode": "open"}}
    )
    said = map_entry(config, None, 8443, 3479)
    found = Member(name="900a", host=host, derp_port=8443, stun_port=3479)
    assert found.map_entry(900) | {"CanPort80": True} == said | {"CanPort80": True}


def test_addresses_are_addresses():
    """Not texts that look like one."""
    found = member("a", ipv4="192.0.2.1", dial="192.0.2.2:8443")
    assert found.ipv4 == ipaddress.IPv4Address("192.0.2.1")
    assert found.dial == Address("192.0.2.2", 8443)


@pytest.mark.parametrize(
    ("about", "addresses"),
    [
        ({"host": "a.example.com"}, set()),
        ({"host": "192.0.2.1", "ipv6": "none"}, {"192.0.2.1"}),
        ({"host": "a.example.com", "ipv4": "192.0.2.1"}, {"192.0.2.1"}),
        ({"host": "192.0.2.1", "dial": "10.0.0.1:8443"}, {"192.0.2.1", "10.0.0.1"}),
        ({"host": "192.0.2.1", "ipv6": "2001:DB8::0:1"}, {"192.0.2.1", "2001:db8::1"}),
    ],
    ids=["by name", "host", "IPv4", "dialled elsewhere", "IPv6"],
)
def test_addresses(about, addresses):
    """All that are written down; names are not looked up."""
    assert member("a", **about).addresses() == addresses


FULL = member(
    "a",
    ipv4="192.0.2.1",
    ipv6="2001:db8::1",
    derp_port=8443,
    stun_port=-1,
    can_port80=True,
    pin=PIN,
    dial="10.0.0.1:4433",
    admin="https://10.0.0.1:9090",
)


@pytest.mark.parametrize(
    "found",
    [
        A,
        FULL.model_copy(update={"dial": None}),
        member("a", ipv6="none"),
        member("a", ipv4="none", ipv6="2001:db8::1"),
    ],
)
def test_member_of_a_map_entry(found):
    """What a node says of itself is what others know of it, but for where to dial."""
    assert Member.of(found.map_entry(901), admin=found.admin) == found


@pytest.mark.parametrize("found", [A, FULL, member("a", ipv6="none")])
def test_plain_member_is_read_again(found):
    """Text formats hold all of it, as words, numbers and truth."""
    plain = found.plain()
    assert Member.model_validate(plain) == found
    assert {type(value) for value in plain.values()} <= {str, int, bool}


def test_plain_member_says_no_defaults():
    """People read it."""
    assert A.plain() == {"name": "901a", "host": "a.example.com"}
