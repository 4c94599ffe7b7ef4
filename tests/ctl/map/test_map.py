"""The map package: one model, one canonical form, three ways to write it."""

import contextlib
import json
import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map.acl import acl, acl_fragment
from derpctl.map.assemble import Entry, assemble
from derpctl.map.canonical import canonical_json, revision, tree_of
from derpctl.map.errors import BadMap, CannotCarry, NodesDisagree
from derpctl.map.headscale import headscale
from derpctl.map.model import DerpMap, HomeParams, Node, Region
from derpctl.map.read import parse_derp_map, read_node


PIN = "sha256-raw:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

EDGE = DerpMap(
    regions={
        901: Region(
            region_id=901,
            region_code="hkg-edge",
            region_name="Hong Kong (edge)",
            latitude=22.3193,
            longitude=114.0,
            nodes=(
                Node(
                    name="901a",
                    region_id=901,
                    host_name="derp-a.example.net",
                    ipv4="203.0.113.10",
                    ipv6="2001:db8:1::10",
                    can_port80=True,
                ),
                Node(
                    name="901b",
                    region_id=901,
                    host_name="derp-b.example.net",
                    ipv4="203.0.113.11",
                    ipv6="none",
                    derp_port=8443,
                    stun_port=3479,
                ),
                Node(
                    name="901c",
                    region_id=901,
                    host_name="203.0.113.12",
                    cert_name=PIN,
                    ipv4="203.0.113.12",
                    ipv6="none",
                ),
            ),
        )
    }
)
"""The reference cluster: two names, and an address with a pin."""

DERPMAP = """\
{
	"Regions": {
		"901": {
			"RegionID": 901,
			"RegionCode": "hkg-edge",
			"RegionName": "Hong Kong (edge)",
			"Latitude": 22.3193,
			"Longitude": 114,
			"Nodes": [
				{
					"Name": "901a",
					"RegionID": 901,
					"HostName": "derp-a.example.net",
					"IPv4": "203.0.113.10",
					"IPv6": "2001:db8:1::10",
					"CanPort80": true
				},
				{
					"Name": "901b",
					"RegionID": 901,
					"HostName": "derp-b.example.net",
					"IPv4": "203.0.113.11",
					"IPv6": "none",
					"STUNPort": 3479,
					"DERPPort": 8443
				},
				{
					"Name": "901c",
					"RegionID": 901,
					"HostName": "203.0.113.12",
					"CertName": "<PIN>",
					"IPv4": "203.0.113.12",
					"IPv6": "none"
				}
			]
		}
	}
}
""".replace("<PIN>", PIN)

ACL = """\
// DERP map of region 901, revision 1ca9d6277a0d.
// The member below belongs at the top level of the policy file.
{
	"derpMap": {
		"OmitDefaultRegions": false,
		"Regions": {
			"901": {
				"RegionID":   901,
				"RegionCode": "hkg-edge",
				"RegionName": "Hong Kong (edge)",
				"Latitude":   22.3193,
				"Longitude":  114,
				"Nodes": [
					{"Name": "901a", "RegionID": 901, "HostName": \
"derp-a.example.net", "IPv4": "203.0.113.10", \
"IPv6": "2001:db8:1::10", "CanPort80": true},
					{"Name": "901b", "RegionID": 901, "HostName": \
"derp-b.example.net", "IPv4": "203.0.113.11", \
"IPv6": "none", "STUNPort": 3479, "DERPPort": 8443},
					// pinned: another certificate needs another map
					{"Name": "901c", "RegionID": 901, "HostName": "203.0.113.12", \
"CertName": "<PIN>", "IPv4": "203.0.113.12", "IPv6": "none"},
				],
			},
		},
	},
}
""".replace("<PIN>", PIN)

HEADSCALE = f"""\
# DERP map, revision 1ca9d6277a0d; headscale shuffles the nodes of a region.
regions:
  901:
    regionid: 901
    regioncode: hkg-edge
    regionname: Hong Kong (edge)
    latitude: 22.3193
    longitude: 114
    nodes:
      - name: 901a
        regionid: 901
        hostname: derp-a.example.net
        ipv4: 203.0.113.10
        ipv6: 2001:db8:1::10
        canport80: true
      - name: 901b
        regionid: 901
        hostname: derp-b.example.net
        ipv4: 203.0.113.11
        ipv6: none
        stunport: 3479
        derpport: 8443
      - name: 901c
        regionid: 901
        hostname: 203.0.113.12
        certname: {PIN}
        ipv4: 203.0.113.12
        ipv6: none
"""


