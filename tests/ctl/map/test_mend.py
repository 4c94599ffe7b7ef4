"""Maps that are mended: what has one meaning is right, and not one byte beside it."""

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from derpctl.map.canonical import tree_of
from derpctl.map.headscale import headscale
from derpctl.map.lint import Terms
from derpctl.map.mend import Mended, marked, mend
from derpctl.map.repair import bare_host
from derpctl.map.source import judge, locate, looks_like_json
from tests.ctl.map.commented import written
from tests.ctl.map.drawn import maps
from tests.ctl.map.test_source import HUJSON, YAML


PIN = "sha256-raw:" + "ab" * 32
LOUD = "SHA256-RAW:" + ":".join(["AB"] * 32)

MENDED = ("RegionID", "HostName", "CertName", "DERPPort", "STUNPort")


def mended(text: str, *, is_yaml: bool = False) -> str:
    found = mend(text, is_yaml=is_yaml)
    assert mend(found.text, is_yaml=is_yaml) == Mended(found.text, [])
    return found.text


def judged(text: str, *, is_yaml: bool = False) -> list[tuple[str, str, bool]]:
    """Give rules, places and whether they would be mended."""
    found = judge(text, is_yaml=is_yaml)
    found = marked(found, text, is_yaml=is_yaml, terms=Terms())
    return [(one.rule, one.path, one.fixable) for one in found.findings]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"RegionID": 900, "RegionCode"', '"RegionID": 900, "RegionCode"'),
        ('"RegionID": 901, "RegionCode"', '"RegionID": 900, "RegionCode"'),
        ('"RegionID": 900.0, "RegionCode"', '"RegionID": 900, "RegionCode"'),
        ('"RegionID": null, "RegionCode"', '"RegionID": 900, "RegionCode"'),
        ('"regionid": 9e2, "RegionCode"', '"regionid": 900, "RegionCode"'),
        ('"RegionCode"', '"RegionID": 900,\n      "RegionCode"'),
    ],
)
def test_region_id(before, after, ending):
    """It is the key, whatever it was."""
    sound = HUJSON.replace("a:443", "a")
    here = '"RegionID": 900, "RegionCode"'
    old, new = (
        sound.replace(here, one).replace("\n", ending) for one in (before, after)
    )
    assert mended(old) == new


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"Name": "900a", "RegionID": 1,', '"Name": "900a", "RegionID": 900,'),
        ('"Name": "900a", // c', '"Name": "900a", // c\n          "RegionID": 900,'),
        (
            '"Name": "900a" , /*c*/',
            '"Name": "900a" , /*c*/\n          "RegionID": 900,',
        ),
    ],
)
def test_node_region_id(before, after, ending):
    """It is that of the region, behind the name and what is said of it."""
    sound = HUJSON.replace("a:443", "a")
    here = '"Name": "900a", "RegionID": 900,'
    old, new = (
        sound.replace(here, one).replace("\n", ending) for one in (before, after)
    )
    assert mended(old) == new


def test_in_a_line():
    """Nodes that have one line keep to it."""
    nodes = (
        '[{"Name": "9a", "HostName": "a"}, {"HostName": "b"}, {}, null, {"Name": "c"}]'
    )
    text = f'{{"derpMap": {{"Regions": {{"9": {{"RegionID": 9, "Nodes": {nodes}}}}}}}}}'
    assert mended(text) == (
        '{"derpMap": {"Regions": {"9": {"RegionID": 9, "Nodes": [{"Name": "9a",'
        ' "RegionID": 9, "HostName": "a"}, {"RegionID": 9, "HostName": "b"},'
        ' {"RegionID": 9}, null, {"Name": "c", "RegionID": 9}]}}}}'
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"a:443",', '"a",'),
        ('"a:8443",', '"a",\n          "DERPPort": 8443,'),
        ('"https://a",', '"a",'),
        ('"HTTPS://a:8443/",', '"a",\n          "DERPPort": 8443,'),
        ('"[2a00::1]:443",', '"2a00::1",'),
        ('"[2a00::1]",', '"2a00::1",'),
        ('"a:8443", "DERPPort": 8443,', '"a", "DERPPort": 8443,'),
        ('"a:8443", "DERPPort": 0,', '"a", "DERPPort": 8443,'),
        ('"a:8443", "derpport": null,', '"a", "derpport": 8443,'),
        ('"a:8443", "DERPPort": 8443.0,', '"a", "DERPPort": 8443,'),
        ('"a:8443", "DERPPort": 0.0,', '"a", "DERPPort": 8443,'),
        (f'"a", "CertName": "{LOUD}",', f'"a", "CertName": "{PIN}",'),
        ('"a", "STUNPort": -1.0,', '"a", "STUNPort": -1,'),
    ],
)
def test_nodes(before, after):
    """Each has one meaning, and gets it."""
    old, new = (HUJSON.replace('"a:443",', one) for one in (before, after))
    assert mended(old) == new
    assert all(fixable for rule, _, fixable in judged(old) if rule != "DM006")


