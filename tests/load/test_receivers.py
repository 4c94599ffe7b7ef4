"""Receivers that never read: L1."""

import pytest

from tests.load.generator import allowed, tail_ratio
from tests.load.scale import LIMIT, sized


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

ROUNDS = 3
"""Times that a tail may be measured until it is as short as it should be."""

MIB = 1024


def test_frozen_receivers_are_cut_and_harm_nobody(generator, start_node, say):
    """Each is cut 2.5 s after it took its last byte; others' tails at most double.

    The packets are large, so that the kernel's buffers are full soon.
    """
    frozen, senders, flood, seconds = sized((100, 1000, 5000, 15), (10, 100, 1200, 6))
    growth = sized(50, 10) * MIB  # a tenth of it, and what an allocator rounds up to
    reports = []
    with start_node() as node:
        while len(reports) < ROUNDS:
            report = generator.run(
                node,
                *("frozen", "--frozen", frozen, "--senders", senders),
                *("--flood-rate", flood, "--size", 8000, "--seconds", seconds),
                *("--pairs", 10, "--rate", sized(500, 200)),
            )
            reports.append(report)
            ratio, limit = (
                tail_ratio(reports, "flooded"),
                allowed(2, reports, "flooded"),
            )
            say(
                f"L1: {report.number('cut'):.0f} of {frozen} cut"
                f" {report.number('cut_after_full_ms.max') / 1000:.2f} s after the last"
                f" byte (2.5), RSS +{report.number('flooded.rss_kib_growth') / MIB:.0f}"
                f" MiB ({growth // MIB}), lost {report.number('healthy.lost'):.0f},"
                f" p99 x {ratio:.1f} ({limit}), others use"
                f" {report.others('flooded'):.1f} CPUs"
            )
            assert report.is_ok, report.document
            assert report.number("cut") == frozen
            assert report.number("flood.senders_cut") == 0
            assert report.number("healthy.lost") == 0
            if ratio <= limit:
                break
    best = min(report.number("cut_after_full_ms.max") for report in reports)
    assert best <= 2500
    assert reports[0].number("flooded.rss_kib_growth") <= growth
    assert ratio <= limit
