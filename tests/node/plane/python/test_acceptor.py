"""Who may come in: sources, rates and counts, without a socket."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.plane.contract import AcceptLimits, Endpoint, Refusal
from derpnode.plane.python.acceptor import Gate, RateBucket, endpoint, source_of


ONE = source_of("192.0.2.1")
OTHER = source_of("192.0.2.2")
LOOPBACK = source_of("127.0.0.1")


# Sources.


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", bytes([192, 0, 2, 1])),
        ("2001:db8:1:2:3:4:5:6", bytes.fromhex("20010db800010002")),
        ("fe80::1%eth0", bytes.fromhex("fe80000000000000")),
        ("127.0.0.1", b""),
        ("127.8.9.10", b""),
        ("::1", b""),
    ],
)
def test_source(host, source):
    """An IPv4 address, an IPv6 /64, or nobody for loopback."""
    assert source_of(host) == source


@given(st.ip_addresses(v=6), st.ip_addresses(v=6))
def test_neighbours(one, other):
    """Two IPv6 addresses are one source when they share a /64."""
    loopback = ipaddress.IPv6Address("::1")
    if loopback not in {one, other}:
        same = int(one) >> 64 == int(other) >> 64
        assert (source_of(str(one)) == source_of(str(other))) == same


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("192.0.2.1", 443), Endpoint("192.0.2.1", 443)),
        (("::ffff:192.0.2.1", 443, 0, 0), Endpoint("192.0.2.1", 443)),
        (("2001:db8::1", 443, 0, 0), Endpoint("2001:db8::1", 443)),
        (("fe80::1%eth0", 443, 0, 2), Endpoint("fe80::1%eth0", 443)),
    ],
)
def test_endpoint(address, expected):
    """IPv4 in IPv6 clothes is IPv4."""
    assert endpoint(address) == expected


# Rates.


def test_burst_and_rate():
    """So many at once, then one whenever a token has come."""
    bucket = RateBucket(rate=2, burst=3)
    assert [bucket.take(10.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [bucket.take(10.6) for _ in range(2)] == [True, False]
    assert [bucket.take(99.0) for _ in range(5)] == [True] * 3 + [False] * 2


def test_no_rate():
    """0 turns it off."""
    bucket = RateBucket(rate=0, burst=0)
    assert all(bucket.take(0.0) for _ in range(1000))


def test_no_burst():
    """There is one at least, or nobody would ever come in."""
    bucket = RateBucket(rate=1, burst=0)
    assert bucket.take(5.0)
    assert not bucket.take(5.5)
    assert bucket.take(6.5)


@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_the_rate(rate, burst, gaps):
    """In any time, at most the burst and what the rate has brought."""
    bucket = RateBucket(rate, burst)
    now, let_in = 100.0, 0
    for gap in gaps:
        now += gap
        let_in += bucket.take(now)
    assert let_in <= burst + rate * (now - 100.0) + 1e-6


# Counts.


def enter(gate: Gate, source: bytes, count: int) -> None:
    """Let some in."""
    for _ in range(count):
        gate.enter(source)


def test_no_caps():
    """0 turns each off."""
    gate = Gate()
    enter(gate, ONE, 10_000)
    assert gate.refuses(AcceptLimits(), ONE) is None


def test_handshakes_of_a_source():
    """One that is full does not close the door for others, nor for loopback."""
    gate, limits = Gate(), AcceptLimits(source_handshakes=2)
    enter(gate, ONE, 2)
    enter(gate, LOOPBACK, 100)
    assert gate.refuses(limits, ONE) is Refusal.SOURCE
    assert gate.refuses(limits, OTHER) is None
    assert gate.refuses(limits, LOOPBACK) is None
    gate.settle(ONE)
    assert gate.refuses(limits, ONE) is None


def test_connections_of_a_source():
    """Those that are logged in count."""
    gate, limits = Gate(), AcceptLimits(source_connections=2)
    enter(gate, ONE, 2)
    enter(gate, LOOPBACK, 100)
    gate.settle(ONE)
    gate.settle(ONE)
    assert gate.refuses(limits, ONE) is Refusal.SOURCE
    assert gate.refuses(limits, LOOPBACK) is None
    gate.leave(ONE, settled=True)
    assert gate.refuses(limits, ONE) is None


def test_caps_of_all():
    """Loopback counts, and is counted."""
    gate = Gate()
    enter(gate, LOOPBACK, 2)
    assert gate.refuses(AcceptLimits(connections=2), ONE) is Refusal.CONNECTIONS
    assert gate.refuses(AcceptLimits(handshakes=2), ONE) is Refusal.HANDSHAKES
    assert gate.refuses(AcceptLimits(handshakes=2), LOOPBACK) is Refusal.HANDSHAKES


@given(st.lists(st.tuples(st.sampled_from([ONE, OTHER, LOOPBACK]), st.booleans())))
def test_nothing_is_left(visits):
    """When everybody has gone, no source is remembered."""
    gate = Gate()
    for source, settles in visits:
        gate.enter(source)
        if settles:
            gate.settle(source)
    assert gate.connections == len(visits)
    for source, settles in visits:
        gate.leave(source, settled=settles)
    assert gate == Gate()
    assert not gate.by_source
    assert not gate.handshakes_by_source