def test_canonical_form():
    """Fields in Go's order, zeros left out, whole floats as Go writes them."""
    assert canonical_json(EDGE) == DERPMAP


def test_acl():
    """A whole policy object, with a revision and no time."""
    assert acl(EDGE) == ACL


def test_acl_fragment():
    """The member alone, to paste between others."""
    lines = ACL.splitlines()[3:-1]
    assert acl_fragment(EDGE).splitlines() == [line[1:] for line in lines]


def test_acl_is_json_but_for_comments_and_commas():
    """What a HuJSON parser does to it gives the map again."""
    bare = re.sub(r",(\s*[]}])", r"\1", re.sub(r"//.*", "", ACL))
    tree = json.loads(bare)["derpMap"]
    assert parse_derp_map(json.dumps(tree)) == EDGE


def test_headscale():
    """Keys in lower case, region ids as numbers, no quotes that are not needed."""
    assert headscale(EDGE) == HEADSCALE
    regions = yaml.safe_load(HEADSCALE)["regions"]
    assert parse_derp_map(json.dumps({"regions": regions})) == EDGE


def test_headscale_quotes_what_yaml_would_retype():
    """A code that reads as a truth value stays text."""
    region = replace(EDGE.regions[901], region_code="no", nodes=())
    assert "regioncode: 'no'\n" in headscale(DerpMap(regions={901: region}))
    assert "    nodes: []\n" in headscale(DerpMap(regions={901: region}))


def test_order_of_regions_does_not_matter():
    """By number, not by text nor by who came first."""
    first, second = Region(region_id=10), Region(region_id=9)
    one = DerpMap(regions={10: first, 9: second})
    other = DerpMap(regions={9: second, 10: first})
    assert canonical_json(one) == canonical_json(other)
    assert list(tree_of(one)["Regions"]) == ["9", "10"]
    assert revision(one) == revision(other) != revision(EDGE)


def test_order_of_nodes_matters():
    """It is the order in which clients try them: another order is another map."""
    region = EDGE.regions[901]
    turned = DerpMap(regions={901: replace(region, nodes=region.nodes[::-1])})
    assert revision(turned) != revision(EDGE)


def test_empty_map():
    """No regions is something that can be said."""
    assert canonical_json(DerpMap()) == '{\n\t"Regions": {}\n}\n'
    assert acl(DerpMap()).startswith("// DERP map of region none, revision ")
    assert headscale(DerpMap()).endswith("\nregions: {}\n")


def test_scores_are_for_plain_maps():
    """A policy file and headscale would lose them without a word."""
    scored = replace(EDGE, home_params=HomeParams(region_score={901: 0.5}))
    tree = json.loads(canonical_json(scored))
    assert tree["HomeParams"] == {"RegionScore": {"901": 0.5}}
    assert parse_derp_map(canonical_json(scored)) == scored
    message = r"^HomeParams\.RegionScore cannot be said in "
    for write in (acl, acl_fragment, headscale):
        with pytest.raises(CannotCarry, match=message):
            write(scored)


def test_omitting_the_default_regions():
    """It is said where there are default regions."""
    alone = replace(EDGE, omit_default_regions=True)
    assert '\t\t"OmitDefaultRegions": true,\n' in acl(alone)
    assert json.loads(canonical_json(alone))["omitDefaultRegions"] is True
    assert parse_derp_map(canonical_json(alone)) == alone


def test_read_is_as_lenient_as_go():
    """Case does not matter, unknown keys and nulls are left out."""
    text = """{"regions": {"901": {"regionid": 901, "NODES": [
        {"name": "901a", "hostname": "a", "New": 1, "IPv4": null}, null],
        "RegionCode": null}, "1": null}, "homeparams": null}"""
    node = Node(name="901a", region_id=0, host_name="a")
    region = Region(region_id=901, nodes=(node,))
    assert parse_derp_map(text) == DerpMap(regions={901: region})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "map = '': not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "map = []: not an object"),
        ('{"Regions": []}', "Regions = []: not an object"),
        ('{"Regions": {"x": {}}}', "Regions = 'x': a region's key is its number"),
        ('{"Regions": {"1": 1}}', "Regions.1 = 1: not an object"),
        (
            '{"Regions": {"1": {"RegionID": 1.0}}}',
            "Regions.1.RegionID = 1.0: not a whole number, written without a point",
        ),
        (
            '{"Regions": {"1": {"RegionID": true}}}',
            "Regions.1.RegionID = True: not a whole number, written without a point",
        ),
        (
            '{"Regions": {"1": {"Latitude": "x"}}}',
            "Regions.1.Latitude = 'x': not a number",
        ),
        (
            '{"Regions": {"1": {"Avoid": 1}}}',
            "Regions.1.Avoid = 1: not true or false",
        ),
        ('{"Regions": {"1": {"Nodes": {}}}}', "Regions.1.Nodes = {}: not a list"),
        (
            '{"Regions": {"1": {"Nodes": [{"IPv4": 1}]}}}',
            "Regions.1.Nodes[0].IPv4 = 1: not text",
        ),
        (
            '{"HomeParams": {"RegionScore": {"1": true}}}',
            "HomeParams.RegionScore.1 = True: not a number",
        ),
    ],
)
def test_read_says_where(text: str, message: str):
    """What Go's decoder refuses is refused, with its place."""
    with pytest.raises(BadMap) as found:
        parse_derp_map(text)
    assert str(found.value) == message


