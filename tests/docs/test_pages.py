"""Pages agree with the code and with each other."""

import inspect
import re
from urllib.parse import unquote

import pytest

from derpnode.server.admin import AdminServer
from tests.docs.blocks import MARKS, blocks_of
from tests.support.docs import BLOCKS, ROOT, filled, pages


PAGES = pages()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_generated_parts_are_fresh(page):
    """What stands between marks is what the code says now; else run `make docs`."""
    text = page.read_text("utf-8")
    assert filled(text) == text


def test_everything_generated_is_shown():
    """Each part that can be generated stands on one page."""
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for name in BLOCKS:
        assert text.count(f"<!-- generated: {name} -->") == 1, name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    """Every link to a file has its file, and every anchor its heading."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = page.parent / unquote(path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def anchors(text):
    """List the anchors that forges make of headings."""
    found = _HEADING.findall(_FENCED.sub("", text))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in found)
    return [heading.replace(" ", "-") for heading in plain]


def test_the_rules_for_maps_are_described_whole():
    """Every rule of `map lint` has its row, and no row is without a rule."""
    text = (ROOT / "docs/reference/map-rules.md").read_text("utf-8")
    sources = [*(ROOT / "ctl/derpctl/map").rglob("*.py")]
    code = "".join(source.read_text("utf-8") for source in sources)
    rows = re.findall(r"^\| (DM\d{3}) ", text, re.MULTILINE)
    assert rows == sorted(set(re.findall(r'"(DM\d{3})"', code)))


def test_the_admin_api_is_described_whole():
    """Every path that the admin listener answers is on its page."""
    text = (ROOT / "docs/reference/admin-api.md").read_text("utf-8")
    paths = re.findall(r'"(/\S+)": Page\(', inspect.getsource(AdminServer))
    assert "/readyz" in paths
    for path in paths:
        assert path.rstrip("/") in text, path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_marks_are_known(page):
    """A misspelt mark would be a block that nothing tests."""
    for block in blocks_of(page):
        if " " in block.mark:
            assert block.mark in MARKS, block


def test_the_readme_shows_a_minimal_node():
    """A public node takes at most ten lines."""
    (block,) = [b for b in blocks_of(ROOT / "README.md") if b.mark == "yaml derpd"]
    assert len(block.text.splitlines()) <= 10
