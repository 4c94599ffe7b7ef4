"""A node that runs out of descriptors: L8."""

import contextlib
import socket
from collections import Counter

import pytest

from tests.load.node import Node, becomes, watching
from tests.load.scale import LIMIT, sized
from tests.load.visitors import visitors


pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(LIMIT)]

LIMIT_OF_FILES = 256


def ask_admin(node: Node) -> float:
    """Knock at the admin listener, as monitoring does; tell whether it answers."""
    host, port = node.admin.removeprefix("http://").rsplit(":", 1)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, int(port)), timeout=0.2) as sock,
    ):
        sock.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        return float(sock.recv(1) != b"")
    return 0.0


def test_no_descriptors_is_no_storm_and_passes(generator, start_node, say):
    """With 256 of them: a line of log a second, no client harmed, well when it is over.

    Twice as many connections as that want one, and monitoring asks all the while.
    """
    with start_node() as node:
        node.allow_descriptors(LIMIT_OF_FILES)
        usual, said = node.descriptors(), len(node.log())
        with (
            watching(lambda: ask_admin(node), every=0.1) as answers,
            watching(lambda: float(node.descriptors()), every=0.1) as held,
        ):
            report = generator.run(
                node,
                *("silent", "--rate", 200, "--seconds", sized(60, 6), "--watch", 6),
                *("--healthy", 4, "--healthy-rate", 100),
            )
        lines = node.log()[said:]
        # To the second: the timestamps are in ISO 8601.
        by_second = Counter(line.partition('"timestamp": "')[2][:19] for line in lines)
        recovered = becomes(lambda: node.descriptors() <= usual + 2, within=60)
        with visitors(node) as took:
            after = generator.run(node, "pairs", "--rate", 100, "--seconds", 1)
        say(
            f"L8: at most {max(held):.0f} descriptors ({LIMIT_OF_FILES}),"
            f" {len(lines)} lines of log in {len(by_second)} s, the most in one"
            f" {max(by_second.values(), default=0)}, monitoring had"
            f" {sum(answers):.0f} of {len(answers)} answers,"
            f" {report.number('healthy.lost_packets'):.0f} packets lost, then"
            f" {node.descriptors()} descriptors, {usual} before"
        )
    assert report.is_ok, report.document
    assert max(held) >= LIMIT_OF_FILES - 1
    assert report.number("healthy.lost_packets") == 0
    assert len(lines) <= report.number("measured.wall_s")
    assert recovered
    assert after.is_ok, after.document
    assert took