names = st.text("abcdefghij0123456789-.", min_size=1, max_size=12)
ports = st.integers(-1, 65_535)
nodes = st.builds(
    Node,
    name=names,
    region_id=st.integers(1, 65_535),
    host_name=names,
    cert_name=st.sampled_from(["", PIN, "other.example"]),
    ipv4=st.sampled_from(["", "none", "192.0.2.1"]),
    ipv6=st.sampled_from(["", "none", "2001:db8::1"]),
    stun_port=ports,
    stun_only=st.booleans(),
    derp_port=ports,
    insecure_for_tests=st.booleans(),
    stun_test_ip=st.sampled_from(["", "127.0.0.1"]),
    can_port80=st.booleans(),
)
regions = st.builds(
    Region,
    region_id=st.integers(1, 65_535),
    region_code=names,
    region_name=st.text(max_size=20),
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    avoid=st.booleans(),
    no_measure_no_home=st.booleans(),
    nodes=st.lists(nodes, max_size=3).map(tuple),
)
maps = st.builds(
    DerpMap,
    regions=st.dictionaries(st.integers(1, 65_535), regions, max_size=3),
    omit_default_regions=st.booleans(),
)


@given(maps)
def test_reading_what_was_written(derp_map: DerpMap):
    """Canonical JSON carries all of a map, and is the same again."""
    text = canonical_json(derp_map)
    again = parse_derp_map(text)
    assert again == derp_map
    assert canonical_json(again) == text


@given(maps)
def test_headscale_carries_the_regions(derp_map: DerpMap):
    """Whatever the names are, YAML gives the same values back."""
    tree = yaml.safe_load(headscale(derp_map))
    assert parse_derp_map(json.dumps(tree)).regions == derp_map.regions


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=5)
        | st.sampled_from(["Regions", "Nodes", "1"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["Regions", "regions", "1", "Nodes", "RegionID", "HomeParams"]
                ),
                inner,
                max_size=3,
            )
        ),
    )
)
def test_junk_is_refused_in_words(tree: object):
    """JSON of any shape is a map or a `BadMap`, nothing else."""
    with contextlib.suppress(BadMap):
        canonical_json(parse_derp_map(json.dumps(tree)))


def entry(name: str, **region: object) -> Entry:
    """What a node says of itself."""
    node = Node(name=name, region_id=900, host_name=name)
    found = {"region_id": 900, "region_code": "c", "region_name": "n", **region}
    return Entry(node, **found)


def test_assemble():
    """The order of the nodes is that in which they were given."""
    found = assemble([entry("900b"), entry("900a")])
    assert [node.name for node in found.regions[900].nodes] == ["900b", "900a"]
    assert found.regions[900].region_code == "c"
    assert assemble([]) == DerpMap()


def test_assemble_nodes_that_disagree():
    """Both are quoted; which is right is for the operator to say."""
    with pytest.raises(NodesDisagree) as found:
        assemble([entry("900a"), entry("900b", region_code="d")])
    assert str(found.value) == "region.code: 900a says 'c', 900b says 'd'"


def test_assemble_two_of_a_name():
    """Names are unique over the whole map."""
    with pytest.raises(BadMap, match=r"^Regions\.900\.Nodes = '900a': two nodes, one"):
        assemble([entry("900a"), entry("900a")])


def test_read_node():
    """One entry, as a node's admin gives it."""
    node = read_node("x", {"Name": "900a", "HostName": "h", "RegionID": 900})
    assert node == Node(name="900a", region_id=900, host_name="h")
    with pytest.raises(TypeError):
        tree_of("no map at all")
