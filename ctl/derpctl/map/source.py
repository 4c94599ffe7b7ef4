"""Reads a map from what people keep it in, and knows the line of everything.

Plain DERPMap JSON, a Tailscale policy or its `derpMap` alone (HuJSON), or a file of
headscale's `derp.paths` (YAML). What cannot be read is a finding, too.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import yaml

from derpctl.map.errors import BadMap
from derpctl.map.hujson import Located, parse_hujson
from derpctl.map.judged import Judged
from derpctl.map.lint import Finding, Severity, Target, Terms, lint
from derpctl.map.model import LARGEST, DerpMap
from derpctl.map.read import KEYS, read_derp_map
from derpctl.map.spot import Spot


_MEMBER = "derpmap"
_LINE = re.compile(r"line (\d+)")
_MOST_DEEP = 100
_MOST_VALUES = 200_000
_MOST_DIGITS = 400
_MERGE = "tag:yaml.org,2002:merge"
_INTEGER = "tag:yaml.org,2002:int"
_TARGETS = {"derpmap": Target.TAILSCALE, "headscale": Target.HEADSCALE}
"""Who hands a file of a form to clients, if nobody says."""


_STRICT = Terms()


def judge(text: str, *, is_yaml: bool, terms: Terms = _STRICT) -> Judged:
    """Read a file and apply the rules.

    Args:
        text: All of it.
        is_yaml: Whether its name says so; YAML is headscale's.
        terms: What the operator says of it.
    """
    is_yaml = is_yaml or not looks_like_json(text)
    form = "headscale" if is_yaml else "derpmap"
    if terms.target is None:
        terms = replace(terms, target=_TARGETS[form])
    try:
        form, located = locate(text, is_yaml=is_yaml)
    except BadMap as exc:
        return Judged(form, [_unreadable(exc, {})])
    findings = [*_too_large(text), *_no_map(located.value)]
    if located.value is None:
        return Judged(form, findings)
    if is_yaml:
        findings += _wrong_case("", located.value, located.lines)
        located = _as_go_spells(located)
    findings += _doubled("", located.spot, located.lines)
    findings += _nulls(located, terms.target)
    try:
        derp_map = read_derp_map(located.value)
    except BadMap as exc:
        return Judged(form, [*findings, _unreadable(exc, located.lines)])
    if form != "acl" and not derp_map.regions and not findings:
        message = (
            "there is none, so that whoever hands this out takes every region from"
            " clients; list one, or hand nothing out"
        )
        line = line_of(located.lines, "Regions")
        findings.append(Finding("DM005", Severity.ERROR, "Regions", message, line=line))
    for finding in lint(derp_map, terms):
        findings.append(replace(finding, line=line_of(located.lines, finding.path)))
    return Judged(form, findings, derp_map, text)


def unread(reason: str, *, is_yaml: bool) -> Judged:
    """Judge a file that is no text.

    Args:
        reason: Why it is none.
        is_yaml: As for `judge`.
    """
    form = "headscale" if is_yaml else "derpmap"
    message = f"{reason}; give a text file, in UTF-8"
    return Judged(form, [Finding("DM025", Severity.ERROR, "", message, line=1)])


def and_also(judged: Judged, findings: Iterable[Finding]) -> Judged:
    """Add what others found in a map that was read; it gets the lines of the file."""
    added = list(findings)
    if added and judged.text:
        is_yaml = judged.form == "headscale"
        lines = locate(judged.text, is_yaml=is_yaml)[1].lines
        added = [replace(one, line=line_of(lines, one.path)) for one in added]
    return replace(judged, findings=[*judged.findings, *added])


def read_any(text: str, *, is_yaml: bool) -> DerpMap:
    """Read a map from any of the forms, without a judgement.

    Args:
        text: All of it.
        is_yaml: Whether its name says so; YAML is read as headscale reads it.

    Raises:
        BadMap: There is none in it.
    """
    for finding in _too_large(text):
        raise BadMap("", text[:20], finding.message)
    form, located = locate(text, is_yaml=is_yaml or not looks_like_json(text))
    if form == "headscale":
        located = _as_go_spells(located)
    doubled = _doubled("", located.spot, located.lines)
    for finding in (*_no_map(located.value), *doubled):
        raise BadMap(finding.path, located.value, finding.message)
    return read_derp_map(located.value)


def locate(text: str, *, is_yaml: bool) -> tuple[str, Located]:
    """Find the map in a file; also say in which form it is.

    Places are those in the text that `whole` makes of it.

    Raises:
        BadMap: It is not of that form at all.
    """
    if is_yaml:
        return "headscale", _yaml(text)
    located = parse_hujson(whole(text))
    if isinstance(located.value, dict):
        member = next((key for key in located.value if key.lower() == _MEMBER), "")
        if member:
            return "acl", _below(located, member)
    return "derpmap", located


def looks_like_json(text: str) -> bool:
    """Tell by the first character that is no comment of either."""
    for line in text.lstrip("\ufeff").splitlines():
        words = line.strip()
        if words and not words.startswith("#"):
            return words[0] in '{["/'
    return False


def whole(text: str) -> str:
    """Put braces around a member that stands alone, as `--fragment` prints it."""
    return f"{{{text}}}" if text.lstrip().startswith('"') else text


def _below(located: Located, name: str) -> Located:
    """Take one member of an object, with its lines."""
    value = located.value[name] if isinstance(located.value, dict) else None
    member = name.lower()
    start = f"{member}."
    lines = {
        path.removeprefix(start): line
        for path, line in located.lines.items()
        if path.startswith(start)
    }
    spot = located.spot.at(name) if located.spot is not None else None
    return Located(value, {"": located.lines[member], **lines}, spot)


def _unreadable(exc: BadMap, lines: Mapping[str, int]) -> Finding:
    """Go's decoder would stop here, and so do we."""
    match = _LINE.fullmatch(exc.path)
    path = "" if match else exc.path
    line = int(match[1]) if match else line_of(lines, exc.path)
    message = f"{exc.value!r:.80}: {exc.reason}"
    return Finding("DM025", Severity.ERROR, path, message, line=line)


