"""The stream of memberships, over a registry that follows a script."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from derpmesh.membership.errors import RegistryUnavailable, RevisionCompacted
from derpmesh.membership.model import Change, Membership
from derpmesh.membership.watcher import memberships
from tests.mesh.membership.scene import A, B, C, membership


ONLY_A = membership(5, A)
BOTH = membership(9, A, B)
ALL = membership(11, A, B, C)
DOWN = RegistryUnavailable("10.0.0.1:2379", "connection refused")
SLOW = RegistryUnavailable("10.0.0.1:2379", "no answer in 5 s")

Scene = Membership | Exception | list[Change | Exception]


class ScriptedRegistry:
    """Plays scenes: a value or a failure for each read, a list for each follow.

    A list that is over ends the stream of changes; with the last scene over, nothing
    happens any more.
    """

    def __init__(self, *scenes: Scene) -> None:
        self._scenes = list(scenes)
        self.after: list[int] = []
        """The revisions that changes were asked for after."""

        self.following = 0
        """Streams of changes that are open."""

    async def read(self) -> Membership:
        match await self._next():
            case Membership() as value:
                return value
            case Exception() as failure:
                raise failure
            case _:
                pytest.fail("read where changes were due")

    async def changes(self, after: int) -> AsyncGenerator[Change, None]:
        self.after.append(after)
        self.following += 1
        try:
            scene = await self._next()
            assert isinstance(scene, list)
            for change in scene:
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            self.following -= 1

    async def _next(self) -> Scene:
        if not self._scenes:
            await asyncio.Event().wait()
        return self._scenes.pop(0)


@pytest.fixture
def slept():
    """The delays that were slept."""
    return []


@pytest.fixture
def take(slept):
    """Take so many memberships of a registry, and then stop."""

    async def sleep(delay: float) -> None:
        slept.append(delay)

    async def take(count: int, registry: ScriptedRegistry) -> list[Membership]:
        stream = memberships(
            registry, backoff=lambda: iter([0.5, 1.0, 2.0, 4.0]), sleep=sleep
        )
        found: list[Membership] = []
        async with aclosing(stream) as values:
            async for value in values:
                found.append(value)
                if len(found) == count:
                    break
        assert registry.following == 0
        return found

    return take


async def test_membership_now_and_at_each_change(take, slept):
    """Each value is whole; the changes are asked for after the one that was read."""
    registry = ScriptedRegistry(ONLY_A, [Change(9, put=(B,)), Change(11, put=(C,))])
    assert await take(3, registry) == [ONLY_A, BOTH, ALL]
    assert registry.after == [5]
    assert slept == []


async def test_outage_changes_nothing(take, slept, caplog):
    """While the registry is away, the last snapshot stays in force."""
    registry = ScriptedRegistry(ONLY_A, [DOWN], DOWN, ONLY_A, [Change(9, put=(B,))])
    assert await take(2, registry) == [ONLY_A, BOTH]
    assert slept == [0.5, 1.0]
    assert caplog.messages == [
        "registry: 10.0.0.1:2379: connection refused; the last good one stays in force"
    ]


async def test_what_changed_during_an_outage_is_seen_after_it(take):
    """The whole is read again, so that nothing is missed."""
    registry = ScriptedRegistry(ONLY_A, [DOWN], ALL, [])
    assert await take(2, registry) == [ONLY_A, ALL]


async def test_lagging_replica_repeats_the_past(take):
    """Its old values are not news, whether it is read or followed."""
    registry = ScriptedRegistry(
        BOTH, [DOWN], ONLY_A, [Change(9, put=(B,)), Change(11, put=(C,))]
    )
    assert await take(2, registry) == [BOTH, ALL]


async def test_change_that_comes_twice(take):
    """It is told once."""
    change = Change(9, put=(B,))
    registry = ScriptedRegistry(ONLY_A, [change, change, Change(11, put=(C,))])
    assert await take(3, registry) == [ONLY_A, BOTH, ALL]


async def test_compacted_registry_is_read_again_at_once(take, slept, caplog):
    """That it forgot the past is no failure."""
    caplog.set_level(logging.INFO)
    registry = ScriptedRegistry(ONLY_A, [RevisionCompacted(5)], ALL, [])
    assert await take(2, registry) == [ONLY_A, ALL]
    assert slept == []
    assert [(found.levelname, found.getMessage()) for found in caplog.records] == [
        ("INFO", "registry: revision 5 is compacted; read anew")
    ]


async def test_changes_that_end_are_followed_anew(take, slept):
    """The stream of memberships itself never ends."""
    registry = ScriptedRegistry(
        ONLY_A, [Change(9, put=(B,))], BOTH, [], BOTH, [Change(11, put=(C,))]
    )
    assert await take(3, registry) == [ONLY_A, BOTH, ALL]
    assert registry.after == [5, 9, 9]
    assert slept == []


async def test_registry_that_cannot_be_read_at_first(take, slept):
    """There is no value until there is one."""
    assert await take(1, ScriptedRegistry(DOWN, DOWN, DOWN, ONLY_A)) == [ONLY_A]
    assert slept == [0.5, 1.0, 2.0]


async def test_answer_ends_the_growth_of_delays(take, slept):
    """Also one that says nothing new."""
    registry = ScriptedRegistry(
        DOWN, DOWN, ONLY_A, [DOWN], ONLY_A, [DOWN], DOWN, BOTH, []
    )
    assert await take(2, registry) == [ONLY_A, BOTH]
    assert slept == [0.5, 1.0, 0.5, 0.5, 1.0]


async def test_failure_is_said_once_until_another_or_an_answer(take, caplog):
    """An outage of a day must not fill the disk."""
    registry = ScriptedRegistry(DOWN, DOWN, SLOW, SLOW, ONLY_A, [SLOW], SLOW, BOTH, [])
    await take(2, registry)
    reasons = [message.partition(";")[0] for message in caplog.messages]
    assert reasons == [
        "registry: 10.0.0.1:2379: connection refused",
        "registry: 10.0.0.1:2379: no answer in 5 s",
        "registry: 10.0.0.1:2379: no answer in 5 s",
    ]


async def test_failures_are_told(slept):
    """Each once, and that it is over."""
    told: list[str] = []
    registry = ScriptedRegistry(ONLY_A, [DOWN], DOWN, SLOW, BOTH, [])

    async def sleep(delay: float) -> None:
        slept.append(delay)

    stream = memberships(
        registry, backoff=lambda: iter([1.0] * 9), sleep=sleep, failed=told.append
    )
    async with aclosing(stream) as values:
        assert [await anext(values), await anext(values)] == [ONLY_A, BOTH]
    assert told == [str(DOWN), str(SLOW), ""]


async def test_mistake_of_ours_is_not_an_outage(take):
    """It must be heard."""
    with pytest.raises(ZeroDivisionError):
        await take(1, ScriptedRegistry(ZeroDivisionError()))


async def test_nothing_is_said_while_nothing_changes(take):
    """The consumer waits, and may be cancelled."""
    registry = ScriptedRegistry(ONLY_A, [])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await take(2, registry)
    assert registry.following == 0
