"""Which links there should be, and what to do about those that are."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpmesh.link.plan import Plan, Target, plan, targets
from derpnode.config import Address, MeshPeer
from tests.mesh.membership.scene import A, B, C, member, membership


CA = Path("/etc/derpmesh/ca.pem")
PIN = f"sha256-raw:{'0' * 64}"
OTHER_PIN = f"sha256-raw:{'1' * 64}"

OLD = MeshPeer(url="https://old.example.com", pin=PIN)


def wanted(*members, own="901a", peers=(), ca_file=None):
    """Name the targets in a region of these members."""
    return targets(membership(1, *members), own, peers, ca_file)


variants = st.builds(
    member,
    st.sampled_from("abcde"),
    ipv4=st.sampled_from([None, "192.0.2.1", "none"]),
    derp_port=st.sampled_from([443, 8443]),
    pin=st.sampled_from([None, PIN, OTHER_PIN]),
)
regions = st.lists(variants, max_size=5, unique_by=lambda found: found.name)
static = st.lists(
    st.sampled_from([OLD, MeshPeer(url="http://10.0.0.1:8080")]),
    max_size=2,
    unique_by=lambda found: found.url,
)
wishes = st.builds(
    lambda members, peers: wanted(*members, peers=peers), regions, static
)


# From the membership to targets.


def test_every_other_member_is_a_target():
    """In the order of the map, and not this node itself."""
    assert list(wanted(C, A, B)) == ["901c", "901b"]


def test_node_that_is_not_in_its_region_links_to_all_of_it():
    """Packets leave by its links, though nobody dials it."""
    assert list(wanted(B, C)) == ["901b", "901c"]


def test_least_target():
    """What is looked up and dialled is what clients dial."""
    assert wanted(B)["901b"] == Target("901b", "b.example.com", 443)


def test_whole_target():
    """Where other nodes connect to is told apart from what is proved there."""
    entry = member("b", ipv4="192.0.2.2", derp_port=8443, pin=PIN, dial="10.0.0.2:443")
    assert wanted(entry, ca_file=CA)["901b"] == Target(
        "901b",
        "b.example.com",
        8443,
        dial=Address("10.0.0.2", 443),
        pin=PIN,
        ca_file=CA,
    )


@pytest.mark.parametrize(
    ("about", "dial"),
    [
        ({"ipv4": "192.0.2.2"}, Address("192.0.2.2", 443)),
        ({"ipv4": "192.0.2.2", "derp_port": 8443}, Address("192.0.2.2", 8443)),
        ({"ipv4": "none"}, None),
        ({"ipv4": "none", "ipv6": "2001:db8::1"}, None),
        ({"ipv4": "none", "dial": "10.0.0.2:1"}, Address("10.0.0.2", 1)),
        ({"host": "192.0.2.2"}, None),
        ({}, None),
    ],
)
def test_address_that_is_dialled(about, dial):
    """One that the record names, so that broken DNS breaks no link; else the host."""
    assert wanted(member("b", **about))["901b"].dial == dial


@pytest.mark.parametrize(
    ("peer", "target"),
    [
        (
            {"url": "https://old.example.com"},
            Target("https://old.example.com", "old.example.com", 443, is_member=False),
        ),
        (
            {
                "url": "https://old.example.com:8443",
                "pin": PIN,
                "ca_file": str(CA),
                "dial": "10.0.0.9:443",
            },
            Target(
                "https://old.example.com:8443",
                "old.example.com",
                8443,
                dial=Address("10.0.0.9", 443),
                pin=PIN,
                ca_file=CA,
                is_member=False,
            ),
        ),
        (
            {"url": "http://10.0.0.9"},
            Target("http://10.0.0.9", "10.0.0.9", 80, tls=False, is_member=False),
        ),
        (
            {"url": "https://[2001:db8::9]:8443/derp"},
            Target(
                "https://[2001:db8::9]:8443/derp", "2001:db8::9", 8443, is_member=False
            ),
        ),
    ],
)
def test_static_peer(peer, target):
    """It is called by its URL; the trust of members is not that of a peer."""
    found = wanted(peers=[MeshPeer.model_validate(peer)], ca_file=Path("/members.pem"))
    assert found == {target.name: target}


def test_static_peers_need_no_membership():
    """They are linked while the region is not known, and where there is none."""
    assert list(targets(None, "901a", [OLD], None)) == [OLD.url]


# From targets to what is to be done.


def test_member_comes():
    """One link is opened; the others are left alone."""
    now = wanted(A, B)
    after = wanted(A, B, C)
    assert plan(now, after) == Plan((), (after["901c"],))


def test_member_goes():
    """One link is closed; the others are left alone."""
    assert plan(wanted(A, B, C), wanted(A, C)) == Plan(("901b",), ())


@pytest.mark.parametrize(
    "about",
    [
        {"pin": PIN},
        {"derp_port": 8443},
        {"host": "elsewhere.example.com"},
        {"ipv4": "192.0.2.2"},
        {"dial": "10.0.0.2:443"},
    ],
)
def test_member_changes(about):
    """What is dialled or trusted is another; the link is opened anew."""
    after = wanted(A, member("b", **about))
    assert plan(wanted(A, B), after) == Plan(("901b",), (after["901b"],))


@pytest.mark.parametrize(
    "about",
    [
        {"can_port80": True},
        {"stun_port": -1},
        {"ipv6": "2001:db8::1"},
        {"admin": "https://b.example.com:9090"},
    ],
)
def test_member_changes_for_others(about):
    """What links do not use costs no link."""
    assert plan(wanted(A, B), wanted(A, member("b", **about))) == Plan((), ())


def test_order_costs_no_link():
    """Clients care for it, links do not."""
    assert plan(wanted(A, B, C), wanted(C, B, A)) == Plan((), ())


def test_region_that_is_gone():
    """Every link is closed: the operator removed every node."""
    assert plan(wanted(A, B, C), wanted()) == Plan(("901b", "901c"), ())


@given(wishes, wishes)
def test_plan_leads_from_what_is_to_what_should_be(now, after):
    """Whatever is closed was open, and whatever is opened was wanted."""
    found = plan(now, after)
    kept = {name: now[name] for name in now if name not in found.close}
    opened = {target.name: target for target in found.open}
    assert kept | opened == after
    assert kept.keys().isdisjoint(opened)
    assert set(found.close) <= now.keys()


@given(wishes, wishes)
def test_what_is_as_it_should_be_is_left_alone(now, after):
    """No link is closed that is opened again as it was."""
    found = plan(now, after)
    same = {name for name in now if after.get(name) == now[name]}
    assert same.isdisjoint(found.close)
    assert same.isdisjoint(target.name for target in found.open)


@given(wishes)
def test_nothing_is_to_be_done_twice(now):
    """What is carried out needs no more."""
    assert plan(now, now) == Plan((), ())


@given(regions, static)
def test_nobody_links_to_itself(members, peers):
    """Whoever is in the region, in whatever order."""
    found = wanted(*members, own="901b", peers=peers)
    assert "901b" not in found
    assert all(name == target.name for name, target in found.items())
    assert len(found) == len(peers) + sum(one.name != "901b" for one in members)
