"""Mistakes that people made, by the threads where they asked for help.

Each map is of our own making, with the mistake in it; beside it is one without. `ts` is
tailscale/tailscale, `hs` juanfont/headscale, `tf` the Terraform provider of Tailscale.
"""

from pathlib import Path

import pytest

from derpctl.map.judged import Judged
from derpctl.map.lint import Severity
from derpctl.map.source import judge


HERE = Path(__file__).parent / "mistakes"

MISTAKES = [
    # A node does not say in which region it is: no latency, and never a home.
    ("ts-9526.hujson", "DM002", 11),
    # It says the wrong one, as the example did; the thread asks for a linter.
    ("hs-236.yaml", "DM002", 9),
    # The key of a region is not its RegionID: netcheck fell over it. Both directions.
    ("ts-17564.hujson", "DM001", 7),
    ("ts-17563.hujson", "DM001", 7),
    # Tailscale's regions are left out, and the only one of one's own is at home.
    ("ts-3896.hujson", "DM018", 5),
    ("ts-3896.hujson", "DM019", 16),
    # A number that is not for everybody's own regions.
    ("ts-1264.hujson", "DM003", 6),
    # headscale's embedded region has the same number, and replaces it.
    ("hs-1620.yaml", "DM022", 3),
    # A scheme in the host name, so that neither it nor the port is dialled.
    ("hs-2836.yaml", "DM007", 10),
    # JSON with its upper-case keys, where headscale reads YAML.
    ("hs-1418.yaml", "DM024", 2),
    # The file at the path that was given has no map: a misspelt name, another file.
    ("hs-110.yaml", "DM025", 1),
    ("hs-201.yaml", "DM025", 1),
    # A region is to be taken out of what headscale downloads.
    ("hs-2450.yaml", "DM024", 3),
    # A region of Tailscale's is to be replaced by one of one's own.
    ("hs-2596.yaml", "DM003", 3),
    # No address: clients need DNS, which may need the relay.
    ("hs-1565.yaml", "DM009", 8),
    # No address at all: nobody can dial it.
    ("hs-1542.yaml", "DM008", 8),
    # Terraform did not know the member, or spelt it in its own way.
    ("tf-44.json", "DM025", 1),
    ("tf-45.json", "DM002", 20),
]


def judged(path: Path) -> Judged:
    """Judge a file as the command does."""
    return judge(path.read_text(), is_yaml=path.suffix == ".yaml")


@pytest.mark.parametrize(("name", "rule", "line"), MISTAKES)
def test_mistake(name, rule, line):
    """The rule fires in the line where the mistake is."""
    found = judged(HERE / name).findings
    assert (rule, line) in {(one.rule, one.line) for one in found}


@pytest.mark.parametrize("name", dict.fromkeys(name for name, *_ in MISTAKES))
def test_mended(name):
    """Without the mistake nothing at all is wrong."""
    stem, _, suffix = name.partition(".")
    assert judged(HERE / f"{stem}.fixed.{suffix}").findings == []


def test_all_are_used():
    """Every file is one of a pair that is tested."""
    names = {name for name, *_ in MISTAKES}
    mended = {name.replace(".", ".fixed.", 1) for name in names}
    assert {path.name for path in HERE.iterdir()} == names | mended


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hs-110.yaml", "there is nothing in it"),
        ("hs-201.yaml", "this is headscale's configuration"),
        ("hs-2450.yaml", "null takes a region out in some versions of headscale"),
        ("tf-44.json", "'derp_map' is read by nobody, call it derpMap"),
    ],
)
def test_words(name, words):
    """What is there instead of a map is named."""
    assert words in judged(HERE / name).findings[0].message


def test_null_is_an_order_to_tailscale():
    """In a policy it takes one of their regions out, and is no mistake."""
    text = (HERE / "ts-9526.fixed.hujson").read_text()
    text = text.replace('"Regions": {', '"Regions": {"1": null,')
    found = judge(text, is_yaml=False).findings
    assert [one for one in found if one.severity is not Severity.INFO] == []
