"""What strangers may cost."""

import logging

import pytest

from derpnode.server.admission.memory import Memory
from derpnode.server.admission.strangers import Budget, RefusalLog
from derpnode.server.admission.verdict import Outcome, Verdict
from derpnode.wire.keys import NodeKey


REFUSED = Verdict(Outcome.DENY, "key_file", "not in the file")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def key(number: int) -> NodeKey:
    return NodeKey(number.to_bytes(32))


def spend(budget: Budget, ip: str, limit: int = 1000) -> int:
    """Cause refusals until the budget is spent; say how many that took."""
    for count in range(limit):
        if budget.spent(ip):
            return count
        budget.charge(ip)
    return limit


# Memory.


def test_memory_forgets_the_longest_unused():
    """To look up is to use."""
    memory = Memory(2)
    memory.put("a", 1)
    memory.put("b", 2)
    assert memory.get("a") == 1
    memory.put("c", 3)
    assert [memory.get(name) for name in "abc"] == [1, None, 3]
    assert len(memory) == 2


def test_memory_replaces_and_drops():
    """A key is there once; to drop what is not there is no error."""
    memory = Memory(2)
    for value in range(3):
        memory.put("a", value)
    assert (memory.get("a"), len(memory)) == (2, 1)
    memory.drop("a")
    memory.drop("a")
    assert len(memory) == 0


# Budget.


def test_ten_a_minute(clock):
    """Then one each six seconds."""
    budget = Budget(10, clock)
    assert spend(budget, "192.0.2.9") == 10
    clock.now += 6.5
    assert spend(budget, "192.0.2.9") == 1
    clock.now += 3600
    assert spend(budget, "192.0.2.9") == 10


def test_addresses_are_counted_apart(clock):
    """An IPv4 address is one customer."""
    budget = Budget(10, clock)
    spend(budget, "192.0.2.9")
    assert not budget.spent("192.0.2.10")


def test_an_ipv6_prefix_is_one_customer(clock):
    """Whoever has one address has all of its /64."""
    budget = Budget(10, clock)
    spend(budget, "2001:db8::1")
    assert budget.spent("2001:db8::ffff:1")
    assert not budget.spent("2001:db8:0:1::1")
    spend(budget, "fe80::1%eth0")
    assert budget.spent("fe80::2")


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_exempt(clock, ip):
    """Whatever is on this machine could do worse."""
    assert spend(Budget(10, clock), ip) == 1000


def test_off(clock):
    """0 turns it off."""
    assert spend(Budget(0, clock), "192.0.2.9") == 1000


def test_no_address(clock):
    """Clients without one share a budget."""
    assert spend(Budget(10, clock), "") == 10


def test_debt_is_bounded(clock):
    """A wave of questions at once is paid off within two minutes."""
    budget = Budget(10, clock)
    for _ in range(10_000):
        budget.charge("192.0.2.9")
    clock.now += 65
    assert budget.spent("192.0.2.9")
    clock.now += 60
    assert not budget.spent("192.0.2.9")


# The log.


def test_once_per_key_and_hour(clock, caplog):
    """With the reason and who said so."""
    caplog.set_level(logging.INFO)
    log = RefusalLog(clock)
    for _ in range(3):
        log.refused(key(1), "192.0.2.9", REFUSED)
    assert caplog.messages == [
        "[AAAAA] from 192.0.2.9: not admitted: not in the file (key_file); refused"
    ]
    clock.now += 3600
    log.refused(key(1), "", REFUSED)
    assert len(caplog.messages) == 2
    assert "from unknown" in caplog.messages[1]


def test_new_keys_cannot_fill_the_disk(clock, caplog):
    """50 a second for ten minutes: below 60 lines, and none is uncounted."""
    caplog.set_level(logging.INFO)
    log = RefusalLog(clock)
    for number in range(30_000):
        clock.now += 0.02
        log.refused(key(number), "192.0.2.9", REFUSED)
    clock.now += 60
    log.refused(key(99_999), "192.0.2.9", REFUSED)
    lines = caplog.messages
    assert 30 < len(lines) < 60
    unlogged = sum(
        int(line.split("(")[-1].split()[0]) for line in lines if "more" in line
    )
    assert len(lines) + unlogged == 30_001
