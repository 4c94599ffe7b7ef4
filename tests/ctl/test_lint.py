"""`derpctl map lint`: where the map comes from, what is printed, and how it ends."""

import io
import json
import sys

import pytest

from tests.ctl.standins import AdminStandIn, admin


SOUND = """\
{"Regions": {"900": {"RegionID": 900, "RegionCode": "demo", "RegionName": "Demo",
"Nodes": [{"Name": "900a", "RegionID": 900, "HostName": "a",
"IPv4": "8.8.8.8"}]}}}
"""


@pytest.fixture
def lint(derpctl, tmp_path):
    """Lint a text, in a file of this name."""

    def run(text, *options, name="map.json"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return derpctl("map", "lint", path, *options)

    return run


def test_sound(lint):
    """Nothing on stdout, and 0; a byte order mark is nothing, too."""
    ended = lint(SOUND)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.endswith("map.json: nothing is wrong\n")
    assert lint(b"\xef\xbb\xbf" + SOUND.encode()).code == 0


def test_warnings(lint):
    """They are shown, and 0."""
    ended = lint(SOUND.replace('"8.8.8.8"', '""'))
    assert ended.code == 0
    assert "DM009" in ended.out
    assert ended.err.endswith("map.json: 1 warning\n")


def test_errors(lint):
    """They are shown, and 7."""
    ended = lint(SOUND.replace('"a"', '"a:1"'))
    assert (ended.code, "DM007" in ended.out) == (7, True)
    assert ended.err.endswith("map.json: 1 error\n")


def test_document(lint, tmp_path):
    """It has the form, and everything of each finding; 7 all the same."""
    ended = lint(SOUND.replace('"RegionID": 900, "H', '"H'), "-o", "json")
    (item,) = json.loads(ended.out).pop("items")
    found = json.loads(ended.out)
    assert (ended.code, found["kind"], found["format"]) == (7, "MapLint", "derpmap")
    assert found["file"] == str(tmp_path / "map.json")
    assert item.pop("message").startswith("RegionID is missing")
    assert item == {
        "rule": "DM002",
        "severity": "error",
        "path": "Regions.900.Nodes[0].RegionID",
        "line": 2,
        "fixable": True,
    }


def test_system_ids(lint):
    """Numbers of Tailscale's are a warning, unless allowed."""
    text = SOUND.replace("900", "1")
    assert "DM003" in lint(text).out
    assert lint(text, "--allow-system-ids").out == ""


def test_insecure(lint):
    """What only tests may have is an error, and a warning to who says so."""
    text = SOUND.replace('"IPv4"', '"InsecureForTests": true, "IPv4"')
    ended = lint(text, "-o", "json")
    (item,) = json.loads(ended.out)["items"]
    assert (ended.code, item["rule"], item["severity"]) == (7, "DM012", "error")
    ended = lint(text, "--allow-insecure", "-o", "json")
    (item,) = json.loads(ended.out)["items"]
    assert (ended.code, item["rule"], item["severity"]) == (0, "DM012", "warning")
    assert (item["path"], item["line"]) == ("Regions.900.Nodes[0].InsecureForTests", 3)


def test_infos(lint):
    """They are shown, and 0."""
    ended = lint(SOUND.replace("8.8.8.8", "127.0.0.1"))
    assert ended.code == 0
    assert (
        ended.out
        == """\
LINE  RULE   SEVERITY  PATH               MESSAGE
   2  DM019  info      Regions.900.Nodes  all addresses are on loopback, so that only \
clients on the
                                          node's own machine reach it; right for a \
trial, else give
                                          public ones
"""
    )
    assert ended.err.endswith("map.json: 1 info\n")


def test_target(lint):
    """Plain JSON may be headscale's, too."""
    text = SOUND.replace("900", "999")
    assert lint(text).out == ""
    assert lint(text, "--target", "tailscale").out == ""
    ended = lint(text, "--target", "headscale")
    assert (ended.code, "DM022  warning" in ended.out) == (0, True)
    assert lint(text, "--target", "x").code == 2


def test_yaml_by_name(lint):
    """JSON is YAML where the name says so, and headscale wants lower case."""
    ended = lint(SOUND, "-o", "json", name="map.yml")
    assert json.loads(ended.out)["format"] == "headscale"
    assert ended.code == 7


def test_standard_input(derpctl, monkeypatch):
    """A dash is what is piped in."""
    piped = io.TextIOWrapper(io.BytesIO(SOUND.encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    assert derpctl("map", "lint", "-") == (0, "", "derpctl: -: nothing is wrong\n")


def test_what_cannot_be_read(lint, derpctl, tmp_path):
    """No file is 3; no text is 7."""
    ended = derpctl("map", "lint", tmp_path / "none")
    assert (ended.code, ended.out) == (3, "")
    assert "none: no such file or directory; check path and mode" in ended.err
    ended = lint(b"{\xff}")
    assert ended.code == 7
    assert "not text: byte 1; give a text file, in UTF-8" in ended.out
    found = json.loads(lint(b"{\xff}", "-o", "json").out)
    assert [one["rule"] for one in found["items"]] == ["DM025"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"Regions": {"900": {}, "900": {}}}', "map.json"),
        ('{"Regions": {"900": {"RegionID": 900, "regionid": 901}}}', "map.json"),
        ("regions:\n  900: {regionid: 900}\n  900: {regionid: 901}\n", "map.yaml"),
    ],
)
def test_what_is_there_twice(lint, text, name):
    """Go takes the last one without a word, and headscale refuses the file."""
    ended = lint(text, "-o", "json", name=name)
    [found] = [one for one in json.loads(ended.out)["items"] if one["rule"] == "DM025"]
    assert (ended.code, "more than once" in found["message"]) == (7, True)


def test_a_map_of_nothing(lint):
    """Headscale would take every region from clients; a policy may say no more."""
    ended = lint('{"Regions": {}}')
    said = " ".join(ended.out.split())
    assert (ended.code, "DM005 error Regions" in said) == (7, True)
    assert lint('{"derpMap": {"Regions": {"1": null}}}').code == 0


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("", 2, "FILE: it is empty"),
        ("ftp://a.example.net/map", 2, "no URL that is known here"),
        ("/dev/zero", 7, "more than 16 MiB"),
    ],
)
def test_what_is_no_file(derpctl, name, code, words):
    """It is said at once: a device has no end."""
    ended = derpctl("map", "lint", name)
    assert (ended.code, words in ended.out + ended.err) == (code, True)