def _too_large(text: str) -> Iterator[Finding]:
    size = len(text.encode("utf-8", "replace"))
    if size > LARGEST:
        message = f"{size} bytes, and clients read no more than {LARGEST}"
        yield Finding("DM025", Severity.ERROR, "", message, line=1)


def _no_map(value: object) -> Iterator[Finding]:
    if value is None:
        message = "there is nothing in it; give the file with the map"
        yield Finding("DM025", Severity.ERROR, "", message, line=1)
    elif isinstance(value, dict) and "regions" not in map(str.lower, map(str, value)):
        message = "there is no map in it: neither Regions nor derpMap"
        yield Finding("DM025", Severity.ERROR, "", message + _instead(value), line=1)


def _instead(tree: Mapping[object, object]) -> str:
    """Say what is there in place of a map; nothing if nobody can tell."""
    for key in map(str, tree):
        name = key.lower().replace("_", "").replace("-", "")
        if name in ("regions", _MEMBER):
            wanted = "derpMap" if name == _MEMBER else "Regions"
            return f"; {key!r:.40} is read by nobody, call it {wanted}"
    derp = tree.get("derp")
    if isinstance(derp, dict) and "paths" in derp:
        return (
            "; this is headscale's configuration, and the map is in the files of its"
            " derp.paths"
        )
    return ""


def _nulls(located: Located, target: Target | None) -> Iterator[Finding]:
    """DM024: no region is null for headscale; Tailscale takes it for an order."""
    if target is not Target.HEADSCALE or not isinstance(located.value, dict):
        return
    for name, regions in located.value.items():
        if str(name).lower() != "regions" or not isinstance(regions, dict):
            continue
        for key in (key for key, region in regions.items() if region is None):
            path = f"Regions.{key}"
            message = (
                "null takes a region out in some versions of headscale, and does"
                " nothing in others; leave it out, and set derp.urls to a map without"
                " it"
            )
            line = line_of(located.lines, path)
            yield Finding("DM024", Severity.WARNING, path, message, line=line)


def line_of(lines: Mapping[str, int], path: str) -> int | None:
    """Find the line of a path, or of the nearest thing around it."""
    path = path.lower()
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path)


# YAML.


# A tag whose text does not fit, `!!int ''` or `!!bool x`, is not an error of PyYAML's.
_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


def _yaml(text: str) -> Located:
    """Read YAML, with lines.

    Raises:
        BadMap: It is none.
    """
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _note(node, "", lines, 0, itertools.count())
        value: object = yaml.safe_load(text)
        spot = _spot(node, value, set())
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"line {mark.line + 1}" if mark else "line 1"
        raise BadMap(where, exc.context or "", exc.problem or "not YAML") from exc
    except _NO_YAML as exc:
        where, reason = "line 1", f"not YAML: {' '.join(str(exc).split())}"
        raise BadMap(where, text[:20], reason) from exc
    return Located(value, lines, spot)


