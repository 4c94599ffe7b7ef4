"""Maps in what people keep them in: which form it is, what is wrong, in which line."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from derpctl.map.canonical import canonical_json
from derpctl.map.errors import BadMap
from derpctl.map.judged import Judged
from derpctl.map.lint import Target, Terms, lint
from derpctl.map.source import judge, read_any
from tests.ctl.map.drawn import maps


HUJSON = """\
// ours
{
  "Regions": {
    /* the one */
    "900": {
      "RegionID": 900, "RegionCode": "demo", "RegionName": "Demo",
      "Nodes": [
        {
          "Name": "900a", "RegionID": 900,
          "HostName": "a:443",
          "IPv4": "8.8.8.8",
        },
      ],
    },
  },
}
"""

YAML = """\
# ours
regions:
  900:
    regionid: 900
    regioncode: demo
    regionname: Demo
    nodes:
      - name: 900a
        regionid: 900
        hostname: a:443
        ipv4: 8.8.8.8
"""

SAME_KEYS = "".join(
    f"a{level}: &a{level} {{{', '.join(['x: ' + below] * 9)}}}\n"
    for level in range(20)
    for below in [f"*a{level - 1}" if level else "1"]
)
"""Aliases that unfold to 9 ** 20 values, all at the same path."""


def judged(text: str, *, is_yaml: bool = False) -> tuple[str, list[tuple]]:
    """Give the form, and the rules that fired with their lines."""
    found = judge(text, is_yaml=is_yaml)
    return found.form, [(one.rule, one.line) for one in found.findings]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines(ending):
    """Each form has the line of the value that is wrong."""
    policy = f'{{"acls": [],\n"derpMap":\n{HUJSON}}}'
    fragment = f'"derpMap":\n{HUJSON},'
    assert judged(HUJSON.replace("\n", ending)) == ("derpmap", [("DM007", 10)])
    assert judged(policy.replace("\n", ending)) == ("acl", [("DM007", 12)])
    assert judged(fragment.replace("\n", ending)) == ("acl", [("DM007", 11)])
    assert judged(YAML.replace("\n", ending)) == ("headscale", [("DM007", 10)])


def test_sound():
    """Nothing is found where nothing is wrong."""
    sound = HUJSON.replace("a:443", "a")
    derp_map = read_any(sound, is_yaml=False)
    assert judge(sound, is_yaml=False) == Judged("derpmap", [], derp_map)
    assert judged(YAML.replace("a:443", "a"), is_yaml=True) == ("headscale", [])


def test_a_missing_member_has_the_line_around_it():
    """The line is that of the node."""
    text = HUJSON.replace('"HostName": "a:443",', "")
    assert judged(text) == ("derpmap", [("DM007", 8)])


def test_wrong_case():
    """Headscale leaves out what is not lower-case, and so do we, after saying it."""
    text = YAML.replace("hostname: a:443", "HostName: a")
    assert judged(text) == ("headscale", [("DM024", 10), ("DM007", 10)])
    assert judged("Regions: {}")[1][0] == ("DM024", 1)


MANY = """\
{"Regions": {"999": {"RegionID": 999, "RegionCode": "demo", "RegionName": "Demo",
"Nodes": [{"Name": "999a", "RegionID": 999, "HostName": "a", "IPv4": "8.8.8.8"},
{"Name": "999b", "RegionID": 999, "HostName": "b", "IPv4": "8.8.4.4"},
{"Name": "999c", "RegionID": 999, "HostName": "c", "IPv4": "9.9.9.9",
"InsecureForTests": true}]}},
"HomeParams": {"RegionScore": {"900": 1}},
"OmitDefaultRegions": true}
"""


def test_lines_of_all_parts():
    """Scores and members of the map have theirs, too."""
    assert judged(MANY) == ("derpmap", [("DM017", 6), ("DM012", 5), ("DM018", 7)])


def test_who_hands_it_out():
    """YAML is headscale's, unless somebody says whose it is."""
    lower = MANY.lower()
    rules = {
        (is_yaml, target): {
            one.rule
            for one in judge(
                lower if is_yaml else MANY, is_yaml=is_yaml, terms=Terms(target=target)
            ).findings
        }
        for is_yaml in (True, False)
        for target in (None, *Target)
    }
    assert rules[True, None] == rules[True, Target.HEADSCALE]
    assert rules[False, None] == rules[False, Target.TAILSCALE]
    theirs = {"DM022", "DM023"}
    assert {key: found & theirs for key, found in rules.items()} == {
        (True, None): theirs,
        (True, Target.TAILSCALE): set(),
        (True, Target.HEADSCALE): theirs,
        (False, None): set(),
        (False, Target.TAILSCALE): set(),
        (False, Target.HEADSCALE): theirs,
    }


