"""Keeps a source that is slow or dead from costing every client its patience."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from derpnode.server.admission.verdict import Outcome, Source, Verdict
from derpnode.wire.keys import NodeKey


logger = logging.getLogger(__name__)

CONCURRENCY = 32
"""Questions that one source is asked at once; more wait."""

FAILURES = 3
"""Failures in a row after which a source is left alone for a while."""

REST = 10.0
"""Seconds for which it is left alone; then one question tries it again."""


class Guard:
    """Asks one source, within its time, and not while it is down.

    Args:
        source: Whom to ask.
        timeout: Seconds it may take to answer.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, source: Source, *, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.source = source
        self.answers: Counter[Outcome] = Counter()
        """What it said. Questions that were cut short are not counted."""

        self._timeout = timeout
        self._clock = clock
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._failures = 0  # in a row
        self._rests_until = 0.0
        self._last_reason = ""
        self._trying = False  # one question is out to see whether it is back

    @property
    def is_down(self) -> bool:
        """Whether the source failed too often to be asked by everybody."""
        return self._failures >= FAILURES

    async def ask(self, key: NodeKey, ip: str) -> Verdict:
        """Put the question, or say UNKNOWN at once. See `Source.ask`."""
        if self._is_resting():
            return self._rest()
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
        except TimeoutError:
            return self.source.unknown(f"{CONCURRENCY} questions are open already")
        try:
            # Those that waited with us may have found out that it is down.
            return self._rest() if self._is_resting() else await self._try(key, ip)
        finally:
            self._slots.release()

    async def _try(self, key: NodeKey, ip: str) -> Verdict:
        trial = self.is_down
        self._trying = self._trying or trial
        try:
            async with asyncio.timeout(self._timeout):
                verdict = await self.source.ask(key, ip)
        except TimeoutError:
            verdict = self.source.unknown(f"no answer within {self._timeout:g} s")
        finally:
            self._trying = self._trying and not trial
        self._learn(verdict)
        return verdict

    def _is_resting(self) -> bool:
        return self.is_down and (self._trying or self._clock() < self._rests_until)

    def _rest(self) -> Verdict:
        return self.source.unknown(f"not asked, it is down: {self._last_reason}")

    def _learn(self, verdict: Verdict) -> None:
        self.answers[verdict.outcome] += 1
        if verdict.outcome is not Outcome.UNKNOWN:
            if self.is_down:
                logger.info("admission: %s answers again", self.source.name)
            self._failures = 0
            return
        self._failures += 1
        self._last_reason = verdict.reason
        if self.is_down:
            self._rests_until = self._clock() + REST
        if self._failures == FAILURES:
            logger.warning(
                "admission: %s failed %d times: %s; keys seen before stay allowed, "
                "others are refused unless another source allows them",
                self.source.name,
                FAILURES,
                verdict.reason,
            )
