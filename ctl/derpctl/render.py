"""Every table of derpctl; the only place that knows rich."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from derpctl.admin import StatusView
from derpctl.health import Health, Verdict
from derpctl.keyring import NodeKeys, items
from derpctl.links import LinkRow
from derpctl.map.lint import Finding, printable
from derpctl.map.lint.catalog import Online, Rule
from derpctl.probe.checks import Result
from derpctl.probe.matrix import Cell, Outcome
from derpctl.reports import Report
from derpctl.wanted.history import Step
from derpctl.wanted.regions import RegionRow


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
    "up": "green",
    "ok": "green",
    "failed": "red",
    "dead": "red",
    "silent": "red",
    "waiting": "red",
    "missing": "red",
    "error": "red",
    "draining": "yellow",
    "drained": "yellow",
    "connecting": "yellow",
    "warning": "yellow",
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
        is_wide = self._console().width >= _WIDE
        left_out = {"MESH>"} if not verdict.links else set() if is_wide else {"VER"}
        columns = [name for name in _STATUS_COLUMNS if name not in left_out]
        rows = [_node_row(report, verdict, now, columns) for report in reports]
        self._draw(
            _headline(region, reports, verdict),
            _table(columns, rows, 2 if is_wide else 1),
        )
        for problem in (*verdict.problems, *verdict.notes):
            self.line(problem)

    def nodes(self, reports: Sequence[Report], verdict: Verdict, now: datetime) -> None:
        """Draw the nodes of a region, a line each."""
        rows = [_node_row(report, verdict, now, _LIST_COLUMNS) for report in reports]
        self.table(_LIST_COLUMNS, rows)

    def node(self, report: Report, links: Sequence[LinkRow], now: datetime) -> None:
        """Draw all that one node says."""
        pairs = list(_facts(report, now))
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self.line(f"{name:<{width}}  {value}")
        if links:
            self.line("")
            self.links(links)

    def links(self, links: Sequence[LinkRow]) -> None:
        """Draw links, each in one direction."""
        self.table(_LINK_COLUMNS, [_link_row(link) for link in links])

    def matrix(self, cells: Sequence[Cell]) -> None:
        """Draw what was found from every node to every other, then what is not well."""
        names = list(dict.fromkeys(cell.source for cell in cells))
        found = {(cell.source, cell.target): _matrix_cell(cell) for cell in cells}
        rows = [
            [f"from {name}", *(found[name, other] for other in names)] for name in names
        ]
        self.table(("", *(f"to {name}>" for name in names)), rows)
        reasons: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell.outcome is not Outcome.OK:
                reason = f"{cell.outcome.value}: {cell.detail}"
                reasons.setdefault(reason, []).append(cell)
        for reason, alike in reasons.items():
            where = f"{alike[0].source} to {alike[0].target}"
            pairs = f"{len(alike)} pairs" if len(alike) > 1 else where
            self.line(f"{pairs}: {reason}")

    def regions(self, rows: Sequence[RegionRow]) -> None:
        """Draw the regions that there are."""
        cells = [
            [
                str(row.id),
                row.code or _DASH,
                row.name or _DASH,
                f"{row.serving}/{row.nodes}",
                _DASH if row.clients is None else str(row.clients),
                row.content or _DASH,
                row.problem or _DASH,
            ]
            for row in rows
        ]
        columns = ("REGION>", "CODE", "NAME", "SERVING>", "CLIENTS>", "MAP", "PROBLEM")
        self.table(columns, cells)

    def history(self, steps: Sequence[Step]) -> None:
        """Draw what the map was; each change has a line."""
        rows = []
        for step in steps:
            first = [str(step.revision), step.content, step.at, step.author]
            words = [printable(str(one)) for one in step.difference.changes]
            for number, line in enumerate(words or ["no difference"]):
                rows.append([*(first if not number else [""] * len(first)), line])
        self.table(("REVISION>", "MAP", "WHEN", "WHO", "CHANGE"), rows)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Draw what a linter found."""
        rows = [
            [
                _DASH if found.line is None else str(found.line),
                found.rule,
                found.severity.value,
                printable(found.path),
                printable(found.message),
            ]
            for found in findings
        ]
        self.table(("LINE>", "RULE", "SEVERITY", "PATH", "MESSAGE"), rows)

    def rules(self, rules: Sequence[Rule]) -> None:
        """Draw the rules of the linter."""
        rows = [
            [
                rule.number,
                "/".join(one.value for one in rule.severities),
                "yes" if rule.fixable else _DASH,
                _DASH if rule.online is Online.NO else rule.online.value,
                rule.title,
            ]
            for rule in rules
        ]
        self.table(("RULE", "SEVERITY", "FIX", "ONLINE", "WANTS"), rows)

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

    def mesh_keys(self, nodes: Sequence[NodeKeys]) -> None:
        """Draw the mesh keys of the nodes, then why some are not known."""
        rows = [
            [str(item[name] or _DASH) for name in _KEY_FIELDS] for item in items(nodes)
        ]
        self.table(_KEY_COLUMNS, rows)
        for node in nodes:
            if node.error:
                self.line(f"{node.name}: {node.error}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Draw a table; a column whose name ends in `>` is aligned right."""
        self._draw(_table(columns, rows))

    def text(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """Give a table as text, as `table` draws it."""
        return self._text(_table(columns, rows))

    def line(self, text: str, end: str = "\n") -> None:
        """Print text as it is, at once."""
        sys.stdout.write(f"{text}{end}")
        sys.stdout.flush()

    def _draw(self, *drawn: Table | Text) -> None:
        self.line(self._text(*drawn), end="")

    def _text(self, *drawn: Table | Text) -> str:
        console = self._console()
        with console.capture() as captured:
            console.print(*drawn, sep="\n")
        # rich fills the last column with blanks.
        lines = [line.rstrip() for line in captured.get().splitlines()]
        return "".join(f"{line}\n" for line in lines)

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


class Counting:
    """Shows how many are left of something, on stderr: a bar where somebody watches.

    Args:
        name: Of what is emptied.
        unit: What is counted.
    """

    def __init__(self, name: str, unit: str) -> None:
        self._name = name
        self._unit = unit
        self._told = -1
        self._most = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(f"{{task.fields[left]}} {self._unit} left"),
                TimeElapsedColumn(),
            )
            console = Console(stderr=True, highlight=False)
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None, left="?")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Say a line."""
        if self._bar is not None:
            self._bar.console.print(f"derpctl: {text}", markup=False)
        else:
            sys.stderr.write(f"derpctl: {text}\n")

    def left(self, count: int) -> None:
        """Show how many are left; the same number twice is told once."""
        if count == self._told:
            return
        self._told, self._most = count, max(self._most, count)
        if self._bar is None:
            self.say(f"{self._name}: {count} {self._unit} left")
            return
        done = self._most - count
        self._bar.update(self._task, total=self._most, completed=done, left=count)


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
    pages = [report.membership for report in reports if report.membership is not None]
    wanted = [page.region for page in pages if page.region is not None]
    regions = wanted or [view.node.region for view in views]
    names = {region.name or region.code for region in regions}
    text = Text(" ".join([f"region {region}", *sorted(names)]))
    text.append(" · ")
    text.append(verdict.health, style=_STYLES[verdict.health])
    text.append(f" · serving {verdict.serving}/{len(reports)}")
    if verdict.links:
        text.append(f" · mesh {verdict.links_up}/{len(verdict.links)}")
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
    "MESH>",
    "RX/TX>",
    "DROPS>",
    "STUN>",
    "CERT>",
    "VER",
)

_LIST_COLUMNS = (
    "NODE",
    "STATE",
    "ADDRESS",
    "UP>",
    "HOME/ALL>",
    "MESH>",
    "CERT>",
    "VER",
    "ADMIN",
)

_KEY_COLUMNS = ("NODE", "PHASE", "CURRENT", "NEXT", "PREVIOUS")
_KEY_FIELDS = ("name", "phase", "current", "next", "previous")

_LINK_COLUMNS = (
    "FROM",
    "TO",
    "STATE",
    "SINCE>",
    "KEYS>",
    "RTT>",
    "PACKETS>",
    "BYTES>",
    "LAST ERROR",
)


def _node_row(
    report: Report, verdict: Verdict, now: datetime, columns: Sequence[str]
) -> list[str]:
    cells = _node_cells(report, verdict, now)
    return [cells.get(name, _DASH) for name in columns]


def _node_cells(report: Report, verdict: Verdict, now: datetime) -> Mapping[str, str]:
    """Say what there is to say of a node, by column."""
    view = report.view
    cells = {"NODE": report.name, "STATE": report.state, "ADMIN": report.admin}
    if view is None:
        return cells
    clients, traffic = view.clients, view.traffic
    links = [link for link in verdict.links if link.watcher == report.name]
    if report.links is not None:
        cells["MESH>"] = f"{sum(link.is_up for link in links)}/{len(links)}"
    if view.stun is not None:
        cells["STUN>"] = str(view.stun.get("success", 0))
    return cells | {
        "ADDRESS": _address(view),
        "UP>": duration(view.node.uptime),
        "HOME/ALL>": f"{clients.home}/{clients.connections}",
        "NI>": str(clients.not_ideal),
        "RX/TX>": f"{size(traffic.bytes_received)}/{size(traffic.bytes_sent)}",
        "DROPS>": str(sum(traffic.dropped.values())),
        "CERT>": _days_left(view, now),
        "VER": view.node.version,
    }


def _facts(report: Report, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what one node says, under its name."""
    yield "name", report.name
    yield "admin", report.admin
    yield "state", report.state
    view = report.view
    if view is None:
        yield "error", report.error or ""
        return
    node, clients, traffic = view.node, view.clients, view.traffic
    if node.reasons:
        yield "because", ", ".join(node.reasons)
    for note in node.notes:
        yield "note", note
    yield "region", " ".join([str(node.region.id), node.region.code, node.region.name])
    yield "address", _address(view)
    yield "version", f"{node.version}, plane {node.plane or _DASH}"
    yield "up", duration(node.uptime)
    yield "server key", node.server_key or _DASH
    if node.certificate is not None:
        yield "certificate", f"{node.certificate.mode}, {_days_left(view, now)} left"
        yield "pin", node.certificate.pin or _DASH
    for kind, addresses in node.listeners.items():
        yield f"{kind} port", ", ".join(addresses) or _DASH
    yield (
        "clients",
        f"{clients.connections}: {clients.home} at home, {clients.not_ideal} not"
        f" ideal, {clients.duplicate_keys} of duplicate keys",
    )
    yield "received", f"{traffic.packets_received} packets, {traffic.bytes_received} B"
    yield "sent", f"{traffic.packets_sent} packets, {traffic.bytes_sent} B"
    yield "forwarded", f"{traffic.forwarded_out} out, {traffic.forwarded_in} in"
    dropped = [f"{count} {why}" for why, count in traffic.dropped.items() if count]
    yield "dropped", ", ".join(dropped) or _DASH


def _link_row(link: LinkRow) -> list[str]:
    view = link.view
    if view is None:
        return [link.watcher, link.watched, link.state, *[_DASH] * 5, link.error]
    return [
        link.watcher,
        link.watched,
        link.state,
        duration(view.since),
        str(view.keys),
        milliseconds(view.round_trip),
        str(view.forwarded_packets),
        size(view.forwarded_bytes),
        link.error or _DASH,
    ]


def _matrix_cell(cell: Cell) -> str:
    match cell.outcome:
        case Outcome.OK | Outcome.SLOW:
            slow = "slow " if cell.outcome is Outcome.SLOW else ""
            return f"{slow}{milliseconds(cell.median)}"
        case Outcome.LOST if cell.sent:
            return f"lost {cell.sent - cell.received}/{cell.sent}"
        case outcome:
            return outcome.value


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