@pytest.mark.parametrize(
    ("text", "form", "line"),
    [
        ("", "headscale", None),
        ("{\n]", "derpmap", 2),
        ('{"acls": []}', "derpmap", 1),
        ('{"derpMap": null}', "acl", 1),
        ('{\n"Regions": 7}', "derpmap", 2),
        ("regions:\n\t900: {}", "headscale", 2),
        ("a: [\nb: {", "headscale", 2),
        ("a: \x00", "headscale", 1),
        ("[" * 5_000, "derpmap", 1),
        ("- " * 5_000 + "a", "headscale", 1),
        ("&a [*a]", "headscale", 1),
        ("a: !!int ''", "headscale", 1),
        ("a: !!bool x", "headscale", 1),
        ("a: !!timestamp x", "headscale", 1),
        ("a: 2026-99-99", "headscale", 1),
        (f"a: 0x{'f' * 5_000}", "headscale", 1),
        (f"\n0x{'f' * 5_000}: a", "headscale", 2),
        (f'{{"Regions": {{"{"9" * 5_000}": {{}}}}}}', "derpmap", 1),
        (f'{{"Regions": {{"9": {{"RegionID": {"9" * 20}}}}}}}', "derpmap", 1),
        (f'{{"Regions": {{"9": {{"Latitude": {"9" * 399}}}}}}}', "derpmap", 1),
        ('{"Regions": {"9": {"Latitude": 1e999}}}', "derpmap", 1),
        (SAME_KEYS, "headscale", 1),
    ],
)
def test_what_is_no_map(text, form, line):
    """One finding or more, all of them errors, and no traceback."""
    found = judge(text, is_yaml=False)
    assert found.form == form
    assert {one.rule for one in found.findings} <= {"DM024", "DM025"}
    if line is not None:
        assert found.findings
        assert found.findings[0].line is not None


def test_too_large():
    """Clients read a mebibyte, and no more."""
    text = HUJSON.replace("a:443", "a")
    room = (1 << 20) - len(text)
    assert judged(text + " " * room) == ("derpmap", [])
    assert judged(text + " " * (room + 1)) == ("derpmap", [("DM025", 1)])


@pytest.mark.parametrize(
    ("text", "is_yaml"),
    [
        (HUJSON, False),
        (f'{{"acls": [],\n"derpMap":\n{HUJSON}}}', False),
        (f'"derpMap":\n{HUJSON},', False),
        (YAML, False),
        (YAML, True),
    ],
)
def test_read_any(text, is_yaml):
    """The map is the same, whatever it is kept in."""
    found = read_any(text, is_yaml=is_yaml)
    (region,) = found.regions.values()
    (node,) = region.nodes
    assert (region.region_id, region.region_code) == (900, "demo")
    assert (node.name, node.host_name, node.ipv4) == ("900a", "a:443", "8.8.8.8")


def test_read_any_as_headscale():
    """What it leaves out is not there, and nothing at all is no map."""
    text = YAML.replace("hostname: a:443", "HostName: a")
    assert read_any(text, is_yaml=True).regions[900].nodes[0].host_name == ""
    with pytest.raises(BadMap, match=r"there is no map in it"):
        read_any(YAML.replace("regions:", "Regions:"), is_yaml=True)


@given(maps(st.floats(allow_nan=False, allow_infinity=False)))
def test_any_map_in_a_file(derp_map):
    """A file is judged as what is in it, and each finding has a line of the file."""
    text = canonical_json(derp_map)
    again = read_any(text, is_yaml=False)
    found = list(judge(text, is_yaml=False).findings)
    assert again.regions == derp_map.regions
    if not again.regions:  # of which rules of regions say nothing
        assert found.pop(0).rule == "DM005"
    assert [replace(one, line=None) for one in found] == lint(again)
    last = text.count("\n")
    assert all(one.line and 1 <= one.line <= last for one in found)


@given(st.text() | st.text("{}[]\",:/*-&!<>|\n \t#0aeE.'%@?"), st.booleans())
def test_read_any_text(text: str, is_yaml: bool):
    """It is a map, or a `BadMap`, and nothing else."""
    with contextlib.suppress(BadMap):
        canonical_json(read_any(text, is_yaml=is_yaml))


@given(st.text() | st.text("{}[]\",:/*-&!<>|\n \t#0aeE.'%@?"), st.booleans())
@example('{"Regions": {"900": {"RegionID": 1e999}}}', False)
@example("a: !!float ''", True)
def test_any_text(text: str, is_yaml: bool):
    """Whatever it is, findings come out."""
    found = judge(text, is_yaml=is_yaml)
    assert found.form in {"derpmap", "acl", "headscale"}
