"""Findings as SARIF 2.1.0, which code scanning of forges reads.

Source: OASIS ``sarif-v2.1.0``; what GitHub takes of it is in its documentation,
"SARIF support for code scanning".
"""

from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import quote

from derpctl.map.lint.catalog import NUMBERS, RULES, Rule
from derpctl.map.lint.finding import Finding, Severity, printable


VERSION = "2.1.0"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_LEVELS = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "note",
}
_URL_SIGNS = "/:?&=%~+,;@!$'()*[]"


def sarif(
    findings: Sequence[Finding], *, file: str | None, version: str
) -> dict[str, object]:
    """Make the document.

    Args:
        findings: In their order.
        file: What was judged: a path or a URL; None if it is neither.
        version: derpctl's own.
    """
    driver = {
        "name": "derpctl map lint",
        "semanticVersion": version,
        "rules": [_rule(rule) for rule in RULES],
    }
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {"driver": driver},
                "results": [_result(one, file) for one in findings],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.number,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.otherwise},
        "help": {"text": f"{rule.title} {rule.otherwise}"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"fixable": rule.fixable, "online": rule.online.value},
    }


def _result(finding: Finding, file: str | None) -> dict[str, object]:
    message = printable(finding.message)
    place = printable(finding.path)
    return {
        "ruleId": finding.rule,
        "ruleIndex": NUMBERS.index(finding.rule),
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{place}: {message}" if place else message},
        "locations": [_location(finding, place, file)],
        "properties": {"fixable": finding.fixable},
    }


def _location(finding: Finding, place: str, file: str | None) -> dict[str, object]:
    found: dict[str, object] = {}
    if file is not None:
        physical: dict[str, object] = {"artifactLocation": {"uri": _uri(file)}}
        if finding.line is not None:
            physical["region"] = {"startLine": finding.line}
        found["physicalLocation"] = physical
    if place or not found:
        name = {"fullyQualifiedName": place or "map", "kind": "member"}
        found["logicalLocations"] = [name]
    return found


def _uri(file: str) -> str:
    """Write a path as a URI: relative to where the command ran, unless absolute."""
    if "://" in file:
        return quote(file, safe=_URL_SIGNS)
    path = PurePath(file)
    text = quote(path.as_posix().encode("utf-8", "surrogateescape"))
    return f"file://{text}" if path.is_absolute() else text
