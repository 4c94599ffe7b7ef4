"""One source, slow or dead or back again, and what that costs who asks."""

import asyncio
import logging

import pytest

from derpnode.server.admission.guard import CONCURRENCY, FAILURES, REST, Guard
from derpnode.server.admission.verdict import Outcome, Source
from derpnode.wire.keys import NodeKey


KEY = NodeKey(b"\1" * 32)
IP = "192.0.2.9"

ALLOW, DENY, UNKNOWN = Outcome.ALLOW, Outcome.DENY, Outcome.UNKNOWN


class Answering(Source):
    """Answers what it is told, and counts the questions."""

    def __init__(self) -> None:
        super().__init__("test")
        self.outcome = ALLOW
        self.questions = 0
        self.open = 0
        self.most_open = 0
        self.go = asyncio.Event()
        self.go.set()

    async def ask(self, key, ip):
        self.questions += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            await self.go.wait()
        finally:
            self.open -= 1
        return {ALLOW: self.allow, DENY: self.deny, UNKNOWN: self.unknown}[
            self.outcome
        ]("as told")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source():
    return Answering()


@pytest.fixture
def guard(source, clock):
    return Guard(source, timeout=0.05, clock=clock)


async def fail(guard, source, times=FAILURES) -> None:
    source.outcome = UNKNOWN
    for _ in range(times):
        await guard.ask(KEY, IP)


async def test_passes_answers_on(guard, source):
    """And counts them by outcome."""
    for outcome in (ALLOW, DENY, UNKNOWN, ALLOW):
        source.outcome = outcome
        assert (await guard.ask(KEY, IP)).outcome is outcome
    assert guard.answers == {ALLOW: 2, DENY: 1, UNKNOWN: 1}


async def test_slow(guard, source):
    """After its time it has not answered."""
    source.go.clear()
    verdict = await guard.ask(KEY, IP)
    assert verdict.outcome is UNKNOWN
    assert verdict.reason == "no answer within 0.05 s"
    assert source.open == 0


async def test_dead_costs_nothing(guard, source, caplog):
    """After three failures nobody waits for it; the log says so once."""
    await fail(guard, source, times=20)
    assert source.questions == FAILURES
    verdict = await guard.ask(KEY, IP)
    assert verdict.outcome is UNKNOWN
    assert verdict.reason == "not asked, it is down: as told"
    (warning,) = caplog.messages
    assert warning.startswith("admission: test failed 3 times: as told; keys seen")


async def test_failures_in_a_row(guard, source):
    """An answer in between, a no as well, and it is not down."""
    for outcome in (UNKNOWN, UNKNOWN, DENY, UNKNOWN, UNKNOWN, ALLOW) * 3:
        source.outcome = outcome
        await guard.ask(KEY, IP)
    assert source.questions == 18


async def test_comes_back(guard, source, clock, caplog):
    """After ten seconds one question tries it, and then all are asked again."""
    caplog.set_level(logging.INFO)
    await fail(guard, source)
    source.outcome = ALLOW
    clock.now += REST - 0.1
    assert (await guard.ask(KEY, IP)).outcome is UNKNOWN
    clock.now += 0.1
    for _ in range(2):
        assert (await guard.ask(KEY, IP)).outcome is ALLOW
    assert caplog.messages[-1] == "admission: test answers again"


async def test_one_tries(guard, source, clock):
    """While one question is out, the others do not wait for it."""
    await fail(guard, source)
    clock.now += REST
    source.go.clear()
    asked = source.questions
    verdicts = await asyncio.gather(*(guard.ask(KEY, IP) for _ in range(10)))
    assert {verdict.outcome for verdict in verdicts} == {UNKNOWN}
    assert source.questions == asked + 1


async def test_still_dead(guard, source, clock, caplog):
    """One question each ten seconds; no further line in the log."""
    await fail(guard, source)
    for _ in range(5):
        clock.now += REST
        await fail(guard, source, times=10)
    assert source.questions == FAILURES + 5
    assert len(caplog.messages) == 1


async def test_whoever_tries_may_go_away(guard, source, clock):
    """Then the next one tries: a cancelled question proves nothing."""
    await fail(guard, source)
    clock.now += REST
    source.go.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(guard.ask(KEY, IP), timeout=0.01)
    source.go.set()
    source.outcome = ALLOW
    assert (await guard.ask(KEY, IP)).outcome is ALLOW


async def test_so_many_at_once(source, clock):
    """32 questions are open; the others wait, and are answered."""
    guard = Guard(source, timeout=5, clock=clock)
    source.go.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guard.ask(KEY, IP)) for _ in range(100)]
        while source.open < CONCURRENCY:  # noqa: ASYNC110
            await asyncio.sleep(0)
        source.go.set()
    assert source.most_open == CONCURRENCY
    assert {task.result().outcome for task in tasks} == {ALLOW}


async def test_a_crowd_before_a_dead_source(source, clock):
    """The first wave finds out; nobody waits much longer than one timeout.

    One wave after the other, it would be sixteen.
    """
    guard = Guard(source, timeout=0.5, clock=clock)
    source.go.clear()
    async with asyncio.timeout(5):
        verdicts = await asyncio.gather(*(guard.ask(KEY, IP) for _ in range(500)))
    assert {verdict.outcome for verdict in verdicts} == {UNKNOWN}
    assert source.questions == CONCURRENCY


async def test_no_slot_in_time(source, clock):
    """Who gets no turn within the timeout hears why."""
    guard = Guard(source, timeout=0.05, clock=clock)
    source.go.clear()
    guard._slots = asyncio.Semaphore(0)
    verdict = await guard.ask(KEY, IP)
    assert verdict.reason == "32 questions are open already"
