"""The rules for maps: each has a map that breaks it, and its nearest that does not."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map.lint import Severity, Target, Terms, has_errors, lint, summary
from derpctl.map.lint.catalog import RULES
from derpctl.map.model import DerpMap, HomeParams, Node, Region
from derpctl.map.source import judge
from tests.ctl.map.drawn import maps


PIN = f"sha256-raw:{'ab' * 32}"

NODE = Node(
    name="900a", region_id=900, host_name="a.example.net", ipv4="8.8.8.8", ipv6="none"
)
OTHER = replace(NODE, name="900b", ipv4="8.8.4.4")
THIRD = replace(NODE, name="900c", ipv4="9.9.9.9")


def region(*nodes: Node, key: int = 900, **more: object) -> DerpMap:
    """Make a map of one region."""
    about = {"region_id": key, "region_code": "demo", "region_name": "Demo", **more}
    return DerpMap(regions={key: Region(nodes=nodes, **about)})


def node(**more: object) -> DerpMap:
    """Make a map of one node, which is well but for this."""
    return region(replace(NODE, **more))


def elsewhere(key: int) -> DerpMap:
    """Make a map of one region with another number, in which all else is well."""
    return region(replace(NODE, name=f"{key}a", region_id=key), key=key)


def twins(name: str) -> DerpMap:
    """Make a map of two regions, with a node in each."""
    other = replace(OTHER, name=name, region_id=901)
    return both(region(NODE), region(other, key=901, region_code="other"))


def both(*found: DerpMap) -> DerpMap:
    """Put the regions of maps into one."""
    return DerpMap(
        regions={key: one for part in found for key, one in part.regions.items()}
    )


def scored(number: int, score: float, *, omit: bool = False) -> DerpMap:
    """Make a map of two regions with a score."""
    params = HomeParams(region_score={number: score})
    return replace(twins("901a"), home_params=params, omit_default_regions=omit)


def relays(count: int) -> DerpMap:
    """Make a map of one region with so many relays, and one node that is none."""
    nodes = [
        replace(NODE, name=f"900n{number}", ipv4=f"8.8.8.{number}")
        for number in range(count)
    ]
    return region(*nodes, replace(THIRD, stun_only=True))


def two(**more: object) -> DerpMap:
    """Make a map of two nodes; the second is well but for this."""
    return region(NODE, replace(OTHER, **more), THIRD)


def omitting(derp_map: DerpMap) -> DerpMap:
    """Leave out the regions of Tailscale."""
    return replace(derp_map, omit_default_regions=True)


def found(derp_map: DerpMap, **terms: object) -> set[tuple[str, str]]:
    """Give what fired: the rule, and how bad it is."""
    return {(one.rule, one.severity.value) for one in lint(derp_map, Terms(**terms))}


BREAKS = [
    ("DM001", "error", region(NODE, region_id=901), region(NODE, region_id=900)),
    ("DM002", "error", node(region_id=0), node(region_id=900)),
    ("DM002", "error", node(region_id=901), node(region_id=900)),
    ("DM003", "error", elsewhere(65_536), elsewhere(999)),
    ("DM003", "error", elsewhere(0), elsewhere(900)),
    ("DM003", "warning", elsewhere(899), elsewhere(900)),
    ("DM003", "warning", elsewhere(1000), elsewhere(999)),
    ("DM003", "warning", elsewhere(65_535), elsewhere(999)),
    ("DM004", "error", twins("900a"), twins("901a")),
    ("DM004", "error", node(name=""), node(name="900")),
    ("DM004", "warning", node(name="hongkong"), node(name="900hongkong")),
    ("DM004", "warning", node(name="9001"), node(name="900a1")),
    (
        "DM005",
        "error",
        node(stun_only=True),
        region(NODE, replace(NODE, name="900b", stun_only=True)),
    ),
    ("DM005", "error", region(), region(NODE)),
    ("DM006", "error", node(stun_port=-1), node(stun_port=65_535)),
    (
        "DM006",
        "error",
        node(stun_port=65_536),
        region(replace(NODE, stun_port=-1), no_measure_no_home=True),
    ),
    ("DM007", "error", node(host_name=""), node(host_name="a")),
    ("DM007", "error", node(host_name="https://a"), node(host_name="a.")),
    ("DM007", "error", node(host_name="a:443"), node(host_name="2001:db8::1")),
    ("DM007", "error", node(host_name="a b"), node(host_name="a-b")),
    ("DM007", "error", node(host_name="-a"), node(host_name="192.0.2.1")),
    ("DM007", "error", node(host_name="a" * 64), node(host_name="a" * 63)),
    ("DM007", "error", node(host_name="a\n"), node(host_name="a")),
    ("DM007", "error", node(derp_port=65_536), node(derp_port=65_535)),
    ("DM007", "error", node(derp_port=-1), node(derp_port=0)),
    ("DM008", "error", node(ipv4="none"), node(ipv4="none", ipv6="")),
    ("DM008", "error", node(ipv4="2001:db8::1"), node(ipv6="2001:db8::1")),
    ("DM008", "error", node(ipv6="192.0.2.1"), node(ipv6="none")),
    ("DM008", "warning", node(ipv6="off"), node(ipv6="none")),
    ("DM009", "warning", node(ipv4=""), node(ipv4="none", ipv6="2001:db8::1")),
    ("DM010", "error", node(cert_name=PIN.upper()), node(cert_name=PIN)),
    ("DM010", "error", node(cert_name=PIN[:-1]), node(cert_name="b.example.net")),
    ("DM010", "error", node(cert_name=f"{PIN}0"), node(cert_name="")),
    ("DM012", "error", node(insecure_for_tests=True), node(cert_name=PIN)),
    ("DM012", "error", node(stun_test_ip="127.0.0.1"), node(stun_test_ip="")),
    ("DM013", "error", node(can_port80=True, ipv4=""), node(can_port80=True)),
    (
        "DM013",
        "error",
        node(can_port80=True, ipv4="none", ipv6="2606:4700::1"),
        node(ipv4="none", ipv6="2606:4700::1"),
    ),
    ("DM014", "warning", two(ipv4="8.8.8.8"), two()),
    (
        "DM014",
        "warning",
        two(ipv4="8.8.8.8", derp_port=8443, stun_port=-1),
        two(ipv4="none", ipv6="2606:4700::1"),
    ),
    (
        "DM014",
        "warning",
        two(ipv4="8.8.8.8", stun_only=True),
        two(ipv4="8.8.8.8", stun_only=True, stun_port=3479),
    ),
    (
        "DM014",
        "warning",
        region(
            replace(NODE, ipv6="2606:4700::1"),
            replace(OTHER, ipv6="2606:4700:0:0::1"),
        ),
        region(
            replace(NODE, ipv6="2606:4700::1"),
            replace(OTHER, ipv6="2606:4700::2"),
        ),
    ),
    (
        "DM014",
        "warning",
        region(
            NODE, replace(OTHER, ipv4="127.0.0.1"), replace(THIRD, ipv4="127.0.0.1")
        ),
        region(
            replace(OTHER, ipv4="127.0.0.1"),
            replace(THIRD, ipv4="127.0.0.1", derp_port=8443, stun_port=3479),
        ),
    ),
    (
        "DM015",
        "warning",
        both(region(NODE), region(OTHER, key=901)),
        both(region(NODE), region(OTHER, key=901, region_code="other")),
    ),
    ("DM015", "warning", region(NODE, region_code="Demo"), region(NODE)),
    ("DM015", "warning", region(NODE, region_code=""), region(NODE, region_code="0")),
    (
        "DM015",
        "warning",
        region(NODE, region_code="a" * 33),
        region(NODE, region_code="a" * 32),
    ),
    ("DM015", "warning", region(NODE, region_name=""), region(NODE, region_name="n")),
    (
        "DM016",
        "warning",
        region(NODE, avoid=True),
        region(NODE, no_measure_no_home=True),
    ),
    ("DM017", "warning", scored(900, 0), scored(900, 1)),
    ("DM017", "warning", scored(900, -1), scored(900, 0.1)),
    ("DM017", "warning", scored(900, 10.5), scored(900, 10)),
    ("DM017", "warning", scored(900, 0.09), scored(901, 0.5)),
    ("DM017", "warning", scored(900, math.nan), scored(900, 2)),
    ("DM017", "warning", scored(902, 1), scored(901, 1)),
    ("DM017", "warning", scored(1, 1, omit=True), scored(1, 1)),
    ("DM018", "warning", omitting(node()), omitting(twins("901a"))),
    ("DM018", "warning", omitting(DerpMap()), DerpMap()),
    ("DM018", "warning", omitting(node()), node()),
    ("DM019", "warning", node(ipv4="10.0.0.1"), node(ipv4="11.0.0.1")),
    ("DM019", "warning", node(ipv4="100.64.0.1"), node(ipv4="100.63.255.255")),
    ("DM019", "warning", node(ipv4="169.254.0.1"), node(ipv4="169.253.0.1")),
    ("DM019", "warning", node(ipv4="192.0.2.1"), node(ipv4="192.0.3.1")),
    ("DM019", "warning", node(ipv4="224.0.0.1"), node(ipv4="none", ipv6="")),
    ("DM019", "warning", node(ipv6="fd7a:115c:a1e0::1"), node(ipv6="2606:4700::1")),
    ("DM019", "warning", node(ipv6="fe80::1%eth0"), node(ipv6="2606:4700::1")),
    ("DM019", "warning", node(ipv6="::ffff:8.8.8.8"), node(ipv6="2606:4700::1")),
    ("DM019", "warning", two(ipv4="127.0.0.1"), two()),
    ("DM019", "info", node(ipv4="127.0.0.1"), node()),
    ("DM019", "info", node(ipv4="127.9.0.1", ipv6="::1"), node()),
    ("DM020", "warning", relays(7), relays(6)),
    ("DM020", "info", relays(2), relays(1)),
    ("DM020", "info", relays(2), relays(3)),
    (
        "DM026",
        "warning",
        region(NODE, latitude=50.0),
        region(NODE, latitude=50.0, longitude=14.0),
    ),
    (
        "DM026",
        "warning",
        region(NODE, longitude=14.0),
        region(NODE, latitude=0.001, longitude=14.0),
    ),
    (
        "DM026",
        "warning",
        region(NODE, latitude=90.1, longitude=14.0),
        region(NODE, latitude=90.0, longitude=-180.0),
    ),
    (
        "DM026",
        "warning",
        region(NODE, latitude=-50.0, longitude=180.1),
        region(NODE),
    ),
]

FOR_HEADSCALE = [
    ("DM022", elsewhere(999), elsewhere(998)),
    ("DM023", two(), node()),
]


_ONE = '"1": {"RegionID": 1, "Nodes": []}'
_LOWER = "{regions: {900: {regionid: 900, nodes: [{name: 900a}]}}}"

IN_FILES = [
    ("DM024", "error", _LOWER.replace("name", "Name"), _LOWER),
    ("DM024", "error", _LOWER.replace("regions", "Regions"), _LOWER),
    ("DM024", "warning", _LOWER.replace("{900", "{7: null, 900"), _LOWER),
    ("DM025", "error", "{", f'{{"Regions": {{{_ONE}}}}}'),
    ("DM025", "error", "", '{"Regions": {}}'),
    ("DM025", "error", '{"acls": []}', '{"derpMap": {"Regions": {}}}'),
    ("DM025", "error", '{"Regions": []}', '{"Regions": null}'),
    ("DM025", "error", _ONE.join(("{", "}")), f'{{"Regions": {{{_ONE}}}}}'),
    (
        "DM025",
        "error",
        f'{{"Regions": {{{_ONE.replace(": 1", ": 1.0")}}}}}',
        f'{{"Regions": {{{_ONE}}}}}',
    ),
    ("DM025", "error", '{"Regions": {"x": {}}}', '{"Regions": {"1": null}}'),
    ("DM025", "error", "#" * ((1 << 20) + 1) + "\n{}", '{"Regions": {}}'),
]
"""What is wrong with a text, and its nearest that is well."""

ONLINE = {"DM011", "DM021", "DM027"}
"""Rules that only nodes make fire: see tests/ctl/test_lint_online.py."""


@pytest.mark.parametrize(("rule", "severity", "broken", "sound"), IN_FILES)
def test_rules_of_files(rule, severity, broken, sound):
    """They fire on the one text, and not on its neighbour."""
    fired = {
        (one.rule, one.severity.value)
        for one in judge(broken, is_yaml=not is_json(broken)).findings
    }
    assert (rule, severity) in fired
    assert rule not in {
        one.rule for one in judge(sound, is_yaml=not is_json(sound)).findings
    }


def is_json(text: str) -> bool:
    """Tell what is YAML here by a key without quotes."""
    return "regions" not in text.lower() or '"' in text


def test_every_rule_is_shown_both_ways():
    """None is without a map that breaks it, as badly as it can be broken."""
    shown = {(rule, severity) for rule, severity, _, _ in (*BREAKS, *IN_FILES)}
    shown |= {(rule, "warning") for rule, _, _ in FOR_HEADSCALE}
    wanted = {
        (rule.number, severity.value)
        for rule in RULES
        for severity in rule.severities
        if rule.number not in ONLINE
    }
    assert shown - {("DM012", "warning")} == wanted - {("DM012", "warning")}


@pytest.mark.parametrize(("rule", "severity", "broken", "sound"), BREAKS)
def test_rule(rule, severity, broken, sound):
    """It fires on the one, and not on its neighbour."""
    assert (rule, severity) in found(broken)
    assert rule not in {name for name, _ in found(sound)}


def test_a_sound_map():
    """Nothing fires."""
    assert lint(twins("901a")) == []


@pytest.mark.parametrize(("rule", "broken", "sound"), FOR_HEADSCALE)
def test_rules_of_headscale(rule, broken, sound):
    """They are for its maps alone."""
    assert (rule, "warning") in found(broken, target=Target.HEADSCALE)
    assert rule not in {name for name, _ in found(sound, target=Target.HEADSCALE)}
    for target in (None, Target.TAILSCALE):
        assert rule not in {name for name, _ in found(broken, target=target)}


def test_what_headscale_does_not_know():
    """It adds no regions to a map, and leaves none out."""
    terms = Terms(target=Target.HEADSCALE)
    assert lint(omitting(node()), terms) == []
    (one,) = lint(scored(1, 1), terms)
    assert (one.rule, one.path) == ("DM017", "HomeParams.RegionScore.1")


def test_insecure():
    """Who means it is warned."""
    broken = node(insecure_for_tests=True, stun_test_ip="127.0.0.1")
    assert found(broken) == {("DM012", "error")}
    assert found(broken, allow_insecure=True) == {("DM012", "warning")}


def test_a_trial():
    """Three nodes at one address of loopback are one remark."""
    nodes = [
        replace(one, ipv4="127.0.0.1", derp_port=port, stun_port=port)
        for port, one in enumerate((NODE, OTHER, THIRD), 8443)
    ]
    assert found(region(*nodes)) == {("DM019", "info")}


def said(derp_map: DerpMap, **terms: object) -> list[str]:
    """Give all findings as they are printed."""
    return [str(one) for one in lint(derp_map, Terms(**terms))]


def test_words():
    """What is there, why it will not do, what would."""
    broken = replace(
        region(
            replace(NODE, insecure_for_tests=True, stun_test_ip="127.0.0.1"),
            replace(OTHER, ipv4="8.8.8.8", derp_port=8443, stun_port=-1),
            replace(THIRD, ipv4="10.0.0.1", derp_port=8443, can_port80=True),
            replace(THIRD, name="900d", ipv4="10.0.0.1", derp_port=8443, stun_port=-1),
            replace(THIRD, name="900e", ipv4="none", ipv6="", can_port80=True),
            region_code="Hong Kong",
            region_name="",
            avoid=True,
            latitude=91.0,
        ),
        home_params=HomeParams(region_score={900: 50.0, 901: 1.0, 1: 0.0}),
        omit_default_regions=True,
    )
    assert said(broken) == [
        "DM017: HomeParams.RegionScore.1: 0 is for a region that is not in the map;"
        " correct the number",
        "DM017: HomeParams.RegionScore.900: latencies count times 50, so that measuring"
        " hardly matters; keep to 0.1 to 10",
        "DM017: HomeParams.RegionScore.901: 1 is for a region that is not in the map;"
        " correct the number",
        "DM012: Regions.900.Nodes[0].InsecureForTests: true, so that clients take any"
        " certificate, and anybody on the way may be the relay; pin it instead:"
        " CertName sha256-raw:…",
        "DM012: Regions.900.Nodes[0].STUNTestIP: '127.0.0.1' is measured instead of the"
        " node, as only tests want it; take STUNTestIP out",
        "DM013: Regions.900.Nodes[4].CanPort80: true without an IPv4 address, which is"
        " where clients look for captive portals; give IPv4, or take CanPort80 out",
        "DM014: Regions.900.Nodes[1].IPv4: 8.8.8.8 is the address of"
        " Regions.900.Nodes[0] too, so that both are lost together; give each its own",
        "DM014: Regions.900.Nodes[3].IPv4: 10.0.0.1, relay port 8443, is"
        " Regions.900.Nodes[2]'s too, so that one server counts as two; give each its"
        " own, or take one out",
        "DM015: Regions.900.RegionCode: 'Hong Kong' is awkward to type and to label"
        " with; use 1 to 32 of a to z, 0 to 9 and -",
        "DM015: Regions.900.RegionName: the region has no name, which is what clients"
        " show to people; give it one",
        "DM016: Regions.900.Avoid: true, which is deprecated and not the same to all"
        " clients; set NoMeasureNoHome instead, if nobody shall be at home there",
        "DM019: Regions.900.Nodes[2].IPv4: 10.0.0.1 is private, so that clients"
        " elsewhere do not reach it; give the public address",
        "DM019: Regions.900.Nodes[3].IPv4: 10.0.0.1 is private, so that clients"
        " elsewhere do not reach it; give the public address",
        "DM026: Regions.900.Latitude: 91 is not in -90 to 90; give degrees",
        "DM026: Regions.900.Longitude: Latitude is 91, but Longitude is not set, and 0"
        " is the same; give both, if only nearly 0, or none",
        "DM018: omitDefaultRegions: true, and clients have one region with none beside"
        " it if it is lost; add another, or keep Tailscale's",
    ]


_terms = st.builds(
    Terms,
    allow_system_ids=st.booleans(),
    allow_insecure=st.booleans(),
    target=st.none() | st.sampled_from(Target),
)


@given(maps(st.floats()), _terms)
def test_any_map(derp_map: DerpMap, terms: Terms):
    """Whatever is in it, findings come out, each with a place and words."""
    for one in lint(derp_map, terms):
        assert one.path.split(".")[0] in {"HomeParams", "Regions", "omitDefaultRegions"}
        assert one.message
        assert str(one).isprintable()


@given(maps(st.floats()))
def test_leave_only_makes_milder(derp_map: DerpMap):
    """What is allowed never adds a finding, and takes no error but its own away."""
    strict = lint(derp_map)
    mild = lint(derp_map, Terms(allow_system_ids=True, allow_insecure=True))
    assert {(one.rule, one.path) for one in mild} <= {
        (one.rule, one.path) for one in strict
    }
    errors = {(one.rule, one.path) for one in strict if one.severity is Severity.ERROR}
    assert {
        rule
        for rule, _ in errors
        - {(one.rule, one.path) for one in mild if one.severity is Severity.ERROR}
    } <= {"DM012"}


def test_system_ids():
    """Somebody who may have them is not warned, but numbers end all the same."""
    terms = Terms(allow_system_ids=True)
    assert lint(elsewhere(1), terms) == []
    assert has_errors(lint(elsewhere(65_536), terms))


def test_finding():
    """It names the place; where there is no file, there is no line, and no mending."""
    (one,) = lint(region(NODE, region_id=901))
    assert str(one) == (
        "DM001: Regions.900.RegionID: RegionID is 901, but the region is filed under "
        "900; make both the same"
    )
    assert one.members()["fixable"] is False
    assert one.members()["line"] is None


def test_summary():
    """The counts, or that there are none; only errors are errors."""
    warned = lint(node(ipv4="", name="x"))
    broken = lint(node(host_name=""))
    assert summary([]) == "nothing is wrong"
    assert summary(warned) == "2 warnings"
    assert summary(broken + warned) == "1 error, 2 warnings"
    assert (has_errors(warned), has_errors(broken)) == (False, True)
    assert summary(lint(relays(2))) == "1 info"
    assert warned[0].severity is Severity.WARNING