def test_hostile_names(lint):
    """A name that no terminal can show is shown in another way."""
    ended = lint(SOUND.replace('"900a"', r'"\ud800\u001b[31m"'))
    assert (ended.code, "DM004" in ended.out) == (0, True)
    assert "\x1b" not in ended.out
    ended.out.encode()


HALVES = r"""
regions:
  "\ud800":
    Nodes: []
  900:
    nodes:
      - {name: "\ud800", ipv4: "\udfff"}
"""


def test_half_a_character(lint):
    """YAML may name half a surrogate pair; -o json ended in a traceback."""
    ended = lint(HALVES, "-o", "json", name="map.yaml")
    items = json.loads(ended.out)["items"]
    assert [item["rule"] for item in items] == ["DM024", "DM025"]
    assert items[0]["path"] == "regions.\ud800.Nodes"
    ended.out.encode()
    text = HALVES.replace("Nodes", "nodes").replace(r'"\ud800":', "901:")
    ended = lint(text, "-o", "json", name="map.yaml")
    names = [one for one in json.loads(ended.out)["items"] if one["rule"] == "DM004"]
    assert names[0]["message"].startswith("\ufffd is not region and letter")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"Name": "900a"}, "Regions.900.Nodes = '900a': two nodes, one name"),
        ({"HostName": "a:1"}, "DM007: Regions.900.Nodes[1].HostName: 'a:1' has a port"),
    ],
)
def test_export_refuses(derpctl, beside, configured, entry, message):
    """A map that breaks a rule: 7, what is wrong, and nothing printed."""
    one = beside.start(admin(AdminStandIn("900a")))
    other = beside.start(admin(AdminStandIn("900b", entry=entry)))
    ended = derpctl("--config", configured(_900a=one, _900b=other), "map", "export")
    assert (ended.code, ended.out) == (7, "")
    assert message in ended.err


WRONG = """\
// ours
{"Regions": {"900": {"RegionCode": "demo", "RegionName": "Demo", "Nodes": [
  {"Name": "900a", "HostName": "https://a:8443", "IPv4": "8.8.8.8"}, // new
]}}}
"""

RIGHT = """\
// ours
{"Regions": {"900": {"RegionID": 900, "RegionCode": "demo", "RegionName": "Demo", \
"Nodes": [
  {"Name": "900a", "RegionID": 900, "HostName": "a", "DERPPort": 8443, \
"IPv4": "8.8.8.8"}, // new
]}}}
"""


def test_fix(lint, tmp_path):
    """It is mended in its place, what was done is on stderr, and then it is judged."""
    path = tmp_path / "map.json"
    path.touch(mode=0o640)
    ended = lint(WRONG, "--fix")
    assert (ended.code, ended.out, path.read_text()) == (0, "", RIGHT)
    assert ended.err == (
        f"derpctl: {path}, line 2: mended DM001: Regions.900.RegionID was missing, is"
        " 900\n"
        f"derpctl: {path}, line 3: mended DM002: Regions.900.Nodes[0].RegionID was"
        " missing, is 900\n"
        f"derpctl: {path}, line 3: mended DM007: Regions.900.Nodes[0].HostName was"
        ' "https://a:8443", is "a", and DERPPort is 8443\n'
        f"derpctl: {path}: nothing is wrong\n"
    )
    assert path.stat().st_mode & 0o777 == 0o640


