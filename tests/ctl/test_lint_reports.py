"""`derpctl map lint`: what is minded, the rules themselves, and reports for others."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema

from derpctl.map.lint import Finding, Severity
from derpctl.map.lint.catalog import NUMBERS, RULES, Online
from derpctl.map.lint.github import command
from derpctl.map.lint.sarif import sarif
from tests.ctl.standins import AdminStandIn, admin
from tests.ctl.test_lint import SOUND


DOCS = Path(__file__).parents[2] / "docs/reference/map-rules.md"

WARNED = SOUND.replace('"8.8.8.8"', '""')
BROKEN = WARNED.replace('"a"', '"a:1"')
TRIAL = SOUND.replace("8.8.8.8", "127.0.0.1")


def conforms(document):
    """Hold a document against the official schema; unknown members are refused."""
    StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(document)


@pytest.fixture
def lint(derpctl, tmp_path, monkeypatch):
    """Lint a text, in a file of this name in the folder where we are."""
    monkeypatch.chdir(tmp_path)

    def run(text, *options, name="map.json"):
        Path(name).write_text(text)
        return derpctl("map", "lint", name, *options)

    return run


# What is minded.


def test_strict(lint):
    """Warnings end with 9; errors with 7 all the same, and infos with 0."""
    assert lint(WARNED).code == 0
    assert lint(WARNED, "--strict").code == 9
    assert lint(BROKEN, "--strict").code == 7
    assert lint(TRIAL, "--strict").code == 0
    assert lint(SOUND, "--strict").code == 0


def test_ignore(lint):
    """What is left out is neither printed nor counted, however it is said."""
    both = ("DM007", "DM009")
    found = json.loads(lint(BROKEN, "-o", "json").out)["items"]
    assert tuple(one["rule"] for one in found) == both
    for words in (
        ("--ignore", "DM007,DM009"),
        ("--ignore", "DM007", "--ignore", "DM009"),
        ("--ignore", " dm009, DM007"),
    ):
        ended = lint(BROKEN, "--strict", *words)
        assert ended == (0, "", "derpctl: map.json: nothing is wrong\n")
    ended = lint(BROKEN, "--ignore", "DM007", "--strict")
    assert (ended.code, "DM007" in ended.out) == (9, False)


@pytest.mark.parametrize("name", ["DM099", "", "DM007;DM009", "all"])
def test_ignore_no_rule(lint, name):
    """2, with the rules that there are."""
    ended = lint(BROKEN, "--ignore", name)
    assert (ended.code, ended.out) == (2, "")
    said = " ".join(re.sub(r"[│\n]", " ", ended.err).split())
    assert f"{name!r} is no rule; there are {', '.join(NUMBERS)}" in said


def test_what_cannot_be_read_is_always_heard(lint):
    """2: nothing would be wrong with a file that nobody can read."""
    ended = lint("{", "--ignore", "DM025")
    assert (ended.code, "must be heard" in ended.err) == (2, True)
    assert lint("{", "--ignore", "DM024").code == 7


def test_no_file(derpctl):
    """2, and what could be given."""
    ended = derpctl("map", "lint")
    assert (ended.code, ended.out) == (2, "")
    assert "missing; give a file, a URL, - or cluster" in ended.err


# The rules themselves.


def test_rules(derpctl):
    """All of them, a line each, in their order."""
    ended = derpctl("map", "lint", "--rules")
    lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    numbers = [line.split()[0] for line in lines if line.startswith("DM")]
    assert numbers == [f"DM{number:03}" for number in range(1, 28)]
    assert lines[0].split() == ["RULE", "SEVERITY", "FIX", "ONLINE", "WANTS"]
    assert lines[1].split()[:4] == ["DM001", "error", "yes", "-"]


def test_rules_for_programs(derpctl):
    """The same, with what happens otherwise."""
    ended = derpctl("map", "lint", "--rules", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["kind"], len(found["items"])) == (0, "MapRules", 27)
    assert found["items"][12] == {
        "rule": "DM013",
        "severity": "error",
        "severities": ["error"],
        "title": "CanPort80 goes with an IPv4 address, where port 80 echoes a"
        " challenge.",
        "otherwise": "Clients believe that they are behind a captive portal.",
        "fixable": False,
        "online": "partly",
    }
    assert derpctl("-o", "json", "map", "lint", "--rules").out == ended.out
    assert derpctl("map", "lint", "--rules", "-o", "sarif").code == 2


def test_rules_are_documented():
    """The page has a row for each, in the same words."""
    rows = re.findall(
        r"^\| (DM\d{3}) \| (.*?) \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.MULTILINE
    )
    assert [tuple(cell.replace("`", "") for cell in row) for row in rows] == [
        (
            rule.number,
            ", ".join(severity.value for severity in rule.severities),
            rule.title,
            rule.otherwise,
        )
        for rule in RULES
    ]


def test_only_nodes_can_tell():
    """Three rules never fire on a map alone."""
    online = {rule.number for rule in RULES if rule.online is Online.YES}
    assert online == {"DM011", "DM021", "DM027"}


# SARIF.


def test_sarif(lint):
    """It is what the schema wants, and each result is of a rule, in a line."""
    ended = lint(BROKEN, "-o", "sarif")
    found = json.loads(ended.out)
    conforms(found)
    assert (ended.code, found["version"]) == (7, "2.1.0")
    assert found["$schema"].endswith("sarif-2.1.0.json")
    (run,) = found["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "derpctl map lint"
    assert [rule["id"] for rule in driver["rules"]] == list(NUMBERS)
    first, second = run["results"]
    assert (first["ruleId"], first["level"]) == ("DM007", "error")
    assert (second["ruleId"], second["level"]) == ("DM009", "warning")
    assert driver["rules"][first["ruleIndex"]]["id"] == "DM007"
    assert first["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "map.json"},
                "region": {"startLine": 2},
            },
            "logicalLocations": [
                {
                    "fullyQualifiedName": "Regions.900.Nodes[0].HostName",
                    "kind": "member",
                }
            ],
        }
    ]
    assert first["message"]["text"].startswith("Regions.900.Nodes[0].HostName: 'a:1'")


def test_sarif_of_nothing(lint):
    """Where nothing is wrong, a document says so; forges take old alerts back."""
    ended = lint(SOUND, "-o", "sarif")
    found = json.loads(ended.out)
    conforms(found)
    assert (ended.code, found["runs"][0]["results"]) == (0, [])


def test_sarif_of_what_is_no_map(lint):
    """It is a result, too, and `note` is what SARIF calls an info."""
    for text, level in (("{\n]", "error"), (TRIAL, "note")):
        found = json.loads(lint(text, "-o", "sarif").out)
        conforms(found)
        assert [one["level"] for one in found["runs"][0]["results"]] == [level]


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("a b#1?.json", "a%20b%231%3F.json"),
        ("ä.json", "%C3%A4.json"),
        ("./sub/../100%.json", "sub/../100%25.json"),
        ("/etc/map.json", "file:///etc/map.json"),
        ("https://example.net/map?a=1", "https://example.net/map?a=1"),
        ("https://example.net/a b", "https://example.net/a%20b"),
    ],
)
def test_sarif_has_uris(name, uri):
    """A path may have any sign, a URI may not."""
    finding = Finding("DM007", Severity.ERROR, "Regions.1", "wrong", line=1)
    log = sarif([finding], file=name, version="1.0.0")
    conforms(log)
    (location,) = log["runs"][0]["results"][0]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_sarif_of_no_file(derpctl, beside, configured, monkeypatch):
    """Standard input and the region are no artifacts: the member is the place."""
    piped = io.TextIOWrapper(io.BytesIO(BROKEN.encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    found = json.loads(derpctl("map", "lint", "-", "-o", "sarif").out)
    conforms(found)
    (place,) = found["runs"][0]["results"][0]["locations"]
    assert list(place) == ["logicalLocations"]
    url = beside.start(admin(AdminStandIn(entry={"HostName": "a:1"})))
    words = ("--config", configured(_900a=url), "map", "lint", "cluster")
    found = json.loads(derpctl(*words, "-o", "sarif").out)
    conforms(found)
    assert found["runs"][0]["results"]


def test_sarif_of_hostile_names(lint):
    """Whatever is in a map, the document is one."""
    text = BROKEN.replace('"900a"', r'"\ud800\u001b[31m"')
    ended = lint(text, "-o", "sarif")
    conforms(json.loads(ended.out))
    assert "\\u001b" not in ended.out
    ended.out.encode()


# GitHub.


def test_github(lint):
    """A command for each finding, and nothing beside them on stdout."""
    ended = lint(BROKEN, "-o", "github")
    first, second = ended.out.splitlines()
    assert ended.code == 7
    assert first.startswith(
        "::error file=map.json,line=2,title=DM007::Regions.900.Nodes[0].HostName: 'a:1'"
    )
    assert second.startswith("::warning file=map.json,line=3,title=DM009::")
    assert lint(TRIAL, "-o", "github").out.startswith("::notice file=map.json,line=2,")
    assert lint(SOUND, "-o", "github").out == ""


def test_github_escapes():
    """What ends a command, or a property of it, is written as the runner reads it."""
    finding = Finding("DM004", Severity.WARNING, "", "100 %: a,b\r\n::error::x", line=3)
    assert command(finding, "a,b:c%\n.json") == (
        "::warning file=a%2Cb%3Ac%25%0A.json,line=3,title=DM004"
        r"::100 %25: a,b\r\n::error::x"
    )


def test_github_of_hostile_names(lint):
    """A name with a line break starts no command of its own."""
    text = SOUND.replace('"900a"', r'"\n::error::x"')
    (line,) = lint(text, "-o", "github").out.splitlines()
    assert line.startswith("::warning file=map.json,line=2,title=DM004::")


def test_github_of_no_file(derpctl, monkeypatch):
    """The runner knows no line of what was piped in."""
    piped = io.TextIOWrapper(io.BytesIO(BROKEN.encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    ended = derpctl("map", "lint", "-", "-o", "github")
    assert ended.out.startswith("::error title=DM007::Regions.900.Nodes[0].HostName: ")


def test_others_have_no_such_reports(derpctl):
    """They are the linter's own."""
    assert derpctl("map", "diff", "a", "b", "-o", "sarif").code == 2
    assert derpctl("-o", "github", "version").code == 2
