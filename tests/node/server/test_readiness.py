"""When a node closes for clients, and when it opens again."""

import asyncio

import pytest

from derpnode.server.readiness import BAD_ROUNDS, GOOD_ROUNDS, INTERVAL, Readiness


class Health:
    """A node that is as well as it is told to be."""

    def __init__(self):
        self.now: str | None = None
        self.changes: list[bool] = []
        self.readiness = Readiness(self._check, self.changes.append)

    async def _check(self) -> str | None:
        return self.now

    async def rounds(self, *findings: str | None) -> list[bool]:
        """Make rounds; return what was announced."""
        self.changes.clear()
        for self.now in findings:
            await self.readiness.round()
        return list(self.changes)


GOOD, BAD = None, "it is broken"


@pytest.fixture
def health() -> Health:
    """A node that has not looked yet."""
    return Health()


def test_at_first(health):
    """It is not known to be well."""
    found = health.readiness
    assert (found.ready, found.well, found.failure) == (False, False, "starting")


async def test_the_first_round(health):
    """One good round is enough to begin with."""
    assert await health.rounds(GOOD) == [True]
    found = health.readiness
    assert (found.ready, found.well, found.failure) == (True, True, None)


async def test_a_bad_start(health):
    """It must prove itself like any that failed."""
    assert await health.rounds(BAD) == []
    assert health.readiness.failure == BAD
    assert await health.rounds(*[GOOD] * (GOOD_ROUNDS - 1)) == []
    assert await health.rounds(GOOD) == [True]


async def test_one_bad_round_is_no_end(health):
    """Regression: what was wrong with it stayed, and so did the 503 of /readyz."""
    await health.rounds(GOOD)
    assert await health.rounds(BAD) == []
    found = health.readiness
    assert (found.ready, found.well, found.failure) == (True, False, None)
    assert await health.rounds(GOOD) == []
    assert (found.ready, found.well, found.failure) == (True, True, None)


async def test_bad_rounds_in_a_row(health, caplog):
    """They close the node, once, and say why."""
    await health.rounds(GOOD)
    assert await health.rounds(*[BAD] * (BAD_ROUNDS + 3)) == [False]
    assert health.readiness.failure == BAD
    assert caplog.messages == ["readiness: it is broken; closing the public listeners"]


async def test_bad_rounds_not_in_a_row(health):
    """They do not add up."""
    await health.rounds(GOOD)
    assert await health.rounds(*[BAD, GOOD] * 5) == []


async def test_good_rounds_in_a_row(health):
    """So many open it again, and a bad one among them begins the count anew."""
    await health.rounds(GOOD, *[BAD] * BAD_ROUNDS)
    assert await health.rounds(GOOD, GOOD, BAD, GOOD, GOOD) == []
    assert health.readiness.failure == BAD
    assert await health.rounds(GOOD) == [True]
    assert health.readiness.failure is None


async def test_what_was_announced_could_not_be_done(health):
    """The next good round announces it again."""
    await health.rounds(GOOD)
    health.readiness.failed("the port is taken")
    assert health.readiness.failure == "the port is taken"
    assert await health.rounds(GOOD, GOOD) == [True]


async def test_rounds_go_on(health):
    """With the same time between them, until it is cancelled."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await health.readiness.run(sleep)
    assert slept == [INTERVAL] * 3
