"""Keepalives, the bucket of a reader, and the kernel's round-trip estimate."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.plane.contract import KEEPALIVE_GAP, ConnectionId, ReceiveLimit
from derpnode.plane.python.connection import Bucket
from derpnode.plane.python.timers import KeepAlives, rtt_label


# Keepalives.


def test_due_in_order():
    """Whoever drew least is first, and is told once."""
    gaps = iter([62.0, 60.5, 64.0])
    keepalives = KeepAlives(lambda _low, _high: next(gaps))
    for connection in (1, 2, 3):
        keepalives.add(ConnectionId(connection), 100.0)
    assert list(keepalives.due(160.4)) == []
    assert list(keepalives.due(162.0)) == [2, 1]
    assert list(keepalives.due(200.0)) == [3]
    assert list(keepalives.due(300.0)) == []


def test_drawn_between_60_and_65():
    """A tick late, it is still below 65."""
    drawn = []
    KeepAlives(lambda *bounds: drawn.append(bounds) or 60.0).add(ConnectionId(1), 0.0)
    assert drawn == [KEEPALIVE_GAP]
    assert KEEPALIVE_GAP[0] == 60
    assert KEEPALIVE_GAP[1] + 0.2 <= 65


# The bucket.


def test_burst_is_free():
    """Nothing has to be waited for while there are tokens."""
    bucket = Bucket(ReceiveLimit(rate=100, burst=1000), 0.0)
    assert bucket.spend(600, 0.0) == 0
    assert bucket.spend(400, 0.0) == 0
    assert bucket.spend(50, 0.0) == 0.5


def test_debt_is_paid_by_waiting():
    """What was read too much is waited for, once."""
    bucket = Bucket(ReceiveLimit(rate=100, burst=100), 0.0)
    assert bucket.spend(300, 0.0) == 2.0
    assert bucket.spend(0, 1.0) == 1.0
    assert bucket.spend(0, 2.0) == 0.0
    assert bucket.spend(50, 2.0) == 0.5


def test_no_more_than_a_burst_is_saved():
    """However long nothing was read."""
    bucket = Bucket(ReceiveLimit(rate=100, burst=100), 0.0)
    assert bucket.spend(100, 1e6) == 0
    assert bucket.spend(100, 1e6) == 1.0


@given(
    st.integers(1, 10**7),
    st.integers(65_568, 10**7),
    st.lists(st.integers(0, 131_072), min_size=1, max_size=100),
)
def test_who_waits_keeps_the_rate(rate, burst, reads):
    """Reading whenever one may, no more than the burst and one read is too early."""
    bucket, now, total = Bucket(ReceiveLimit(rate, burst), 0.0), 0.0, 0
    for size in reads:
        total += size
        assert total <= burst + rate * now + size + 1
        now += bucket.spend(size, now)


# The round-trip time.


@pytest.mark.parametrize(
    ("microseconds", "label"),
    [
        (0, "10ms"),
        (10_000, "10ms"),
        (10_001, "20ms"),
        (50_000, "50ms"),
        (150_000, "150ms"),
        (500_000, "500ms"),
        (500_001, "inf"),
        (0xFFFF_FFFF, "inf"),
    ],
)
def test_rtt_label(microseconds, label):
    """The upper bound that it is below, as derper writes it."""
    info = bytes(68) + struct.pack("=I", microseconds) + bytes(32)
    assert rtt_label(info) == label


def test_rtt_of_an_old_kernel():
    """One that gives less than is asked for."""
    assert rtt_label(bytes(71)) == "error"
