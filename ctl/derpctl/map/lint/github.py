"""Findings as commands of GitHub's runner, which shows them beside the file.

Source: GitHub's documentation, "Workflow commands for GitHub Actions", and
actions/toolkit ``command.ts`` for what is escaped.
"""

from derpctl.map.lint.finding import Finding, Severity, printable


_COMMANDS = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "notice",
}


def command(finding: Finding, file: str | None) -> str:
    """Write one finding as a line.

    Args:
        finding: It.
        file: What was judged, as the runner knows it; None if it is no file.
    """
    properties = {
        "file": file,
        "line": finding.line if file is not None else None,
        "title": finding.rule,
    }
    written = ",".join(
        f"{name}={_property(str(value))}"
        for name, value in properties.items()
        if value is not None
    )
    text = f"{finding.path}: {finding.message}" if finding.path else finding.message
    return f"::{_COMMANDS[finding.severity]} {written}::{_data(printable(text))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
