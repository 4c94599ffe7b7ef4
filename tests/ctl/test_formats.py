"""`derpctl map export` and `map show`: every format, and what may be wished of it."""

import json

import pytest
import yaml

from derpctl.map.read import parse_derp_map
from derpctl.map.source import read_any
from tests.ctl.standins import AdminStandIn, admin


BASE = """\
{"Regions": {
  "1": {"RegionID": 1, "RegionCode": "nyc", "RegionName": "New York",
        "Nodes": [{"Name": "1a", "RegionID": 1, "HostName": "1.example.net",
                   "IPv4": "8.8.8.1", "IPv6": "none"}]},
  "2": {"RegionID": 2, "RegionCode": "sfo", "RegionName": "San Francisco",
        "Nodes": [{"Name": "2a", "RegionID": 2, "HostName": "2.example.net",
                   "IPv4": "8.8.8.2", "IPv6": "none"}]}},
 "HomeParams": {"RegionScore": {"1": 2, "2": 3}}}
"""


@pytest.fixture
def export(derpctl, beside, configured):
    """Export the map of one node, which warns of nothing."""
    entry = {"HostName": "a.example.net", "IPv4": "8.8.8.8", "DERPPort": 0}
    url = beside.start(admin(AdminStandIn(pinned=False, entry=entry)))
    path = configured(_900a=url)
    return lambda *words: derpctl("--config", path, "map", "export", *words)


@pytest.fixture
def base(tmp_path):
    """Another map."""
    path = tmp_path / "base.json"
    path.write_text(BASE)
    return path


@pytest.mark.parametrize("form", ["acl", "derpmap", "headscale", "derpprobe"])
def test_formats_that_carry_the_map(export, form):
    """Whatever we write we read, and it is the same."""
    ended = export("-f", form)
    assert (ended.code, ended.err) == (0, "")
    found = read_any(ended.out, is_yaml=form == "headscale")
    expected = parse_derp_map(export("-f", "derpmap").out)
    if form != "derpprobe":
        assert found == expected
    assert found.regions[900].nodes[0].ipv6 == ("" if form == "derpprobe" else "none")


def test_table(export):
    """For eyes."""
    table = export("-f", "table").out
    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "REGION NODE ORDER HOST IPV4 IPV6 DERP STUN CERTIFICATE FLAGS",
        "900 demo 900a 1 a.example.net 8.8.8.8 none 443 3478 a.example.net",
    ]


def test_show(derpctl, beside, configured):
    """A line for each node, or all of it as JSON."""
    path = configured(_900a=beside.start(admin(AdminStandIn())))
    shown = derpctl("--config", path, "map", "show")
    assert shown.code == 0
    assert shown.out.splitlines()[1].split()[:4] == ["900", "demo", "900a", "1"]
    found = json.loads(derpctl("--config", path, "map", "show", "-o", "json").out)
    assert found["kind"] == "Map"
    assert [item["node"] for item in found["items"]] == ["900a"]
    assert found["map"]["Regions"]["900"]["RegionCode"] == "demo"


def test_style_json(export):
    """A policy for programs: no comments, no trailing commas."""
    found = json.loads(export("--style", "json").out)
    assert found["derpMap"]["Regions"]["900"]["RegionID"] == 900
    fragment = export("--style", "json", "--fragment").out
    assert json.loads(f"{{{fragment}}}") == found


def test_headscale_config(export):
    """With a file or a URL, and with nothing but ours."""
    ended = export("-f", "headscale-config", "--map-file", "/etc/headscale/derp.yaml")
    derp = yaml.safe_load(ended.out)["derp"]
    assert derp["paths"] == ["/etc/headscale/derp.yaml"]
    assert derp["urls"] == ["https://controlplane.tailscale.com/derpmap/default"]
    url = "https://map.example.net/derpmap.json"
    ended = export("-f", "headscale-config", "--map-url", url, "--only-ours")
    assert yaml.safe_load(ended.out)["derp"]["urls"] == [url]


def test_env_and_terraform(export):
    """Both are for other programs, and have their own tests."""
    assert "HOSTNAME=a.example.net\n" in export("-f", "env").out
    assert "locals {\n  derp_map = {\n" in export("-f", "terraform").out


def test_a_file_is_replaced_as_a_whole(export, tmp_path):
    """It is the old one or the new one, and nothing is on stdout."""
    path = tmp_path / "policy.hujson"
    path.write_text("old")
    inode = path.stat().st_ino
    assert export("-O", path) == (0, "", "")
    assert path.read_text() == export().out
    assert path.stat().st_ino != inode
    assert [one.name for one in tmp_path.glob("*policy*")] == ["policy.hujson"]
    path.write_text("old")
    assert export("-f", "headscale", "--prefer", "-O", path).code == 6
    assert path.read_text() == "old"


# What is wished.


@pytest.mark.parametrize("option", ["--omit-default-regions", "--only-ours"])
@pytest.mark.parametrize("form", ["acl", "derpmap", "terraform"])
def test_default_regions_are_left_out(export, option, form):
    """Said where there is a member for it; one region alone is warned of."""
    ended = export("-f", form, option)
    assert ended.code == 0
    assert "mitDefaultRegions" in ended.out
    assert "true" in ended.out
    assert "DM018" in ended.err


