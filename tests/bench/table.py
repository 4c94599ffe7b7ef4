"""From single runs to one table: medians, paired ratios, what to mistrust."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.rows import OFFERED_LIMIT, SHARE_LIMIT, Row


# A run whose CPUs others used by more than this is counted as disturbed.
DISTURBED = 0.1


@dataclass(eq=False)
class MissingFigure(Exception):
    """A report lacks what a row needs."""

    path: str

    def __str__(self) -> str:
        return f"the report has no {self.path}"


def dig(document: object, path: str) -> float:
    """Return the number at a dotted path of a report.

    Raises:
        MissingFigure: There is none.
    """
    found = document
    for word in path.split("."):
        found = found.get(word) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise MissingFigure(path)
    return float(found)


@dataclass(frozen=True)
class Cell:
    """One run of one row on one relay."""

    row: Row
    report: Mapping[str, object]

    @property
    def figure(self) -> float:
        """What the row is about."""
        return dig(self.report, self.row.figure)

    @property
    def beside(self) -> float | None:
        """The second figure, if the row has one."""
        return dig(self.report, self.row.beside) if self.row.beside else None

    @property
    def share(self) -> float | None:
        """The generator's share of its core."""
        return dig(self.report, self.row.share) if self.row.share else None

    @property
    def short(self) -> bool:
        """Whether less than the meant rate was offered."""
        return self.row.paced and (
            dig(self.report, "measured.offered_share") < OFFERED_LIMIT
        )

    @property
    def bound(self) -> bool:
        """Whether the generator, not the relay, may have set the pace."""
        return self.short or (self.share or 0.0) >= SHARE_LIMIT

    @property
    def disturbed(self) -> float:
        """The larger share of the two CPUs that went to anybody else."""
        measured = self.report.get("measured")
        if not isinstance(measured, Mapping) or not measured.get("cpus"):
            return 0.0
        relay, generator = (float(cpu["busy"]) for cpu in measured["cpus"])
        relay -= dig(measured, "relay.share")
        generator -= dig(measured, "generator.share")
        return max(relay, generator, 0.0)

    def brief(self) -> str:
        """Say it in a few words."""
        beside = "" if self.beside is None else f", p99 {self.beside:.0f} µs"
        share = "" if self.share is None else f", generator {self.share:.0%}"
        return (
            f"{self.figure:.3g} {self.row.unit}{beside}{share}"
            f", others {self.disturbed:.0%}"
        )


