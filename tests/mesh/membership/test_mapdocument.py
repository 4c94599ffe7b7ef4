"""The map that a node serves: the last one that clients could use."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.cluster import map_of
from derpctl.map.canonical import canonical_json
from derpmesh.membership.mapdocument import MapDocument, is_whole, map_json
from derpmesh.membership.model import Member, Membership, Region


def membership(*members, region=None):
    """The region at some revision."""
    found = {member.name: member for member in members}
    return Membership(1, region or Region(), found)


A = Member(name="900a", host="8.8.8.8")
MUTE = Member(name="900a", host="8.8.8.8", stun_port=-1)
STUN = Member(name="900b", host="8.8.4.4", stun_only=True)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (membership(A), True),
        (membership(), False),
        (membership(MUTE), False),
        (membership(STUN), False),
        (membership(MUTE, STUN), True),
        (membership(MUTE, region=Region(measure=False)), True),
        (membership(STUN, region=Region(measure=False)), False),
    ],
)
def test_what_clients_could_use(found, expected):
    """A relay, and somebody to measure it by, unless nobody is to."""
    assert is_whole(found) is expected


def test_the_last_good_one_stays(caplog):
    """A membership that makes no map is said, and changes nothing."""
    document = MapDocument()
    document.follow(membership())
    assert document.last is None
    assert caplog.messages == []
    document.follow(membership(A))
    served = document.last
    document.follow(membership(MUTE))
    assert document.last == served
    (line,) = caplog.messages
    assert line == "region: its members make no map; the last one is served"
    document.follow(membership(A, STUN))
    assert len(json.loads(document.last.body)["Regions"]["900"]["Nodes"]) == 2


texts = st.text(max_size=8)
members = st.builds(
    Member,
    name=st.from_regex(r"900[a-z]", fullmatch=True),
    host=st.sampled_from(["derp.example.net", "8.8.8.8", "2001:db8::1"]),
    ipv4=st.none() | st.just("none") | st.ip_addresses(v=4),
    ipv6=st.none() | st.just("none") | st.ip_addresses(v=6),
    derp_port=st.integers(1, 65_535),
    stun_port=st.just(-1) | st.integers(1, 65_535),
    stun_only=st.booleans(),
    can_port80=st.booleans(),
    pin=st.none() | st.just(f"sha256-raw:{'ab' * 32}"),
)
regions = st.builds(
    Region,
    id=st.integers(1, 65_535),
    code=texts,
    name=texts,
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    measure=st.booleans(),
)


@given(regions, st.lists(members, max_size=5, unique_by=lambda member: member.name))
def test_nodes_and_derpctl_write_alike(region, found):
    """To the byte, whatever is recorded: so they have the same names for it."""
    of_a_node = map_json(membership(*found, region=region))
    assert of_a_node == canonical_json(map_of(region, found)).encode()