@pytest.mark.parametrize(
    "text",
    [
        '"http://a",',
        '"https://me@a",',
        '"https://a/derp",',
        '"a:0",',
        '"a:70000",',
        '"2a00::1:443:",',
        '"[a:443",',
        '"",',
        "7,",
        '"a:8443", "DERPPort": 443,',
        '"a:8443", "DERPPort": 8444,',
        '"a:8443", "DERPPort": "8443",',
        '"a:8443", "DERPPort": true,',
        '"a:8443", "DERPPort": 1, "derpport": 8443,',
        '"a:443", "hostname": "b:443",',
        f'"a", "CertName": "{PIN}:",'.replace("ab:", "a:"),
        '"a", "DERPPort": 443.5,',
        '"a", "DERPPort": "443",',
        '"a", "DERPPort": 1e300,',
    ],
)
def test_what_may_mean_two_things(text):
    """It is left to people, and said not to be mended."""
    old = HUJSON.replace('"a:443",', text)
    found = mend(old, is_yaml=False)
    assert found == Mended(old, [])
    assert judged(old)
    assert not any(fixable for _, _, fixable in judged(old))


def test_which_region():
    """A key that is no plain number, or a second object, may mean anything."""
    for old, new in (('"900": {', '"+900": {'), ('"900": {', '"0900": {')):
        text = HUJSON.replace(old, new).replace('"a:443"', '"a"')
        text = text.replace('"RegionID": 900', '"RegionID": 901')
        assert mend(text, is_yaml=False).repairs == []
    text = HUJSON.replace('"Regions": {', '"regions": {}, "Regions": {')
    assert mend(text, is_yaml=False).repairs == []


def test_avoid_is_left_alone():
    """NoMeasureNoHome is not the same to clients, and unknown to old ones."""
    text = HUJSON.replace('"RegionCode"', '"Avoid": true, "RegionCode"')
    text = text.replace("a:443", "a")
    assert mend(text, is_yaml=False).repairs == []
    assert judged(text) == [("DM016", "Regions.900.Avoid", False)]


@pytest.mark.parametrize("text", ["", "{", '{"Regions": 7}', "[junk", "a: *b", "\x00"])
def test_what_cannot_be_read(text):
    """It is left as it is."""
    assert mend(text, is_yaml=False) == Mended(text, [])


def test_what_was_done():
    """Each repair has its rule, its line, and both values."""
    text = HUJSON.replace('"RegionID": 900,\n', "\n").replace("a:443", "a:8443")
    found = mend(text, is_yaml=False)
    assert [(one.line, str(one)) for one in found.repairs] == [
        (8, "DM002: Regions.900.Nodes[0].RegionID was missing, is 900"),
        (
            10,
            'DM007: Regions.900.Nodes[0].HostName was "a:8443", is "a", and DERPPort is'
            " 8443",
        ),
    ]


def test_fragment_and_byte_order_mark():
    """A member that stands alone is mended where it is; a mark stays."""
    text = f'\ufeff"derpMap":\n{HUJSON},\n'
    assert mended(text) == text.replace("a:443", "a")


