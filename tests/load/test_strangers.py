"""Strangers that connect and give nothing: L2 and L3."""

import pytest

from tests.load.node import HANDSHAKES, becomes, refused, watching
from tests.load.scale import LIMIT, sized
from tests.load.visitors import p99, visitors


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

MIB = 1 << 20
CAP = 4096
"""`limits.handshakes` by default."""

OWN = 1
"""The node's handshake with itself, by which it asks whether it is well: no limit."""


def test_silent_flood_costs_little_and_lets_clients_in(generator, start_node, say):
    """1,000 connections a second that say nothing: 200 MiB at most, and it comes back.

    As a silent connection is closed after 5 s, a tenth of the time has as many open
    at once as all of it: more than there may be.
    """
    seconds = sized(60, 6)
    with start_node() as node:
        with visitors(node) as before:
            generator.run(node, "pairs", "--pairs", 2, "--rate", 100, "--seconds", 3)
        rss = node.rss()
        with visitors(node) as took, watching(lambda: node.metric(HANDSHAKES)) as held:
            report = generator.run(
                node,
                *("silent", "--rate", 1000, "--seconds", seconds, "--watch", 6),
                *("--healthy", 2, "--healthy-rate", 100),
            )
        fell = becomes(lambda: node.rss() <= 1.2 * rss, within=60)
        grown = report.number("rss_kib.peak") - report.number("rss_kib.before")
        shed = node.metric(refused("handshakes"))
        say(
            f"L2: {report.number('opened'):.0f} silent, at most {max(held):.0f} at once"
            f" ({CAP}), {shed:.0f} shed, RSS +{grown / 1024:.1f} MiB (200),"
            f" {node.rss() / rss:.0%} of before at the end (120), {len(took)} clients"
            f" in, p99 {p99(took):.2f} s (3; {p99(before):.2f} s when idle),"
            f" others use {report.others():.1f} CPUs"
        )
    assert report.is_ok, report.document
    assert report.number("still_open") == 0
    assert report.number("healthy.lost_packets") == 0
    assert max(held) <= CAP + OWN
    assert grown <= 200 * 1024
    assert fell
    assert p99(took) <= max(3, 3 * p99(before))


@pytest.mark.parametrize(
    ("load", "seconds", "watch"),
    [("halftls", sized(15, 1.5), 12), ("drip", sized(10, 1), 8)],
)
def test_slow_strangers_are_gone_in_time(
    load, seconds, watch, generator, start_node, say
):
    """A ClientHello and nothing more, or a head a byte at a time: gone in 20 s.

    There are never more than may be, and clients lose nothing.
    """
    cap = sized(CAP, CAP // 10)
    with (
        start_node(f"limits.handshakes={cap}") as node,
        watching(lambda: node.metric(HANDSHAKES)) as held,
    ):
        report = generator.run(
            node,
            *(load, "--rate", 500, "--seconds", seconds, "--watch", watch),
            *("--healthy", 2, "--healthy-rate", 100),
        )
        say(
            f"L3 {load}: {report.number('opened'):.0f} opened, at most {max(held):.0f}"
            f" at once ({cap}), {node.metric(refused('handshakes')):.0f} shed, gone"
            f" after {report.number('closed_age_ms.max') / 1000:.1f} s (20), RSS"
            f" +{report.number('rss_kib.each'):.0f} KiB each,"
            f" others use {report.others():.1f} CPUs"
        )
        assert becomes(lambda: node.metric(HANDSHAKES) <= 1, within=5)
    assert report.is_ok, report.document
    assert report.number("still_open") == 0
    assert report.number("closed_age_ms.max") <= 20_000
    assert report.number("healthy.lost_packets") == 0
    assert max(held) <= cap + OWN
