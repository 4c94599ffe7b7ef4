"""What a rule says: one finding, and several of them in a word."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Clients would fail."""
    WARNING = "warning"
    """Some clients, some day."""
    INFO = "info"
    """Nothing is wrong; an operator should know it all the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that fired, and where."""

    rule: str
    """`DM001`."""
    severity: Severity
    path: str
    """`Regions.900.Nodes[0].HostName`."""
    message: str
    """What is there, why it will not do, what would."""
    fixable: bool = False
    """Whether `map lint --fix` would mend it; never, where there is no file."""
    line: int | None = None
    """In the file, from 1; None where there is no file."""

    def __str__(self) -> str:
        return printable(f"{self.rule}: {self.path or 'map'}: {self.message}")

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "line": self.line,
            "message": self.message,
            "fixable": self.fixable,
        }


def printable(text: str) -> str:
    """Escape what would steer a terminal: files come from strangers."""
    return "".join(
        sign if sign.isprintable() else ascii(sign).strip("'") for sign in text
    )


def has_errors(findings: Iterable[Finding]) -> bool:
    """Tell whether clients would fail."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def summary(findings: Sequence[Finding]) -> str:
    """Count what was found."""
    counts = Counter(finding.severity for finding in findings)
    words = [
        f"{counts[severity]} {severity.value}{'' if counts[severity] == 1 else 's'}"
        for severity in Severity
        if counts[severity]
    ]
    return ", ".join(words) or "nothing is wrong"