def test_fix_leaves_what_may_mean_two_things(lint, tmp_path):
    """It decides how the command ends; bytes that no terminal shows stay, too."""
    text = "\ufeff" + WRONG.replace('"900a"', r'"\u001b"').replace("\n", "\r\n")
    text = text.replace("8.8.8.8", 'none", "IPv6": "none')
    ended = lint(text, "--fix", "-o", "json")
    found = (tmp_path / "map.json").read_bytes().decode()
    kept = RIGHT.replace('"900a"', r'"\u001b"').replace(
        "8.8.8.8", 'none", "IPv6": "none'
    )
    assert found == "\ufeff" + kept.replace("\n", "\r\n")
    items = json.loads(ended.out)["items"]
    assert [(one["rule"], one["severity"], one["fixable"]) for one in items] == [
        ("DM004", "warning", False),
        ("DM008", "error", False),
    ]
    assert ended.code == 7
    assert "\x1b" not in ended.err


def test_fix_nothing(lint, tmp_path):
    """A file that needs none is not written."""
    path = tmp_path / "map.json"
    path.write_text(SOUND)
    path.chmod(0o444)
    before = path.stat().st_ino
    assert lint(SOUND, "--fix").err == f"derpctl: {path}: nothing is wrong\n"
    assert path.stat().st_ino == before


@pytest.mark.parametrize("text", ["{\n]", "[junk", '{"acls": []}'])
def test_fix_no_map(lint, tmp_path, text):
    """It is left alone: 7."""
    ended = lint(text, "--fix")
    assert (ended.code, (tmp_path / "map.json").read_text()) == (7, text)


def test_fix_standard_input(derpctl, monkeypatch):
    """It goes to standard output, with nothing else; findings are on stderr."""
    data = ("\ufeff" + WRONG.replace("900a", "x")).encode()
    piped = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", piped)
    ended = derpctl("map", "lint", "--fix", "-")
    assert (ended.code, ended.out) == (0, "\ufeff" + RIGHT.replace("900a", "x"))
    assert "derpctl: DM004: Regions.900.Nodes[0].Name: x is not region and" in ended.err
    ended = derpctl("map", "lint", "--fix", "-", "-o", "json")
    assert (ended.code, ended.out) == (2, "")


def test_fix_cannot_be_written(lint, derpctl, tmp_path):
    """3, as for other files that are not there."""
    assert derpctl("map", "lint", "--fix", tmp_path / "none").code == 3
    (tmp_path / "junk").write_bytes(b"{\xff}")
    assert derpctl("map", "lint", "--fix", tmp_path / "junk").code == 7


def test_what_would_be_fixed(lint):
    """It is said before; what is no field of a file is not."""
    text = WRONG.replace("8.8.8.8", "")
    items = json.loads(lint(text, "-o", "json").out)["items"]
    assert {(item["rule"], item["fixable"]) for item in items} == {
        ("DM001", True),
        ("DM002", True),
        ("DM007", True),
        ("DM009", False),
    }


JUNK = [
    b"",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"{",
    b'{"Regions": {"900": [[[[[[',
    b'{"Regions": {"900": {"Nodes": [{"DERPPort": 1e400}]}}}',
    b'{"Regions": {"900": {"Nodes": {"0": {}}}}}',
    b'{"Regions": {"900": {"Nodes": [7]}}}',
    b'{"Regions": {"900": "x"}}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"- " * 100_000,
    b"regions: {900: {nodes: [{derpport: 0x1_0, name: !!binary x}]}}",
    b"regions: {900: &a {nodes: [*a]}}",
    b"regions: {[a]: 1, ? {b: c} : 2}",
    b"regions: {900: !!python/object:os.system {}}",
    b"---\na: 1\n---\nb: 2\n",
    b"%YAML 9.9\n---\n",
    b"regions: {.nan: {}, .inf: {}, 2026-11-24: {}}",
]


@pytest.mark.parametrize("name", ["map.json", "map.yaml"])
@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_junk(lint, derpctl, tmp_path, name, junk):
    """7: a rule with a line, or an error that says what would do; and no traceback."""
    ended = lint(junk, "-o", "json", name=name)
    assert ended.code == 7
    if ended.out:
        for item in json.loads(ended.out)["items"]:
            assert item["line"]
    else:
        assert "; " in ended.err
    sound = tmp_path / "sound.json"
    sound.write_text(SOUND)
    ended = derpctl("map", "diff", tmp_path / name, sound)
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.startswith(f"derpctl: {tmp_path / name}: ")
    assert "; " in ended.err
