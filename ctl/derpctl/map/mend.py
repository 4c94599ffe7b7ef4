"""Mends a file with a map in it, and leaves what is not wrong, to the byte. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from derpctl.map import edit
from derpctl.map.errors import BadMap
from derpctl.map.lint import Terms
from derpctl.map.repair import Repair, repairs
from derpctl.map.source import Judged, judge, line_of, locate, looks_like_json, whole
from derpctl.map.texts import JsonText, YamlText


_BOM = "\ufeff"
_MOST_ROUNDS = 4
"""One is enough, but where a key hides another one."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A file as it should be."""

    text: str
    repairs: Sequence[Repair]
    """What was done to it."""


def mend(text: str, *, is_yaml: bool) -> Mended:
    """Mend what has only one meaning.

    What cannot be read is left as it is.

    Args:
        text: All of the file.
        is_yaml: Whether its name says so; YAML is headscale's.
    """
    kept = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(_BOM)
    done: list[Repair] = []
    for _ in range(_MOST_ROUNDS):
        found, new = _round(text, is_yaml=is_yaml or not looks_like_json(text))
        if not found:
            break
        text = new
        done += found
    return Mended(kept + text, done)


def marked(judged: Judged, text: str, *, is_yaml: bool, terms: Terms) -> Judged:
    """Say of findings whether `mend` would take them away.

    Args:
        judged: The file as it is.
        text: All of it.
        is_yaml: As for `mend`.
        terms: Those that it was judged by.
    """
    if not judged.findings:
        return judged
    mended = mend(text, is_yaml=is_yaml)
    after = judged
    if mended.repairs:
        plain = mended.text.removeprefix(_BOM)
        after = judge(plain, is_yaml=is_yaml, terms=terms)
    left = {(one.rule, one.path) for one in after.findings}
    findings = [
        replace(one, fixable=(one.rule, one.path) not in left)
        for one in judged.findings
    ]
    return replace(judged, findings=findings)


def _round(text: str, *, is_yaml: bool) -> tuple[list[Repair], str]:
    """Mend what can be seen; nothing, if it could not be read afterwards."""
    full = text if is_yaml else whole(text)
    try:
        _, located = locate(text, is_yaml=is_yaml)
        made = YamlText(full) if is_yaml else JsonText(full)
        found = [
            replace(one, line=line_of(located.lines, one.path))
            for one in repairs(made, located)
        ]
        new = edit.apply(full, (change for one in found for change in one.edits))
        new = new if full == text else new[1:-1]
        locate(new, is_yaml=is_yaml)
    except BadMap:
        return [], text
    return found, new
