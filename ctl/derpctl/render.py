"""Every table of derpctl; the only place that knows rich."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from derpctl.admin import StatusView
from derpctl.health import Health, Report, Verdict
from derpctl.probe.checks import Result


_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_KILO = 1_000
_DASH = "-"
_WIDE = 100  # columns that leave room for wide gaps
_PIPED = 240  # columns where nobody says how many; nothing is folded in them

_STYLES = {
    Health.HEALTHY: "green",
    Health.DEGRADED: "yellow",
    Health.CRITICAL: "red",
    Health.UNKNOWN: "red",
    "serving": "green",
    "ok": "green",
    "failed": "red",
    "dead": "red",
    "silent": "red",
    "skipped": "dim",
}


@dataclass(frozen=True, slots=True)
class Screen:
    """Draws on stdout, in colours only where they are welcome."""

    color: bool

    def status(
        self, region: int, reports: Sequence[Report], verdict: Verdict, now: datetime
    ) -> None:
        """Draw a region and its nodes."""
        rows = [_status_row(report, now) for report in reports]
        gap = 2 if self._console().width >= _WIDE else 1
        self._draw(
            _headline(region, reports, verdict),
            _table(_STATUS_COLUMNS, rows, gap),
        )
        for problem in verdict.problems:
            self.line(problem)

    def probe(self, result: Result) -> None:
        """Draw what was found at each layer."""
        rows = [
            [check.layer, check.status.value, milliseconds(check.seconds), check.detail]
            for check in result.checks
        ]
        self._draw(
            Text(f"node {result.name} at {result.address}"),
            _table(("LAYER", "STATUS", "TIME>", "DETAIL"), rows),
        )

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Draw a table; a column whose name ends in `>` is aligned right."""
        self._draw(_table(columns, rows))

    def line(self, text: str, end: str = "\n") -> None:
        """Print text as it is, at once."""
        sys.stdout.write(f"{text}{end}")
        sys.stdout.flush()

    def _draw(self, *drawn: Table | Text) -> None:
        console = self._console()
        with console.capture() as captured:
            console.print(*drawn, sep="\n")
        # rich fills the last column with blanks.
        lines = [line.rstrip() for line in captured.get().splitlines()]
        self.line("\n".join(lines))

    def _console(self) -> Console:
        measured = sys.stdout.isatty() or "COLUMNS" in os.environ
        return Console(
            width=None if measured else _PIPED,
            file=sys.stdout,
            highlight=False,
            markup=False,
            emoji=False,
            no_color=not self.color,
            force_terminal=self.color,
            soft_wrap=False,
        )


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], gap: int = 2
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for name in columns:
        right = name.endswith(">")
        table.add_column(
            name.removesuffix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _headline(region: int, reports: Sequence[Report], verdict: Verdict) -> Text:
    views = [report.view for report in reports if report.view is not None]
    names = {view.node.region.name or view.node.region.code for view in views}
    text = Text(" ".join([f"region {region}", *sorted(names)]))
    text.append(" · ")
    text.append(verdict.health, style=_STYLES[verdict.health])
    text.append(f" · serving {verdict.serving}/{len(reports)}")
    text.append(f" · home clients {sum(view.clients.home for view in views)}")
    text.append(f" · not ideal {sum(view.clients.not_ideal for view in views)}")
    return text


_STATUS_COLUMNS = (
    "NODE",
    "STATE",
    "ADDRESS",
    "UP>",
    "HOME/ALL>",
    "NI>",
    "RX/TX>",
    "DROPS>",
    "STUN>",
    "CERT>",
    "VER",
)


def _status_row(report: Report, now: datetime) -> list[str]:
    view = report.view
    if view is None:
        return [report.name, report.state, *[_DASH] * 9]
    clients, traffic = view.clients, view.traffic
    return [
        report.name,
        report.state,
        _address(view),
        duration(view.node.uptime),
        f"{clients.home}/{clients.connections}",
        str(clients.not_ideal),
        f"{size(traffic.bytes_received)}/{size(traffic.bytes_sent)}",
        str(sum(traffic.dropped.values())),
        _DASH if view.stun is None else str(view.stun.get("success", 0)),
        _days_left(view, now),
        view.node.version,
    ]


def _address(view: StatusView) -> str:
    entry = view.node.map_entry
    host = str(entry.get("HostName", _DASH))
    host = f"[{host}]" if ":" in host else host
    port = entry.get("DERPPort", 0)
    return f"{host}:{port}" if port else host


def _days_left(view: StatusView, now: datetime) -> str:
    if view.node.certificate is None or view.node.certificate.not_after is None:
        return _DASH
    try:
        not_after = datetime.fromisoformat(view.node.certificate.not_after)
    except ValueError:
        return _DASH
    if not_after.tzinfo is None:
        not_after = not_after.replace(tzinfo=UTC)
    return f"{(not_after - now).days}d"


def duration(seconds: float) -> str:
    """Write a time span in its largest unit."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return f"{int(seconds)}s"


def size(count: int) -> str:
    """Write a number of bytes in three digits at most."""
    number = float(count)
    for unit in ("", "k", "M", "G"):
        if number < _KILO:
            return f"{number:.3g}{unit}"
        number /= _KILO
    return f"{number:.3g}T"


def milliseconds(seconds: float | None) -> str:
    """Write a short time span."""
    return _DASH if seconds is None else f"{seconds * 1000:.2f} ms"
