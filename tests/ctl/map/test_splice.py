"""A map in a policy that people keep: it is in it, and nothing else has moved."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map.acl import acl_region
from derpctl.map.errors import BadMap, CannotCarry
from derpctl.map.hujson import parse_hujson
from derpctl.map.model import DerpMap, HomeParams, Node, Region
from derpctl.map.source import read_any
from derpctl.map.splice import splice
from tests.ctl.map.commented import OBJECTS, written
from tests.ctl.map.drawn import maps
from tests.ctl.map.test_edit import is_kept, spot_of


POLICIES = sorted((Path(__file__).parent / "policies").iterdir())

A = Node(name="900a", region_id=900, host_name="a.example.net", ipv4="8.8.4.4")
OURS = Region(region_id=900, region_code="demo", region_name="Demo", nodes=(A,))
MAP = DerpMap(regions={900: OURS})

GROWN = POLICIES[0].with_name("grown.hujson").read_text()

finite = st.floats(allow_nan=False, allow_infinity=False)


def spliced(text: str, derp_map: DerpMap = MAP, omit: bool | None = None) -> str:
    return splice(text, derp_map, omit_default_regions=omit).text


def variants(text: str) -> list[str]:
    """The same policy as other machines have it."""
    return [text, text.replace("\n", "\r\n"), f"\ufeff{text}", text.replace("\t", "  ")]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
@pytest.mark.parametrize("number", range(4))
def test_policies_from_the_field(path, number):
    """The region is in it; every other byte is there, in order; twice is once."""
    text = variants(path.read_text())[number]
    found = splice(text, MAP)
    assert read_any(found.text.removeprefix("\ufeff"), is_yaml=False) == found.after
    assert found.after.regions[900] == OURS
    old, new = (
        parse_hujson(one.removeprefix("\ufeff")).value for one in (text, found.text)
    )
    assert {**old, "derpMap": 0} == {**new, "derpMap": 0}
    if "900" not in text or path.name == "hostile.hujson":
        assert is_kept(text, found.text)
    assert found.text.count("\r\n") == (found.text.count("\n") if "\r" in text else 0)
    assert splice(found.text, MAP).text == found.text


def test_regions_of_others_stay():
    """So does what is said of them, and what is ours is replaced where it stands."""
    new = spliced(GROWN)
    start, end = (
        GROWN.index('{\n        "RegionID": 900'),
        GROWN.index(',\n      "901"'),
    )
    ours = acl_region(OURS).replace("\n", "\n      ").replace("\t", "  ")
    assert new == GROWN[:start] + ours + GROWN[end:]
    assert splice(GROWN, MAP).before.regions.keys() == {900, 901}
    assert splice(GROWN, MAP).after.omit_default_regions is True


def test_a_region_that_is_the_same_is_not_touched():
    """Whatever order, comments and spelling it has."""
    old = replace(A, ipv4="8.8.8.8")
    same = replace(OURS, region_code="old", region_name="As it was", nodes=(old,))
    assert spliced(GROWN, DerpMap(regions={900: same})) == GROWN
    lower = GROWN.replace('"RegionCode": "old"', '"regioncode": "old", "Avoid": false')
    assert spliced(lower, DerpMap(regions={900: same})) == lower


def test_a_new_region_is_behind_the_others():
    """And behind what is said there."""
    other = replace(
        OURS, region_id=903, nodes=(replace(A, name="903a", region_id=903),)
    )
    new = spliced(GROWN, DerpMap(regions={903: other}))
    at = GROWN.index('    },\n  },\n  "tests"')
    assert new.startswith(GROWN[:at] + '      "903": {\n        "RegionID":   903,\n')
    assert new.endswith("      },\n" + GROWN[at:])


@pytest.mark.parametrize(
    ("omit", "result"),
    [(None, "true"), (True, "true"), (False, "false")],
)
def test_default_regions(omit, result):
    """They stay as they are, unless asked for otherwise."""
    new = spliced(GROWN, omit=omit)
    assert f'"OmitDefaultRegions": {result},' in new
    bare = '{"derpMap": {"Regions": {}}}'
    omits = splice(bare, MAP, omit_default_regions=omit).after.omit_default_regions
    assert omits is bool(omit)
    assert splice("{}", MAP, omit_default_regions=omit).after.omit_default_regions is (
        bool(omit)
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"derpMap": null}',
        '{"DERPMAP": {}}',
        '{"derpMap": {"Regions": null}}',
        '{"derpMap": {"regions": {"900": null}}}',
        '{"derpMap": {"Regions": {"900": 7}}}',
        '{"derpMap": {"Regions": {"900": {"RegionID": "x"}}}}',
    ],
)
def test_parts_that_are_missing(text):
    """They are made, in whatever case the rest is."""
    found = splice(text, MAP)
    assert found.after == MAP
    assert found.before == DerpMap()


def test_a_broken_region_hides_no_other():
    """What is said of the others before is still known, to say what changes."""
    text = GROWN.replace('"RegionID": 900,\n', '"RegionID": 900.5,\n', 1)
    assert splice(text, MAP).before.regions.keys() == {901}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "not a policy, which is an object"),
        ("", "expected a value"),
        ('{"derpMap": 7}', "not an object"),
        ('{"derpMap": {"Regions": 7}}', "not an object"),
        ('{"derpMap": {}, "derpmap": {}}', "it is there more than once; take all but"),
        (
            '{"derpMap": {"Regions": {"900": 1, "900": 2}}}',
            "it is there more than once",
        ),
        ('{"derpMap": {"Regions": {"901": 7}}}', "not an object"),
    ],
)
def test_what_is_refused(text, reason):
    """Nobody can tell what was meant; the place is named."""
    with pytest.raises(BadMap, match=f"^.*{reason}"):
        splice(text, MAP)


def test_region_scores():
    """A policy has no place for them."""
    with pytest.raises(CannotCarry):
        splice("{}", replace(MAP, home_params=HomeParams(region_score={900: 0.5})))


@given(st.data(), OBJECTS, maps(finite))
def test_outside_the_map_no_byte_changes(data, tree, derp_map):
    """Whatever stands around it, whatever is in it, and whatever map comes."""
    ours = replace(derp_map, home_params=None)
    others = st.dictionaries(
        st.sampled_from(["900", "901", "1", "+900"]), st.none(), max_size=3
    )
    tree.pop("derpmap", None)
    tree["derpMap"] = data.draw(
        st.none() | others.map(lambda found: {"Regions": found})
    )
    items = data.draw(st.permutations(list(tree.items())))
    text = data.draw(written(dict(items)))
    new = spliced(text, ours)
    before, after = (spot_of(one, "derpMap") for one in (text, new))
    assert new[: after.start] == text[: before.start]
    assert new[after.end :] == text[before.end :]
    for number, region in ours.regions.items():
        assert (
            read_any(new, is_yaml=False).regions[number]
            == read_any(
                f'{{"Regions": {{"{number}": {acl_region(region)}}}}}', is_yaml=False
            ).regions[number]
        )
    assert spliced(new, ours) == new


@given(st.data(), OBJECTS)
def test_where_there_is_no_map_nothing_is_lost(data, tree):
    """All that was there is there, and the map is the last member."""
    tree.pop("derpmap", None)
    text = data.draw(written(tree))
    new = spliced(text)
    value = parse_hujson(new).value
    assert is_kept(text, new)
    assert list(value) == [*tree, "derpMap"]
    del value["derpMap"]
    assert json.dumps(value) == json.dumps(tree)
