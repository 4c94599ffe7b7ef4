"""The readers of maps: what strangers keep theirs in, and mistakes that people made."""

import contextlib
from pathlib import Path

from derpctl.documents import document, pretty
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.canonical import canonical_json
from derpctl.map.diff import diff
from derpctl.map.errors import BadMap
from derpctl.map.judged import Judged
from derpctl.map.lint import Target, Terms, has_errors, printable
from derpctl.map.lint.catalog import NUMBERS, UNREADABLE
from derpctl.map.lint.github import command
from derpctl.map.lint.sarif import sarif
from derpctl.map.mend import marked, mend
from derpctl.map.model import DerpMap
from derpctl.map.quick import judge_quickly
from derpctl.map.source import judge, read_any
from derpctl.texts import as_text


MISTAKES = Path(__file__).parents[1] / "ctl/map/mistakes"

_YAML, _HEADSCALE, _ALLOW = 1, 2, 4
"""Bits of the first byte: what the name of the file, and the operator, say."""

_LIMITS = ("levels", "a value")
"""Of our own parser, for what is in no map; Python's has others."""


def derp_map(data: bytes) -> None:
    """Lint a file and compare it; the first byte says how."""
    how, data = data[0] if data else 0, data[1:]
    text = _text(data)
    if text is None:
        return
    is_yaml, allow = bool(how & _YAML), bool(how & _ALLOW)
    terms = Terms(
        allow_system_ids=allow,
        allow_insecure=allow,
        target=Target.HEADSCALE if how & _HEADSCALE else None,
    )
    judged = judge(text, is_yaml=is_yaml, terms=terms)
    _check_findings(judged, text)
    _check_mended(judged, text, is_yaml=is_yaml, terms=terms)
    if not is_yaml:
        _check_short_way(judged, judge_quickly(text, terms))
    _check_diff(judged, text, is_yaml=is_yaml)


def _text(data: bytes) -> str | None:
    """Take bytes for text, as the command does; what is none is told apart."""
    refused: CtlError | None = None
    try:
        return as_text("/fuzz", data)
    except CtlError as exc:
        refused = exc
    assert refused.exit is Exit.INVALID
    assert refused.hint
    return None


def _check_findings(judged: Judged, text: str) -> None:
    """Each says where it is and what would do, and can be written to everybody."""
    lines = text.count("\n") + text.count("\r") + 1
    for one in judged.findings:
        assert one.rule in NUMBERS
        assert one.line or one.path, one
        assert one.line is None or 1 <= one.line <= lines + 1, one
        assert one.message
        assert str(one).isprintable()
        assert "\n" not in command(one, "map.json")
    assert judged.form in {"derpmap", "acl", "headscale"}
    if judged.derp_map is None:
        assert judged.findings[-1].rule == UNREADABLE
    items = [one.members() for one in judged.findings]
    pretty(document("MapLint", items=items)).encode()
    pretty(sarif(judged.findings, file="map.json", version="1.0.0")).encode()


def _check_mended(judged: Judged, text: str, *, is_yaml: bool, terms: Terms) -> None:
    """What `--fix` can mend is mended at once, and stays a map that can be read."""
    found = marked(judged, text, is_yaml=is_yaml, terms=terms)
    assert len(found.findings) == len(judged.findings)
    mended = mend(text, is_yaml=is_yaml)
    if not mended.repairs:
        assert mended.text == text
        return
    assert not mend(mended.text, is_yaml=is_yaml).repairs
    if UNREADABLE not in {one.rule for one in judged.findings}:
        read_any(mended.text.removeprefix("\ufeff"), is_yaml=is_yaml)


def _check_short_way(judged: Judged, short: Judged | None) -> None:
    """What is well the short way is so the long one, and is the same map."""
    if short is not None and judged != short:
        (one,) = judged.findings
        assert any(word in one.message for word in _LIMITS), one


def _check_diff(judged: Judged, text: str, *, is_yaml: bool) -> None:
    """What lint can read, `map diff` reads to the same end; else it says where not."""
    found, refused = None, ""
    try:
        found = read_any(text, is_yaml=is_yaml)
    except BadMap as exc:
        refused = str(exc)
    if found is None:
        # Of YAML, that is also what headscale leaves out, all of it maybe: DM024.
        assert has_errors(judged.findings), refused
        assert refused
        return
    assert found == judged.derp_map
    with contextlib.suppress(RecursionError):
        canonical_json(found)
    assert not diff(found, found).changes
    for line in diff(DerpMap(), found).lines():
        assert printable(line).isprintable()


def seeds() -> list[bytes]:
    """Give each mistake, in the form that its name says."""
    return [
        bytes([path.suffix == ".yaml"]) + path.read_bytes()
        for path in sorted(MISTAKES.iterdir())
    ]