def test_headscale_leaves_out_by_its_configuration(export):
    """Its file has no place for it: refused, with the remedy."""
    ended = export("-f", "headscale", "--omit-default-regions")
    assert (ended.code, ended.out) == (6, "")
    assert ended.err == (
        "derpctl: --omit-default-regions: headscale has no place for it; use"
        " --only-ours, and -f headscale-config for the urls: [] it takes\n"
    )
    ended = export("-f", "headscale", "--only-ours")
    assert "unless urls is [] in config.yaml" in ended.out


def test_removed_regions(export):
    """Null in a policy and in headscale's YAML, where a comment has its limits."""
    assert '\t\t"1": null,  // one' in export("--remove-default", "2,1").out
    ended = export("-f", "headscale", "--remove-default", "1")
    assert yaml.safe_load(ended.out)["regions"][1] is None
    assert "up to 0.29" in ended.out
    assert '"1" = null' in export("-f", "terraform", "--remove-default", "1").out


@pytest.mark.parametrize("form", ["derpmap", "derpprobe", "env", "table"])
def test_removed_regions_have_no_place(export, form):
    """Refused, with the remedy."""
    ended = export("-f", form, "--remove-default", "1")
    assert (ended.code, ended.out) == (6, "")
    assert "use --with-defaults" in ended.err


def test_our_own_region_is_no_default(export):
    """It cannot be in the map and out of it."""
    ended = export("--remove-default", "900")
    assert (ended.code, ended.out) == (6, "")
    assert "the region is your own" in ended.err


def test_another_map_below(export, base):
    """All of both, but for what is removed; scores too."""
    ended = export("-f", "derpmap", "--with-defaults", base, "--remove-default", "2")
    found = parse_derp_map(ended.out)
    assert sorted(found.regions) == [1, 900]
    assert found.home_params.region_score == {1: 2.0}
    ended = export("-f", "derpmap", "--with-defaults", base, "--prefer")
    assert parse_derp_map(ended.out).home_params.region_score == {
        1: 2.0,
        2: 3.0,
        900: 0.25,
    }
    ended = export("-f", "derpprobe", "--with-defaults", base)
    assert sorted(parse_derp_map(ended.out).regions) == [1, 2, 900]
    assert "none" not in ended.out


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [('"1"', '"900"', "region 900"), ('"1a"', '"900a"', "node 900a")],
)
def test_maps_that_collide(export, base, old, new, what):
    """One number, or one name, twice."""
    base.write_text(BASE.replace(old, new))
    ended = export("-f", "derpmap", "--with-defaults", base)
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.startswith(f"derpctl: --with-defaults: {what} is in both maps; ")


@pytest.mark.parametrize("preset", ["--prefer", "--fallback-only"])
@pytest.mark.parametrize("form", ["acl", "headscale", "terraform", "derpprobe", "env"])
def test_scores_are_for_derpmap_only(export, form, preset):
    """Elsewhere they would be lost."""
    ended = export("-f", form, preset)
    assert (ended.code, ended.out) == (6, "")
    assert ended.err == (
        f"derpctl: {preset} with -f {form}: it is a score (HomeParams.RegionScore),"
        " which only plain maps carry; use -f derpmap\n"
    )


def test_presets(export):
    """A score, or no home; and a preview, in words."""
    ended = export("-f", "derpmap", "--prefer")
    assert json.loads(ended.out)["HomeParams"] == {"RegionScore": {"900": 0.25}}
    assert "derpctl: its home is region 900; if ours were at more than" in ended.err
    ended = export("-f", "derpmap", "--fallback-only", "--latency", "900=10.5")
    assert json.loads(ended.out)["HomeParams"] == {"RegionScore": {"900": 4}}
    assert "10.5 ms to region 900, which counts as 42 ms" in ended.err
    ended = export("--observe-only")
    assert '"NoMeasureNoHome": true' in ended.out
    assert "nobody's home" in ended.err


def test_preview(export):
    """Also without a preset; of the map as clients get it."""
    ended = export("--latency", "900=80", "--latency", "1=40")
    assert ended.err.splitlines()[0] == (
        "derpctl: a client measures 40 ms to region 1, 80 ms to region 900"
    )
    assert export("--preview").err.splitlines() == ended.err.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--prefer --observe-only", "a region has one purpose"),
        ("-f derpmap --style json", "only -f acl has styles, not -f derpmap"),
        ("-f headscale-config", "give -f headscale-config one of the two"),
        ("-f headscale-config --map-url http://a --map-file /b", "one of the two"),
        ("-f headscale-config --map-url a", "not http:// or https://"),
        ("-f headscale-config --map-file a", "must begin with /"),
        ("--map-file /a", "only -f headscale-config names a place, not -f acl"),
        ("--with-defaults a", "only -f derpmap and -f derpprobe merge maps"),
        ("-f derpmap --with-defaults a --only-ours", "another option leaves them out"),
        ("--remove-default 1,x", "'x' is no region's number"),
        ("--latency 900", "'900' is not REGION=MILLISECONDS"),
        ("--latency 900=-1", "'900=-1' is not REGION=MILLISECONDS"),
    ],
)
def test_what_no_format_can_mean(derpctl, words, message):
    """A usage error, before anybody is asked."""
    ended = derpctl("map", "export", *words.split())
    assert (ended.code, ended.out) == (2, "")
    assert message in " ".join(ended.err.split())
