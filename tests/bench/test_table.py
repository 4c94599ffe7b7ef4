"""What the benchmark makes of reports: ratios, verdicts, and what it refuses."""

import pytest

from tests.bench.rows import BY_NAME
from tests.bench.table import Cell, MissingFigure, Table, dig


ROW = BY_NAME["5k"]


def report(cpu=50.0, share=0.3, offered=1.0, busy=(0.3, 0.3)):
    """What the generator says of a paced run."""
    return {
        "ok": True,
        "measured": {
            "generator": {"share": share},
            "relay": {"share": 0.3, "cpu_us_each": cpu},
            "cpus": [{"busy": busy[0]}, {"busy": busy[1]}],
            "offered_share": offered,
            "latency_us": {"p99": 200.0},
        },
    }


def filled(*rounds):
    """A table of one row, with (ours, theirs) of each round."""
    table = Table([ROW], ("ours", "derper"))
    for number, (ours, theirs) in enumerate(rounds):
        table.add(number, ROW, "ours", Cell(ROW, ours))
        table.add(number, ROW, "derper", Cell(ROW, theirs))
    return table


def test_ratios_are_of_pairs_not_of_medians():
    """A round in which the host was slow is slow for both."""
    table = filled(
        (report(cpu=20), report(cpu=40)),
        (report(cpu=90), report(cpu=100)),
        (report(cpu=30), report(cpu=50)),
    )
    assert table.ratios(ROW) == [0.5, 0.9, 0.6]
    assert "| 0.6   | 0.5 to 0.9 |" in table.text()


@pytest.mark.parametrize("bad", [{"share": 0.8}, {"offered": 0.97}])
def test_a_busy_or_late_generator_is_said_to_be(bad):
    """From 80 % of its core on, or below 98 % of the rate, it may be what was seen."""
    assert filled((report(), report())).generator(ROW).startswith("ok")
    table = filled((report(), report(**bad)))
    assert table.generator(ROW).startswith("generator-bound 1/2")


def test_a_run_whose_cpus_others_used_is_counted():
    """Neither the relay nor the generator explains a CPU this busy."""
    table = filled((report(), report(busy=(0.3, 0.9))))
    assert table.disturbed(ROW) == "1/2"


def test_a_report_without_the_figure_is_a_fault():
    """Nothing is printed as if it were there."""
    lacking = report()
    lacking["measured"]["relay"] = None
    table = filled((report(), lacking))
    assert table.missing() == [
        "round 1, 5k, derper: the report has no measured.relay.cpu_us_each",
        "5k, derper: not measured once",
    ]
    assert table.ratios(ROW) == []


def test_a_failed_run_is_a_fault_though_others_succeeded():
    """One good round does not make up for a bad one."""
    table = filled((report(), report()))
    table.add(1, ROW, "ours", RuntimeError("no relay"))
    assert table.missing() == ["round 2, 5k, ours: no relay"]


@pytest.mark.parametrize("path", ["a.c", "a.b.c", "d", "e"])
def test_only_numbers_are_figures(path):
    """Absent, too deep, a truth value or a text: none is a number."""
    with pytest.raises(MissingFigure):
        dig({"a": {"b": 1}, "d": True, "e": "1"}, path)


def test_every_row_names_figures_that_its_load_reports():
    """Paced rows have a latency beside; a share of delivery is better when larger."""
    for row in BY_NAME.values():
        assert row.paced == ("--rate" in row.load and row.beside is not None), row
    assert BY_NAME["overload"].better == "more"