# YAML.


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    regionid: 900\n", "    regionid: 900\n"),
        ("    regionid: 901 # c\n", "    regionid: 900 # c\n"),
        ("    regionid: 900.0\n", "    regionid: 900\n"),
        ("    regionid:\n", "    regionid: 900\n"),
        ("    regionid: ~\n", "    regionid: 900\n"),
        ("    RegionID: 901\n", "    regionid: 900\n"),
        ('    "RegionID" : 0x384\n', '    "regionid" : 0x384\n'),
        ("", "    regionid: 900\n"),
    ],
)
def test_yaml_region(before, after, ending):
    """As in JSON, and keys are in lower case."""
    sound = YAML.replace("a:443", "a")
    old, new = (
        sound.replace("    regionid: 900\n", one, 1).replace("\n", ending)
        for one in (before, after)
    )
    assert mended(old) == new


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: 900a # c", "name: 900a # c\n        regionid: 900"),
        ("Name: 900a", "name: 900a\n        regionid: 900"),
        ("x: 1", "regionid: 900\n        x: 1"),
        ("name: |-\n          900a", "regionid: 900\n        name: |-\n          900a"),
    ],
)
def test_yaml_node_region_id(before, after):
    """A line of its own, where the name has one."""
    sound = YAML.replace("a:443", "a")
    here = "name: 900a\n        regionid: 900"
    assert mended(sound.replace(here, before)) == sound.replace(here, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hostname: a:443", "hostname: a"),
        ("hostname: a:8443 # c", "hostname: a # c\n        derpport: 8443"),
        ("hostname: 'a:8443'", "hostname: 'a'\n        derpport: 8443"),
        ("HostName: https://a", "hostname: a"),
        ("hostname: '1e3:443'", "hostname: '1e3'"),
        ("hostname: 1e3:443", "hostname: 1e3"),
        ("hostname: yes:443", 'hostname: "yes"'),
        ("hostname: https://2a00::1", "hostname: 2a00::1"),
        (
            f"hostname: a\n        certname: {LOUD}",
            f"hostname: a\n        certname: {PIN}",
        ),
        ("hostname: a\n        derpport: 443.", "hostname: a\n        derpport: 443"),
    ],
)
def test_yaml_nodes(before, after):
    """Quotes stay, and come where a name would be read as something else."""
    old, new = (YAML.replace("hostname: a:443", one) for one in (before, after))
    assert mended(old) == new
    assert yaml.safe_load(new)["regions"][900]["nodes"][0]["hostname"]


FLOW = "regions: {900: {regioncode: demo, regionname: Demo, nodes: [%s]}}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", "{regionid: 900}"),
        ("{hostname: a}", "{regionid: 900, hostname: a}"),
        ("{ name: 900a }", "{ name: 900a, regionid: 900 }"),
        (
            '{"name":"900a","hostname":"a:8443"}',
            '{"name":"900a", "regionid": 900,"hostname":"a", "derpport": 8443}',
        ),
        ("{Name: 900a, RegionID: }", "{name: 900a, regionid: 900 }"),
        ("\n  - name: 900a", None),
    ],
)
def test_yaml_between_braces(before, after):
    """It stays there."""
    if after is None:
        assert mend(FLOW % before, is_yaml=True).repairs == []
        return
    old, new = (FLOW % one for one in (before, after))
    region = "{900: {regionid: 900, regioncode"
    assert mended(old, is_yaml=True) == new.replace("{900: {regioncode", region)


@pytest.mark.parametrize(
    "text",
    [
        YAML.replace("900:", "900: &a") + "other: *a\n",
        YAML.replace("a:443", "!!str a:443"),
        YAML.replace("a:443", "&a a:443"),
        YAML.replace("a:443", "|-\n          a:443"),
        YAML.replace("hostname: a:443", "HostName: a\n        hostname: a:443"),
        YAML.replace("hostname: a:443", "hostname: b\n        hostname: a:443"),
        YAML.replace("hostname: a:443", "<<: {hostname: a:443}"),
    ],
)
def test_yaml_that_says_a_thing_twice(text):
    """Or says it in a way that only people can change."""
    assert mend(text, is_yaml=True).repairs == []
    assert not any(fixable for _, _, fixable in judged(text, is_yaml=True))


def test_yaml_keys_elsewhere():
    """They are renamed wherever headscale would miss them, but not over others."""
    text = "Regions:\n  900:\n    Nodes: []\n    RegionCode: a\n    regioncode: b\n"
    assert mended(text, is_yaml=True) == (
        "regions:\n  900:\n    regionid: 900\n    nodes: []\n    RegionCode: a\n"
        "    regioncode: b\n"
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a", None),
        ("a:1", ("a", 1)),
        ("https://a", ("a", None)),
        ("https://[::1]:8443/", ("::1", 8443)),
        ("https://a:b", None),
        ("wss://a", None),
        (7, None),
    ],
)
def test_bare_host(value, found):
    """A name, and the port that was with it."""
    assert bare_host(value) == found


