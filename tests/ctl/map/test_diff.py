"""What differs between two maps: each kind of change, and whom it disconnects."""

from dataclasses import fields, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from derpctl.map.canonical import revision
from derpctl.map.diff import diff
from derpctl.map.model import DerpMap, HomeParams, Node, Region
from tests.ctl.map.drawn import PIN, maps


A = Node(name="900a", region_id=900, host_name="a.example.net", ipv4="8.8.8.8")
B = replace(A, name="900b", host_name="b.example.net", ipv4="8.8.4.4")
C = replace(A, name="900c", host_name="c.example.net", ipv4="9.9.9.9")
HERE = Region(region_id=900, region_code="here", region_name="Here", nodes=(A, B))
THERE = Region(region_id=901, region_code="there", region_name="There")

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def having(*regions: Region, scores: dict[int, float] | None = None) -> DerpMap:
    """Make a map."""
    params = None if scores is None else HomeParams(region_score=scores)
    return DerpMap(
        regions={region.region_id: region for region in regions}, home_params=params
    )


def lines(before: DerpMap, after: DerpMap, **options: bool) -> list[str]:
    """Compare; give the words."""
    return list(diff(before, after, **options).lines())


def test_no_difference():
    """It is said."""
    assert lines(having(HERE), having(HERE)) == ["no difference"]
    assert lines(DerpMap(), DerpMap()) == ["no difference"]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (replace(A, ipv4="8.8.8.9"), 'IPv4 changed from "8.8.8.8" to "8.8.8.9"'),
        (replace(A, ipv4=""), 'IPv4 removed: "8.8.8.8"'),
        (replace(A, cert_name=PIN), f'CertName added: "{PIN}"'),
        (replace(A, derp_port=8443), "DERPPort added: 8443"),
        (replace(A, can_port80=True), "CanPort80 added: true"),
        (replace(A, host_name=""), 'HostName changed from "a.example.net" to ""'),
    ],
)
def test_a_field_of_a_node(node, words):
    """Its clients reconnect, whatever it is; so they do the other way."""
    changed = having(replace(HERE, nodes=(node, B)))
    assert lines(having(HERE), changed) == [
        f"region 900, node 900a: {words}",
        "all clients of region 900 reconnect",
    ]
    assert lines(changed, having(HERE))[-1] == "all clients of region 900 reconnect"


def test_a_field_of_a_region():
    """The name will do to disconnect everybody."""
    changed = replace(HERE, region_name="Hier", latitude=50.0)
    assert lines(having(HERE, THERE), having(changed, THERE)) == [
        'region 900: RegionName changed from "Here" to "Hier"',
        "region 900: Latitude added: 50",
        "all clients of region 900 reconnect",
    ]


def test_nodes():
    """One comes, one goes; that the others move up is no change of order."""
    after = having(replace(HERE, nodes=(C, B)))
    assert lines(having(HERE), after) == [
        'region 900, node 900a: removed: Name "900a", RegionID 900,'
        ' HostName "a.example.net", IPv4 "8.8.8.8"',
        'region 900, node 900c: added: Name "900c", RegionID 900,'
        ' HostName "c.example.net", IPv4 "9.9.9.9"',
        "all clients of region 900 reconnect",
    ]


def test_order():
    """It is the order in which clients try them, so that it disconnects them."""
    turned = having(replace(HERE, nodes=(B, A)))
    assert lines(having(HERE), turned) == [
        "region 900: order of Nodes changed from 900a, 900b to 900b, 900a",
        "all clients of region 900 reconnect",
    ]
    assert lines(having(HERE), turned, ignore_order=True) == ["no difference"]


def test_regions():
    """Who has a new one loses nothing; who had an old one does."""
    assert lines(having(HERE), having(HERE, THERE)) == [
        'region 901: added: RegionID 901, RegionCode "there", RegionName "There",'
        " Nodes none",
        "no connection is dropped",
    ]
    assert lines(having(HERE, THERE), DerpMap()) == [
        'region 900: removed: RegionID 900, RegionCode "here", RegionName "Here",'
        " Nodes 900a, 900b",
        'region 901: removed: RegionID 901, RegionCode "there", RegionName "There",'
        " Nodes none",
        "all clients of regions 900, 901 reconnect",
    ]


