"""Many that come at once: L4 and L5."""

import contextlib
import socket
from collections.abc import Mapping

import pytest

from tests.bench.table import DISTURBED
from tests.interop.region import free_ports
from tests.load.generator import Report
from tests.load.node import refused
from tests.load.scale import LIMIT, WHOLE, sized


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]


@pytest.fixture
def herd(generator, start_node, say):
    """Cut a herd of clients, and have them come back as Go's client does.

    That offers the costly hybrid key exchange.
    """

    def run(clients: int, *settings: str) -> tuple[Report, float]:
        with start_node(*settings) as node:
            report = generator.run(
                node,
                *("herd", "--clients", clients, "--cut-after", 1, "--limit", 90),
                *("--hybrid", "--check", 100),
            )
            shed = node.metric(refused("handshakes"))
        say(
            f"L4: {clients} clients back in {report.number('took_s'):.1f} s (60),"
            f" at most {report.number('longest_in_handshake_s'):.1f} s in a handshake"
            f" (10), {shed:.0f} shed, failed attempts"
            f" {report.counts('failed_attempts') or 'none'},"
            f" others use {report.others():.1f} CPUs"
        )
        assert report.is_ok, report.document
        assert report.number("took_s") <= 60
        return report, shed

    return run


def in_vain(report: Report) -> Mapping[str, int]:
    """Return the attempts that their clients gave up, after 10 s."""
    failed = report.counts("failed_attempts").items()
    return {reason: count for reason, count in failed if reason.startswith("timeout")}


def test_a_herd_comes_back(herd):
    """Clients that are cut at once are all back in 60 s, none held in vain for 10 s.

    A machine that others keep busy may be too slow for the latter, at full size.
    """
    report, _ = herd(sized(5000, 500))
    assert not in_vain(report) or (WHOLE and report.others() > DISTURBED)


def test_a_herd_that_is_too_large_is_shed(herd):
    """Who is above the limit is closed at once and comes again, and all get in."""
    report, shed = herd(500, "limits.handshakes=50")
    assert not in_vain(report)
    assert shed > 0


def outside() -> str:
    """Return an address of this machine that is not loopback; those have no limits."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # sends nothing
        return str(sock.getsockname()[0])
    pytest.skip("NOT RUN under load: this machine has no address but loopback")


def test_a_storm_of_connects_costs_clients_nothing(generator, start_node, say):
    """At ten times the accept rate that there may be, clients lose no packet."""
    rate = 100
    (port,) = free_ports(1)
    settings = [
        f"limits.accept_rate={rate}",
        f"limits.accept_burst={rate}",
        "limits.source_handshakes=0",
        "limits.source_connections=0",
    ]
    with start_node(*settings, address=f"{outside()}:{port}") as node:
        report = generator.run(
            node,
            *("silent", "--rate", 10 * rate, "--seconds", sized(300, 30)),
            *("--watch", 1, "--healthy", 10, "--healthy-rate", 200, "--sources", 1),
        )
        shed = node.metric(refused("rate"))
        opened = report.number("opened")
        say(
            f"L5: {opened:.0f} connects, {shed:.0f} shed,"
            f" {report.number('healthy.lost_packets'):.0f} of"
            f" {report.number('healthy.traffic.sent'):.0f} packets lost (0), p99"
            f" {report.number('healthy.latency_us.p99') / 1000:.1f} ms,"
            f" others use {report.others():.1f} CPUs"
        )
    assert report.is_ok, report.document
    assert report.number("healthy.lost_packets") == 0
    assert shed >= 0.8 * opened