# Anything.

finite = st.floats(allow_nan=False, allow_infinity=False)
_HOSTS = st.sampled_from(
    ["a", "a:443", "a:8443", "https://a", "https://a:1/", "http://a", "[::1]:9", "::1"]
)
_PINS = st.sampled_from([PIN, LOUD, LOUD[:-1], "", "b"])
_PORTS = st.sampled_from([0, 443, 8443.0, 0.0, 7.5, None, -1.0, "x", True])
_IDS = st.sampled_from([900, 901, 901.0, 900.0, None, "900", False, 1.5])
_DAMAGE = {
    "RegionID": _IDS,
    "HostName": _HOSTS,
    "CertName": _PINS,
    "DERPPort": _PORTS,
    "STUNPort": _PORTS,
}


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, object]:
    """Draw a map as JSON has it, with members that are wrong or missing."""
    tree = tree_of(draw(maps(finite)))
    for number, region in tree["Regions"].items():
        del number
        region["Nodes"] = [
            *map(draw, map(_worse, region["Nodes"])),
            *([None] if draw(st.booleans()) else []),
        ]
    regions = tree["Regions"].items()
    tree["Regions"] = {key: draw(_worse(region, ids=True)) for key, region in regions}
    return tree


@st.composite
def _worse(
    draw: st.DrawFn, tree: dict[str, object], *, ids: bool = False
) -> dict[str, object]:
    names = ["RegionID"] if ids else list(_DAMAGE)
    for name in names:
        match draw(st.sampled_from(["keep", "drop", "change", "case"])):
            case "drop":
                tree.pop(name, None)
            case "change":
                tree[name] = draw(_DAMAGE[name])
            case "case" if name in tree:
                tree[name.upper()] = tree.pop(name)
    return tree


def _rest(value: object) -> object:
    """Leave out what may have been mended."""
    if isinstance(value, dict):
        names = {name.lower() for name in MENDED}
        return {
            str(key).lower(): _rest(item)
            for key, item in value.items()
            if str(key).lower() not in names
        }
    if isinstance(value, list):
        return [_rest(item) for item in value]
    return value


def check(text: str, *, is_yaml: bool) -> None:
    """Hold what a mended text must hold."""
    found = mend(text, is_yaml=is_yaml)
    assert mend(found.text, is_yaml=is_yaml) == Mended(found.text, [])
    assert re.findall(r"c\d+;", found.text) == re.findall(r"c\d+;", text)
    before, after = judged(text, is_yaml=is_yaml), judged(found.text, is_yaml=is_yaml)
    assert not any(fixable for *_, fixable in after)
    kept = {(rule, path) for rule, path, fixable in before if not fixable}
    assert kept <= {(rule, path) for rule, path, _ in after}
    values = [
        locate(one, is_yaml=is_yaml or not looks_like_json(one))[1].value
        for one in (text, found.text)
    ]
    assert repr(_rest(values[0])) == repr(_rest(values[1]))
    if not found.repairs:
        assert found.text == text


@given(st.data(), damaged())
def test_any_json(data, tree):
    """What is mended stays so, is what was said to be mended, and nothing beside."""
    wrapped = {"acls": [], "derpMap": tree} if data.draw(st.booleans()) else tree
    check(data.draw(written(wrapped)), is_yaml=False)


@given(damaged(), st.sampled_from([None, True, False]), st.booleans(), st.booleans())
def test_any_yaml(tree, flow, lower, numbered):
    """The same for whatever PyYAML writes, with comments at the ends of lines."""
    if lower:
        tree = json.loads(json.dumps(tree).lower().replace("\\ud", "\\ue"))
    text = yaml.safe_dump(tree, default_flow_style=flow, sort_keys=False, width=2**16)
    if numbered and flow is False and '"' not in text and "'" not in text:
        lines = enumerate(text.splitlines())
        text = "".join(f"{line} # c{number};\n" for number, line in lines)
    check(text, is_yaml=True)


@given(maps(finite))
def test_our_own_files_need_little(derp_map):
    """What headscale gets from us may be mended, but never made worse."""
    check(headscale(type(derp_map)(regions=derp_map.regions)), is_yaml=True)
