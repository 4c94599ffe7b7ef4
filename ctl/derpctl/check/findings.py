"""What is found where nodes do not agree, and what is concluded. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from derpctl.documents import document
from derpctl.exits import Exit
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import parse_node_key, short_key


FEW: Final = 10
"""Findings that are alike which people are shown; JSON has all of them."""


class Rule(StrEnum):
    """What does not hold."""

    SILENT = "silent"
    """A node does not answer, so that nothing is known of it."""

    SERVER_KEY = "server key"
    """Two nodes have the same."""

    CONTRADICTION = "contradiction"
    """The maps of one relay contradict each other."""

    MEMBERSHIP = "membership"
    """The nodes do not have the same region in force."""

    NOT_LINKED = "not linked"
    """One node has no link to another that carries packets."""

    NOT_KNOWN = "not known"
    """A client is on one node, and another node that is linked does not know it."""

    NOT_THERE = "not there"
    """A node believes a client on another one, which does not have it."""


class Verdict(StrEnum):
    """How a region is, in a word."""

    CONSISTENT = "consistent"
    DIFFERENT = "different"
    CRITICAL = "critical"
    """No link works."""

    UNKNOWN = "unknown"
    """No node answers."""


EXITS = {
    Verdict.CONSISTENT: Exit.OK,
    Verdict.DIFFERENT: Exit.DEGRADED,
    Verdict.CRITICAL: Exit.CRITICAL,
    Verdict.UNKNOWN: Exit.UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    rule: Rule
    node: str
    """Who is wrong, or says so; empty: the region."""

    peer: str = ""
    """The node that it is about."""

    key: str = ""
    """The client that it is about: `nodekey:…`."""

    detail: str = ""
    """What is to be said beyond that."""

    def text(self, *, reveal: bool) -> str:
        """Say it to an operator.

        Args:
            reveal: Whether keys are shown whole.
        """
        key = self.key if reveal else shortened(self.key)
        match self.rule:
            case Rule.NOT_KNOWN:
                return f"{self.node} does not know {key}, which is on {self.peer}"
            case Rule.NOT_THERE:
                where = f"{self.peer}, which does not have it"
                return f"{self.node} believes {key} on {where}"
            case Rule.NOT_LINKED:
                return self.detail or f"{self.node} to {self.peer}: not up"
            case _:
                return f"{self.node}: {self.detail}" if self.node else self.detail

    def members(self, *, reveal: bool) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "rule": self.rule.value,
            "node": self.node,
            "peer": self.peer,
            "key": self.key if reveal else shortened(self.key),
            "text": self.text(reveal=reveal),
        }


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What came of all looks."""

    verdict: Verdict
    looks: int
    nodes: int
    answered: int
    """Nodes that answered the last look."""

    links: int
    """Links that there should be, each way."""

    links_up: int
    clients: int
    """Clients that are somewhere, each counted once."""

    findings: Sequence[Finding]
    notes: Sequence[str]
    """What an operator should know though it is no difference."""

    def headline(self, region: int) -> str:
        """Say how it is in a line."""
        return (
            f"region {region} · {self.verdict.value} · nodes"
            f" {self.answered}/{self.nodes} · mesh {self.links_up}/{self.links}"
            f" · clients {self.clients} · looks {self.looks}"
        )

    def lines(self, region: int, *, reveal: bool) -> Iterator[str]:
        """Say all of it to people: of many that are alike, the first few."""
        yield self.headline(region)
        groups: dict[tuple[str, ...], list[Finding]] = {}
        for finding in self.findings:
            alike = (finding.rule, finding.node, finding.peer)
            groups.setdefault(alike, []).append(finding)
        for found in groups.values():
            for finding in found[:FEW]:
                yield finding.text(reveal=reveal)
            if len(found) > FEW:
                more = f"and {len(found) - FEW} more that are {found[0].rule.value}"
                yield f"{more}: {found[0].node}, of {found[0].peer}"
        for note in self.notes:
            yield f"note: {note}"

    def document(self, region: int, *, reveal: bool) -> dict[str, object]:
        """Make the document of `derpctl region check`."""
        return document(
            "RegionCheck",
            region=region,
            verdict=self.verdict.value,
            looks=self.looks,
            nodes={"answered": self.answered, "expected": self.nodes},
            links={"up": self.links_up, "expected": self.links},
            clients=self.clients,
            items=[finding.members(reveal=reveal) for finding in self.findings],
            notes=list(self.notes),
        )


def shortened(key: str) -> str:
    """Write a key as logs do; what is none is not shown."""
    if not key:
        return ""
    try:
        return short_key(parse_node_key(key))
    except BadKeyText:
        return "[?]"
