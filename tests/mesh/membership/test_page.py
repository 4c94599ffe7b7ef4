"""The page about the region's file says what the code does."""

import re

import yaml

from derpmesh.membership import regionfile as file_module
from derpmesh.membership.file import INTERVAL
from derpmesh.membership.model import Region
from derpmesh.membership.regionfile import parse_region_text
from tests.support.docs import ROOT, _keys


PAGE = (ROOT / "docs/reference/region-file.md").read_text("utf-8")
HINT = "see docs/reference/region-file.md"

_ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_every_key_is_on_the_page():
    """With its type and its default, in the order of the code."""
    rows = [(key, kind, default) for key, kind, default, _ in _ROW.findall(PAGE)]
    assert rows == [
        ("region", "mapping", "required"),
        *(row[:3] for row in _keys("region.", Region)),
        ("nodes", "list of mappings", "required"),
        *(row[:3] for row in _keys("nodes[].", file_module._MemberEntry)),
        ("clients", "mapping", "none"),
        *(row[:3] for row in _keys("clients.", file_module._ClientsEntry)),
    ]


def test_what_the_code_says_of_a_key_is_on_the_page():
    """Its docstring, where it has one; the page may say more."""
    meanings = {key: meaning for key, *_, meaning in _ROW.findall(PAGE)}
    for prefix, model in (
        ("region.", Region),
        ("nodes[].", file_module._MemberEntry),
        ("clients.", file_module._ClientsEntry),
    ):
        for key, *_, said in _keys(prefix, model):
            assert said.strip(".").split(";")[0] in meanings[key], key


def test_file_has_no_other_keys():
    """Those of the file itself are three."""
    found = list(file_module._RegionFile.model_fields)
    assert found == ["region", "nodes", "clients"]


def test_example_is_a_region_file():
    """It is read as it stands there."""
    [example] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    found = parse_region_text(example, "example")
    assert list(yaml.safe_load(example)) == ["region", "nodes"]
    assert [member.name for member in found.members] == ["900a", "900b"]


def test_limits_are_those_of_the_code():
    """How large a file may be, and how often it is looked at."""
    assert file_module.MAX_SIZE == 1 << 20
    assert "1 MiB" in PAGE
    assert 1 / INTERVAL == 2
    assert "twice a second" in PAGE


def test_errors_lead_to_the_page():
    """It is where they say it is."""
    assert HINT == file_module._HINT
    assert (ROOT / HINT.removeprefix("see ")).exists()