def test_the_map_itself():
    """Scores and the regions of Tailscale leave connections alone."""
    before = having(HERE, scores={900: 2.0, 901: 1.0})
    after = replace(having(HERE, scores={900: 0.5, 1: 3}), omit_default_regions=True)
    assert lines(before, after) == [
        "HomeParams.RegionScore.900 changed from 2 to 0.5",
        "HomeParams.RegionScore.901 removed: 1",
        "HomeParams.RegionScore.1 added: 3",
        "omitDefaultRegions added: true",
        "no connection is dropped",
    ]


def test_two_of_a_name():
    """They are compared by turns; a name that is empty is seen."""
    nameless = replace(A, name="")
    twins = replace(HERE, nodes=(nameless, replace(nameless, ipv4="8.8.4.4")))
    changed = replace(HERE, nodes=(nameless, replace(nameless, ipv4="9.9.9.9")))
    assert lines(having(twins), having(changed))[0] == (
        'region 900, node "": IPv4 changed from "8.8.4.4" to "9.9.9.9"'
    )


def test_members():
    """JSON has the place in parts, and the values as they are in maps."""
    (one,) = diff(having(HERE), having(replace(HERE, nodes=(A, B, C)))).changes
    assert one.members() == {
        "region": 900,
        "node": "900c",
        "field": "",
        "change": "added",
        "before": None,
        "after": {
            "Name": "900c",
            "RegionID": 900,
            "HostName": "c.example.net",
            "IPv4": "9.9.9.9",
        },
    }


def test_every_field_counts():
    """Whichever field of a node or a region is another, clients reconnect."""
    for field in fields(Node):
        old = getattr(A, field.name)
        new = replace(A, **{field.name: f"{old}x" if isinstance(old, str) else old + 1})
        found = diff(having(HERE), having(replace(HERE, nodes=(new, B))))
        assert found.reconnecting == [900], field.name
    for field in fields(Region):
        if field.name in {"nodes", "region_id"}:
            continue
        old = getattr(HERE, field.name)
        new = replace(
            HERE, **{field.name: f"{old}x" if isinstance(old, str) else old + 1}
        )
        assert diff(having(HERE), having(new)).reconnecting == [900], field.name


@given(maps(FINITE))
def test_a_map_does_not_differ_from_itself(derp_map):
    """Nor is there anything in it that is not compared with itself."""
    assert lines(derp_map, derp_map) == ["no difference"]


@given(maps(FINITE), maps(FINITE))
@example(having(HERE), having(replace(HERE, nodes=(B, A))))
@example(having(scores={}), having())
def test_difference_is_another_revision(before, after):
    """There is one just where the canonical forms differ."""
    assert bool(diff(before, after).changes) == (revision(before) != revision(after))
    assert bool(diff(after, before).changes) == (revision(before) != revision(after))


@given(maps(FINITE), maps(FINITE))
def test_who_reconnects(before, after):
    """The regions that were there, and are not the same any more."""

    def of(derp_map, number):
        region = derp_map.regions.get(number)
        return region and revision(DerpMap(regions={number: region}))

    expected = [
        number
        for number in sorted(before.regions)
        if of(before, number) != of(after, number)
    ]
    assert diff(before, after).reconnecting == expected


@given(st.data(), st.permutations([A, B, C]))
def test_ignoring_the_order(data, nodes):
    """Shuffled as by headscale, the map is the same; any other change is seen."""
    before = having(replace(HERE, nodes=(A, B, C)))
    shuffled = having(replace(HERE, nodes=tuple(nodes)))
    assert lines(before, shuffled, ignore_order=True) == ["no difference"]
    number = data.draw(st.integers(0, 2))
    nodes[number] = replace(nodes[number], derp_port=8443)
    changed = having(replace(HERE, nodes=tuple(nodes)))
    assert lines(before, changed, ignore_order=True) == [
        f"region 900, node {nodes[number].name}: DERPPort added: 8443",
        "all clients of region 900 reconnect",
    ]
