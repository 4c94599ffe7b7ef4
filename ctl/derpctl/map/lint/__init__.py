"""What is wrong with a map, though Go would read it: rules with numbers. Pure.

A rule never changes its number. Why each is one is in its message; the cases behind
them are in the tracker threads of Tailscale and headscale.
"""

from derpctl.map.lint.finding import (
    Finding,
    Severity,
    has_errors,
    printable,
    summary,
)
from derpctl.map.lint.judge import lint
from derpctl.map.lint.place import Target, Terms


__all__ = [
    "Finding",
    "Severity",
    "Target",
    "Terms",
    "has_errors",
    "lint",
    "printable",
    "summary",
]
