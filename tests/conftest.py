"""What all tests share: how hard hypothesis looks, and how loudly a skip is told."""

import os
from pathlib import Path

import pytest
from hypothesis import settings


# No database: a regression becomes an @example beside its property.
for name, examples in {"dev": 50, "ci": 500, "deep": 20_000}.items():
    settings.register_profile(name, max_examples=examples, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


_BESIDE = tuple(Path(__file__).parent / name for name in ("mesh", "ctl"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests with real peers that run beside each other: they wait for etcd."""
    for item in items:
        is_real = item.get_closest_marker("interop") is not None
        is_alone = item.get_closest_marker("load") is not None
        is_there = any(item.path.is_relative_to(folder) for folder in _BESIDE)
        if is_real and is_there and not is_alone:
            item.add_marker(pytest.mark.beside)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which tests did not run, and why, where nobody can overlook it."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else "?"
        reason = text.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        return
    terminalreporter.section("NOT RUN ON THIS MACHINE", sep="!", red=True, bold=True)
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count:5d}  {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let no test be skipped where every tool should be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or exitstatus != 0 or reporter is None:
        return
    if reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
