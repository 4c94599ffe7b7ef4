"""What holds for every region that can be recorded, through every form of its map."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.cluster import map_of
from derpctl.export import Manner, render
from derpctl.map.canonical import canonical_json
from derpctl.map.lint import Severity, Terms, has_errors, lint
from derpctl.map.read import parse_derp_map
from derpctl.map.source import judge, read_any
from derpctl.wanted.importing import import_map, merge
from derpmesh.membership.model import Member, Region
from tests.ctl.map.drawn import PIN, maps


CARRIED = {
    "acl": Manner(),
    "fragment": Manner(fragment=True),
    "plain": Manner(plain=True),
    "derpmap": Manner(),
    "headscale": Manner(),
}
"""Forms that say all of a map, and can be read."""

FORMS = ("acl", "derpmap", "headscale", "headscale-config", "derpprobe", "terraform")

_ports = st.integers(1, 65_535)
_v4 = st.ip_addresses(v=4, network="8.8.0.0/16").map(str)
_v6 = st.ip_addresses(v=6, network="2a00::/16").map(str)
_names = st.sampled_from(["a.example.net", "derp-1.example.org", "x.y"])


@st.composite
def nodes(draw, letter):
    """Draw what a node may say of itself."""
    said = {
        "host": draw(_names | _v4 | _v6),
        "ipv4": draw(st.none() | _v4 | st.just("none")),
        "ipv6": draw(st.none() | _v6 | st.just("none")),
        "derp_port": draw(st.just(443) | _ports),
        "stun_port": draw(st.just(3478) | st.just(-1) | _ports),
        "pin": draw(st.none() | st.just(PIN)),
        "stun_only": draw(st.booleans()),
        "can_port80": draw(st.booleans()),
    }
    known = {name: value for name, value in said.items() if value is not None}
    return Member.model_validate({"name": f"900{letter}", **known})


_words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)


@st.composite
def regions(draw):
    """Draw a region and its nodes, in any order."""
    region = Region(
        id=900,
        code=draw(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)),
        name=draw(_words),
        latitude=draw(st.floats(-90, 90)),
        longitude=draw(st.floats(-180, 180)),
        measure=draw(st.booleans()),
    )
    letters = draw(st.lists(st.sampled_from("abcdef"), max_size=4, unique=True))
    return region, [draw(nodes(letter)) for letter in letters]


@pytest.mark.parametrize("form", CARRIED)
@given(regions())
def test_import_of_an_export(form, drawn):
    """What is written and taken over again is the same map, and the same records."""
    region, members = drawn
    there = map_of(region, members)
    name = form if form in FORMS else "acl"
    text = render(there, name, manner=CARRIED[form])
    again = read_any(text, is_yaml=form == "headscale")
    assert canonical_json(again) == canonical_json(there)
    if has_errors(lint(there, Terms())):
        return  # what would not work is not taken over
    found = import_map(again, "it", None)
    wanted = merge(None, found, replace=False)
    assert not found.difference.changes
    assert map_of(wanted.intent.region, wanted.members) == there
    assert [one.name for one in wanted.members] == [one.name for one in members]


def shuffled(tree, chance):
    """Give the same tree with the members of objects in another order."""
    if isinstance(tree, list):
        return [shuffled(item, chance) for item in tree]
    if not isinstance(tree, dict):
        return tree
    keys = list(tree)
    chance.shuffle(keys)
    return {key: shuffled(tree[key], chance) for key in keys}


@given(maps(st.floats(allow_nan=False, allow_infinity=False)), st.randoms())
def test_canonical_bytes_know_no_order(derp_map, chance: random.Random):
    """Members and regions may come in any: the same map is the same bytes."""
    text = canonical_json(derp_map)
    other = json.dumps(shuffled(json.loads(text), chance))
    assert canonical_json(parse_derp_map(other)) == text


@given(regions(), st.sampled_from(FORMS))
def test_clean_maps_are_written(drawn, form):
    """What keeps every rule can be said in every form, and keeps the rules there."""
    there = map_of(*drawn)
    if has_errors(lint(there, Terms())):
        return
    manner = Manner(url="https://map.example.net/derpmap/default")
    text = render(there, form, manner=manner)
    assert text.endswith("\n")
    if form in ("acl", "derpmap", "headscale"):
        found = judge(text, is_yaml=form == "headscale").findings
        assert not [one for one in found if one.severity is Severity.ERROR]