@dataclass
class Table:
    """All runs, by row, relay and round."""

    rows: Sequence[Row]
    relays: tuple[str, str]
    cells: dict[tuple[str, str], dict[int, Cell]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, number: int, row: Row, relay: str, cell: Cell | Exception) -> None:
        """Take one run in; remember it as a fault if it failed or lacks a figure."""
        place = f"round {number + 1}, {row.name}, {relay}"
        if isinstance(cell, Exception):
            self.faults.append(f"{place}: {cell}")
            return
        try:
            _ = cell.figure, cell.beside, cell.bound
        except MissingFigure as error:
            self.faults.append(f"{place}: {error}")
            return
        self.cells.setdefault((row.name, relay), {})[number] = cell

    def missing(self) -> list[str]:
        """Return what is wrong with this table; empty when nothing is."""
        empty = [
            f"{row.name}, {relay}: not measured once"
            for row in self.rows
            for relay in self.relays
            if not self.cells.get((row.name, relay))
        ]
        return [*self.faults, *empty]

    def ratios(self, row: Row) -> list[float]:
        """Return ours to theirs, of each round that has both."""
        ours, theirs = (self.cells.get((row.name, name), {}) for name in self.relays)
        return [
            ours[number].figure / theirs[number].figure
            for number in sorted(ours.keys() & theirs.keys())
            if theirs[number].figure > 0
        ]

    def document(self) -> dict[str, object]:
        """Return everything, reports and all."""
        return {
            "kind": "Bench",
            "machine": machine(),
            "rows": [self._row_document(row) for row in self.rows],
            "missing": self.missing(),
        }

    def _row_document(self, row: Row) -> dict[str, object]:
        ratios = self.ratios(row)
        runs = {name: self.cells.get((row.name, name), {}) for name in self.relays}
        return {
            "name": row.name,
            "title": row.title,
            "unit": row.unit,
            "better": row.better,
            "median": {name: middle(self._figures(row, name)) for name in runs},
            "ratio": middle(ratios),
            "spread": [min(ratios), max(ratios)] if ratios else None,
            "generator": self.generator(row),
            "disturbed": self.disturbed(row),
            "runs": {
                name: [cells[number].report for number in sorted(cells)]
                for name, cells in runs.items()
            },
        }

    def _figures(self, row: Row, relay: str) -> list[float]:
        return [cell.figure for cell in self.cells.get((row.name, relay), {}).values()]

    def _beside(self, row: Row, relay: str) -> list[float]:
        cells = self.cells.get((row.name, relay), {}).values()
        return [cell.beside for cell in cells if cell.beside is not None]

    def _all(self, row: Row) -> list[Cell]:
        return [
            cell
            for name in self.relays
            for cell in self.cells.get((row.name, name), {}).values()
        ]

    def generator(self, row: Row) -> str:
        """Say whether the generator kept out of the way in every run of a row."""
        cells = self._all(row)
        shares = [cell.share for cell in cells if cell.share is not None]
        if not shares:
            return "-"
        bound = sum(cell.bound for cell in cells)
        state = f"generator-bound {bound}/{len(cells)}" if bound else "ok"
        return f"{state}, {statistics.median(shares):.0%}, max {max(shares):.0%}"

    def disturbed(self, row: Row) -> str:
        """Say in how many runs of a row others used the two CPUs."""
        cells = self._all(row)
        count = sum(cell.disturbed > DISTURBED for cell in cells)
        return f"{count}/{len(cells)}"

    def text(self) -> str:
        """Return the table, in a form that Markdown takes."""
        head = [
            *("load", "unit", *self.relays, "ratio", "spread"),
            *(f"p99 {name}, µs" for name in self.relays),
            *("disturbed", "generator"),
        ]
        lines = [head, *(self._line(row) for row in self.rows)]
        widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
        lines.insert(1, ["-" * width for width in widths])
        drawn = [
            "| "
            + " | ".join(word.ljust(w) for word, w in zip(line, widths, strict=True))
            for line in lines
        ]
        return "\n".join([*(f"{line} |" for line in drawn), "", *self._notes()])

    def _line(self, row: Row) -> list[str]:
        ratios = self.ratios(row)
        return [
            row.title,
            row.unit,
            *(short(middle(self._figures(row, name))) for name in self.relays),
            short(middle(ratios)),
            f"{short(min(ratios))} to {short(max(ratios))}" if ratios else "-",
            *(short(middle(self._beside(row, name))) for name in self.relays),
            self.disturbed(row),
            self.generator(row),
        ]

    def _notes(self) -> list[str]:
        return [
            f"{machine()}; loopback, relay on one CPU, generator on another.",
            "Medians of rounds; ratio and spread are ours to derper's, round by round.",
            "disturbed: runs in which others had more than"
            f" {DISTURBED:.0%} of either CPU.",
            f"generator: its share of its CPU; bound from {SHARE_LIMIT:.0%} of it on,"
            f" or when it offered less than {OFFERED_LIMIT:.0%} of the rate.",
        ]


def middle(values: Sequence[float]) -> float | None:
    """Return the median, of nothing nothing."""
    return statistics.median(values) if values else None


def short(value: float | None) -> str:
    """Write a number with three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """Name the machine as far as speed goes."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in info if "model name" in line]
    model = models[0] if models else platform.machine()
    return f"{model} x {len(models)}, Linux {platform.release()}"
