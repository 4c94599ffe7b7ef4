"""The operator of a day, who tries until it is done: etcd has troubles of its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.model import Drain, Member
from derpmesh.membership.operator import (
    AlreadyListed,
    Contended,
    Operator,
    OthersDrain,
    UnknownNode,
)
from tests.load.day.diary import Diary


PATIENCE = 90.0
"""Seconds until a write must be done."""

AGAIN = 0.25
"""Seconds between two attempts."""

_Result = TypeVar("_Result")

_PASSES = (RegistryUnavailable, Contended, OthersDrain, UnknownNode)


class Registrar:
    """Writes what is wanted, however long that takes.

    Args:
        operator: Writes once.
        diary: Told why it was not done at first.
    """

    def __init__(self, operator: Operator, diary: Diary) -> None:
        self._operator = operator
        self._diary = diary

    async def drain(self, name: str) -> None:
        """Wish that a node drains; waits while another one is to be drained."""
        await self._insist(name, lambda: self._operator.drain(name, Drain(grace=2.0)))

    async def undrain(self, name: str) -> None:
        """Wish that it does not."""
        await self._insist(name, lambda: self._operator.drain(name, None))

    async def remove(self, name: str) -> Member:
        """Take a node out; give what was recorded of it."""

        async def once() -> Member:
            intents = await self._operator.nodes()
            await self._operator.remove(name)
            return intents[name].intent.node

        return await self._insist(name, once)

    async def add(self, member: Member) -> None:
        """List a node again, unless it has done so itself: its record was deleted."""

        async def once() -> None:
            try:
                await self._operator.add(member)
            except AlreadyListed as exc:
                self._diary.note(member.name, f"is not added: {exc}")

        await self._insist(member.name, once)

    async def _insist(
        self, name: str, once: Callable[[], Awaitable[_Result]]
    ) -> _Result:
        end = time.monotonic() + PATIENCE
        said = ""
        while True:
            try:
                return await once()
            except _PASSES as exc:
                if str(exc) != said:
                    said = str(exc)
                    self._diary.note(name, f"waits for the registry: {said}")
                assert time.monotonic() < end, f"not written in {PATIENCE} s: {said}"
            await asyncio.sleep(AGAIN)
