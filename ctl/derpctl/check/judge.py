"""Compares what nodes say of themselves with what others believe of them. Pure.

Nodes are asked at different moments, and what one has just told is not yet with the
others. So a difference between nodes counts if it is there at every look.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TypeVar

from derpctl.check.findings import Conclusion, Finding, Rule, Verdict
from derpctl.check.looks import Look
from derpctl.check.peers import places, presences
from derpctl.check.views import PresenceView
from derpctl.links import link_rows
from derpctl.reports import Report


_Value = TypeVar("_Value")
_Told = Mapping[str, PresenceView]


def judge(looks: Sequence[Look], reports: Sequence[Report]) -> Conclusion:
    """Say in what the nodes differ.

    Args:
        looks: What they said, one look after the other; one at least.
        reports: How they fare, which says why a link is not up.
    """
    last, where = looks[-1], places(reports)
    told = [presences(look, where) for look in looks]
    findings = [
        *_silent(last),
        *_server_keys(told[-1]),
        *_contradictions(looks),
        *_memberships(looks),
        *_unlinked(told, reports, list(permutations(last, 2))),
        *_lasting(told),
    ]
    answers = list(told[-1].values())
    pairs = list(permutations(last, 2))
    up = sum(_is_linked(told[-1], *pair) for pair in pairs)
    return Conclusion(
        _verdict(findings, answered=len(answers), links=len(pairs), up=up),
        looks=len(looks),
        nodes=len(last),
        answered=len(answers),
        links=len(pairs),
        links_up=up,
        clients=len({key for one in answers for key in one.local}),
        findings=findings,
        notes=list(_notes(last, reports)),
    )


def _verdict(
    findings: Sequence[Finding], *, answered: int, links: int, up: int
) -> Verdict:
    if not answered:
        return Verdict.UNKNOWN
    if links and not up:
        return Verdict.CRITICAL
    return Verdict.DIFFERENT if findings else Verdict.CONSISTENT


# What one look shows.


def _silent(look: Look) -> Iterator[Finding]:
    for name, answer in look.items():
        if answer.error:
            yield Finding(Rule.SILENT, name, detail=answer.error)


def _server_keys(told: _Told) -> Iterator[Finding]:
    keys = {name: presence.server_key for name, presence in told.items()}
    for names in _grouped(keys).values():
        if len(names) > 1:
            detail = f"{', '.join(names)} have the same server key"
            yield Finding(Rule.SERVER_KEY, "", detail=detail)


def _contradictions(looks: Sequence[Look]) -> Iterator[Finding]:
    """Find those of a relay with itself: it looks at one moment, so once is enough."""
    for name in looks[-1]:
        found = [look[name].contradictions for look in looks]
        if any(found):
            text = next(text for text in reversed(found) if text)
            yield Finding(Rule.CONTRADICTION, name, detail=text)


def _notes(look: Look, reports: Sequence[Report]) -> Iterator[str]:
    """Say what differs without being wrong, such as in the midst of an upgrade."""
    versions = {
        report.name: report.view.node.version
        for report in reports
        if report.view is not None
    }
    sources = {
        name: answer.membership.source
        for name, answer in look.items()
        if answer.membership is not None
    }
    for what, values in (("versions", versions), ("sources of membership", sources)):
        groups = _grouped(values)
        if len(groups) > 1:
            said = (f"{one} on {', '.join(names)}" for one, names in groups.items())
            yield f"{what} differ: {'; '.join(said)}"


# What every look shows.


def _unlinked(
    told: Sequence[_Told],
    reports: Sequence[Report],
    pairs: Sequence[tuple[str, str]],
) -> Iterator[Finding]:
    why = {(row.watcher, row.watched): row for row in link_rows(reports)}
    for pair in pairs:
        is_told = all(pair[0] in look for look in told)
        if is_told and not any(_is_linked(look, *pair) for look in told):
            row = why.get(pair)
            detail = str(row) if row is not None and not row.is_up else ""
            yield Finding(Rule.NOT_LINKED, *pair, detail=detail)


def _is_linked(told: _Told, name: str, other: str) -> bool:
    return name in told and other in told[name].links


def _lasting(told: Sequence[_Told]) -> list[Finding]:
    """Give the differences of presence that are there at every look."""
    found = set(_differences(told[0]))
    for look in told[1:]:
        found &= set(_differences(look))
    return sorted(found, key=lambda one: (one.node, one.peer, one.rule, one.key))


def _differences(told: _Told) -> Iterator[Finding]:
    """Compare what each node believes of each other with what that one says."""
    for name, other in permutations(told, 2):
        here, there = told[name], told[other]
        if other not in here.links:
            continue
        believed, is_so = here.links[other], there.is_to_be_known_by(here)
        for key in is_so - believed:
            yield Finding(Rule.NOT_KNOWN, name, other, key)
        for key in believed - is_so:
            yield Finding(Rule.NOT_THERE, name, other, key)


# Membership.


def _memberships(looks: Sequence[Look]) -> list[Finding]:
    """Find how memberships differ, if at every look they do in the same respect.

    Their revisions may differ though they are the same: a node that read the registry
    later has a later one.
    """
    found = [dict(_membership(look)) for look in looks]
    lasting = set(found[0]).intersection(*found[1:])
    return [
        Finding(Rule.MEMBERSHIP, "", detail=text)
        for respect, text in found[-1].items()
        if respect in lasting
    ]


def _membership(look: Look) -> Iterator[tuple[str, str]]:
    """Yield in what respects memberships differ, and how."""
    views = {
        name: answer.membership
        for name, answer in look.items()
        if answer.membership is not None
    }
    regions = {name: repr(sorted(v.region.items())) for name, v in views.items()}
    if len(_grouped(regions)) > 1:
        yield "region", f"the region is another one: {_listed(_grouped(regions))}"
    names = {name: ", ".join(v.names) or "nobody" for name, v in views.items()}
    if len(_grouped(names)) > 1:
        yield "names", f"the members are others: {_listed(_grouped(names))}"
    records = {
        name: {str(member.get("name")): member for member in view.members}
        for name, view in views.items()
    }
    for member in sorted({one for found in records.values() for one in found}):
        known = {
            name: repr(sorted(found[member].items()))
            for name, found in records.items()
            if member in found
        }
        groups = _grouped(known)
        if len(groups) > 1:
            sides = " than ".join(f"by {', '.join(found)}" for found in groups.values())
            yield member, f"{member} is recorded otherwise {sides}"


def _listed(groups: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{', '.join(names)}: {one}" for one, names in groups.items())


def _grouped(values: Mapping[str, _Value]) -> dict[_Value, list[str]]:
    """Give the names of each value, in the order that they came."""
    groups: dict[_Value, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return groups
