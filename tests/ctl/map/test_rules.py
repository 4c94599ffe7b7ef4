"""The rules for maps: each has a map that breaks it, and its nearest that does not."""

from dataclasses import replace

import pytest

from derpctl.map.lint import Severity, has_errors, lint, summary
from derpctl.map.model import DerpMap, Node, Region


PIN = f"sha256-raw:{'ab' * 32}"

NODE = Node(
    name="900a", region_id=900, host_name="a.example.net", ipv4="192.0.2.1", ipv6="none"
)


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
    other = replace(NODE, name=name, region_id=901)
    return DerpMap(
        regions=dict(region(NODE).regions) | dict(region(other, key=901).regions)
    )


def found(derp_map: DerpMap) -> set[tuple[str, str]]:
    """Give what fired: the rule, and how bad it is."""
    return {(one.rule, one.severity.value) for one in lint(derp_map)}


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
    ("DM008", "error", node(ipv4="none"), node(ipv4="none", ipv6="")),
    ("DM008", "error", node(ipv4="2001:db8::1"), node(ipv6="2001:db8::1")),
    ("DM008", "error", node(ipv6="192.0.2.1"), node(ipv6="none")),
    ("DM008", "warning", node(ipv6="off"), node(ipv6="none")),
    ("DM009", "warning", node(ipv4=""), node(ipv4="none", ipv6="2001:db8::1")),
    ("DM010", "error", node(cert_name=PIN.upper()), node(cert_name=PIN)),
    ("DM010", "error", node(cert_name=PIN[:-1]), node(cert_name="b.example.net")),
    ("DM010", "error", node(cert_name=f"{PIN}0"), node(cert_name="")),
]


@pytest.mark.parametrize(("rule", "severity", "broken", "sound"), BREAKS)
def test_rule(rule, severity, broken, sound):
    """It fires on the one, and not on its neighbour."""
    assert (rule, severity) in found(broken)
    assert rule not in {name for name, _ in found(sound)}


def test_a_sound_map():
    """Nothing fires."""
    assert lint(twins("901a")) == []


def test_system_ids():
    """Somebody who may have them is not warned, but numbers end all the same."""
    assert lint(elsewhere(1), allow_system_ids=True) == []
    assert has_errors(lint(elsewhere(65_536), allow_system_ids=True))


def test_finding():
    """It names the place, and whether only one thing can be meant."""
    (one,) = lint(region(NODE, region_id=901))
    assert str(one) == (
        "DM001: Regions.900.RegionID: RegionID is 901, but the region is filed under "
        "900; make both the same"
    )
    assert one.members()["fixable"] is True
    assert one.members()["line"] is None


def test_summary():
    """The counts, or that there are none; only errors are errors."""
    warned = lint(node(ipv4="", name="x"))
    broken = lint(node(host_name=""))
    assert summary([]) == "nothing is wrong"
    assert summary(warned) == "2 warnings"
    assert summary(broken + warned) == "1 error, 2 warnings"
    assert (has_errors(warned), has_errors(broken)) == (False, True)
    assert warned[0].severity is Severity.WARNING