def _spot(node: yaml.Node | None, value: object, seen: set[int]) -> Spot | None:
    """Note the places of a node and of what is in it.

    None if something is there by its alias, too: a change of one is a change of both.
    """
    if node is None or id(node) in seen:
        return None
    seen.add(id(node))
    spot = Spot(value, node.start_mark.index, node.end_mark.index)
    if isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        tags = [key.tag for key, _ in node.value]
        if len(node.value) != len(value) or _MERGE in tags:
            return spot  # keys are there twice, or are those of another place
        members = []
        for (key_node, item), (key, inner) in zip(
            node.value, value.items(), strict=True
        ):
            member = _spot(item, inner, seen)
            if member is None:
                return None
            member.key = key_node.start_mark.index, key_node.end_mark.index
            members.append((str(key), member))
        spot.members = members
    elif isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        items = [_spot(*pair, seen) for pair in zip(node.value, value, strict=True)]
        spot.items = [item for item in items if item is not None]
        if len(spot.items) < len(items):
            return None
    return spot


def _note(
    node: yaml.Node | None,
    path: str,
    lines: dict[str, int],
    deep: int,
    seen: Iterator[int],
) -> None:
    """Note the lines of a node and of what is in it.

    Raises:
        BadMap: It has no end, or none in sight: aliases may go in circles.
    """
    if node is None:
        return
    if deep > _MOST_DEEP or next(seen) > _MOST_VALUES:
        where = f"line {node.start_mark.line + 1}"
        reason = f"more than {_MOST_DEEP} levels or {_MOST_VALUES} values"
        raise BadMap(where, path[:40], reason)
    lines[path.lower()] = node.start_mark.line + 1
    _check_digits(node)
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            _check_digits(key)
            if key.tag != _MERGE and str(key.value) in names:
                where = f"line {key.start_mark.line + 1}"
                reason = "it is there more than once, which headscale refuses"
                raise BadMap(where, str(key.value)[:40], reason)
            names.add(str(key.value))
            name = f"{path}.{key.value}".lstrip(".")
            _note(value, name, lines, deep + 1, seen)
            lines[name.lower()] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _note(item, f"{path}[{number}]", lines, deep + 1, seen)


def _check_digits(node: yaml.Node) -> None:
    """Refuse an integer that Python reads, in base 16 say, but would not write.

    Raises:
        BadMap: It is one.
    """
    if node.tag == _INTEGER and len(node.value) > _MOST_DIGITS:
        where = f"line {node.start_mark.line + 1}"
        raise BadMap(where, node.value[:20], f"more than {_MOST_DIGITS} digits")


def _doubled(
    path: str, spot: Spot | None, lines: Mapping[str, int]
) -> Iterator[Finding]:
    """Find what is there twice, of which Go takes the last without a word."""
    if spot is None:
        return
    counts = Counter(key.lower() for key, _ in spot.members)
    for key, member in spot.members:
        where = f"{path}.{key}".lstrip(".")
        if counts[key.lower()] > 1:
            counts[key.lower()] = 0
            message = (
                f"{key!r:.40} is there more than once, and only the last one counts;"
                " leave one"
            )
            line = line_of(lines, where)
            yield Finding("DM025", Severity.ERROR, where, message, line=line)
        yield from _doubled(where, member, lines)
    for number, item in enumerate(spot.items):
        yield from _doubled(f"{path}[{number}]", item, lines)


def _wrong_case(
    path: str, value: object, lines: Mapping[str, int]
) -> Iterator[Finding]:
    """Find keys that headscale would leave out, because they are not lower-case."""
    if isinstance(value, dict):
        for key, item in value.items():
            name = str(key)
            where = f"{path}.{name}".lstrip(".")
            if name != name.lower() and name.lower() in KEYS:
                message = f"headscale reads {name.lower()} only, and leaves {name} out"
                line = line_of(lines, where)
                yield Finding("DM024", Severity.ERROR, where, message, line=line)
            yield from _wrong_case(where, item, lines)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _wrong_case(f"{path}[{number}]", item, lines)


def _as_go_spells(located: Located) -> Located:
    """Give what headscale would make of it, in Go's words; the rest is left out."""
    return replace(located, value=_go(located.value))


def _go(value: object) -> object:
    if isinstance(value, list):
        return [_go(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        KEYS.get(str(key), str(key)): _go(item)
        for key, item in value.items()
        if str(key) == str(key).lower()
    }
