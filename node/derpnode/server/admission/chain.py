"""Decides who may relay: one yes is enough, and nobody is asked twice in a row."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from derpnode.server.admission.guard import Guard
from derpnode.server.admission.memory import Memory
from derpnode.server.admission.strangers import Budget, RefusalLog
from derpnode.server.admission.verdict import Outcome, Source, Verdict
from derpnode.wire.keys import NodeKey


_REMEMBERED = 65_536  # keys that were allowed; and as many that were denied

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """For how long answers are good, and what may be spent on them."""

    allow_ttl: float = 900.0
    """Seconds for which a yes is not asked for again."""

    deny_ttl: float = 30.0
    """Seconds for which a no is not asked for again."""

    grace: float = 86_400.0
    """Seconds for which the last yes of a source that does not answer is good."""

    timeout: float = 2.0
    """Seconds a source may take."""

    unknown_keys: int = 10
    """Refused keys a minute that one address may ask about; 0: any number."""


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The last yes for a key."""

    verdict: Verdict
    source: Source
    at: float


@dataclass(frozen=True, slots=True)
class _Denied:
    """The last no for a key."""

    verdict: Verdict
    until: float


Answer = tuple[Source, Verdict]


class Admission:
    """Asks the sources, remembers what they said, and bears their failures.

    A key is allowed as soon as any source allows it, and denied when all
    deny it. If one cannot say, its last yes stands in for it, for a while:
    a key seen before gets in while a source is down, a new one does not.
    Before all of them stands what the region says of a key by name.

    Args:
        sources: Whom to ask, all at once. With none, only who is let in by name.
        terms: See there.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        terms: Terms,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self.guards = [
            Guard(one, timeout=terms.timeout, clock=clock) for one in sources
        ]
        self.decisions: Counter[tuple[str, Outcome]] = Counter()
        """What clients were told, by who decided it; cached answers included."""

        self._terms = terms
        self._clock = clock
        self._rules: Mapping[NodeKey, bool] = {}
        self._allowed: Memory[NodeKey, _Allowed] = Memory(_REMEMBERED)
        self._denied: Memory[NodeKey, _Denied] = Memory(_REMEMBERED)
        self._flights: dict[NodeKey, asyncio.Future[Verdict | None]] = {}
        self._budget = Budget(terms.unknown_keys, clock)
        self._refusals = RefusalLog(clock)

    def rule(self, rules: Mapping[NodeKey, bool]) -> frozenset[NodeKey]:
        """Let some keys in and keep others out, whatever the sources say of them.

        Args:
            rules: True lets a key in; these replace all former ones.

        Returns:
            The keys whose clients are to be asked about again: they are kept out
            now, or are not let in any more.
        """
        before, self._rules = self._rules, dict(rules)
        denied = {key for key, allowed in rules.items() if not allowed}
        let_in = {key for key, allowed in before.items() if allowed}
        kept_out = before.keys() - let_in
        return frozenset((denied - kept_out) | (let_in - rules.keys()))

    def known(self, key: NodeKey, ip: str = "") -> Verdict | None:
        """Decide without asking anybody; None if that takes `decide`.

        Args:
            key: The client's.
            ip: The client's address, for the log.
        """
        verdict = self._look(key)
        return verdict if verdict is None else self._told(key, ip, verdict)

    async def decide(self, key: NodeKey, ip: str) -> Verdict:
        """Decide, and ask the sources if need be.

        May be cancelled; others who wait for the same key then ask anew.

        Args:
            key: The client's.
            ip: The client's address; empty if it has none.
        """
        while True:
            verdict = self._look(key)
            if verdict is not None:
                break
            flight = self._flights.get(key)
            verdict = await (self._lead(key, ip) if flight is None else _join(flight))
            if verdict is not None:
                break
        return self._told(key, ip, self._ruled(key) or verdict)

    def forget(self, keys: Iterable[NodeKey]) -> None:
        """Forget all that was said of some keys; they are asked for anew."""
        for key in keys:
            self._allowed.drop(key)
            self._denied.drop(key)

    def answers(self) -> Mapping[tuple[str, Outcome], int]:
        """Count what the sources said, by source and outcome."""
        totals: Counter[tuple[str, Outcome]] = Counter()
        for guard in self.guards:
            for outcome, count in guard.answers.items():
                totals[guard.source.name, outcome] += count
        return totals

    def reload(self) -> None:
        """Have files read at once: SIGHUP."""
        for guard in self.guards:
            guard.source.reload.set()

    async def watch(self) -> None:
        """Follow the files among the sources until cancelled."""
        async with asyncio.TaskGroup() as group:
            for guard in self.guards:
                group.create_task(guard.source.watch())

    async def close(self) -> None:
        """Free the connections of all sources."""
        for guard in self.guards:
            await guard.source.close()

    def _look(self, key: NodeKey) -> Verdict | None:
        """Answer from rules, files and memory."""
        ruled = self._ruled(key)
        if ruled is not None:
            return ruled
        seen = [guard.source.look(key) for guard in self.guards]
        found = [verdict for verdict in seen if verdict is not None]
        for verdict in found:
            if verdict.allowed:
                return verdict
        if len(found) == len(seen):
            return _combined(found)
        now = self._clock()
        allowed = self._allowed.get(key)
        if allowed is not None and now - allowed.at < self._terms.allow_ttl:
            return allowed.verdict
        denied = self._denied.get(key)
        return denied.verdict if denied is not None and now < denied.until else None

    def _ruled(self, key: NodeKey) -> Verdict | None:
        """Answer by what the region says of a key, if it says something."""
        allowed = self._rules.get(key)
        if allowed is None:
            return None
        if allowed:
            return Verdict(Outcome.ALLOW, "region", "on the region's list")
        return Verdict(Outcome.DENY, "region", "the region denies it")

    async def _lead(self, key: NodeKey, ip: str) -> Verdict:
        """Ask, on behalf of all who want to know the same."""
        flight = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        verdict = None
        try:
            verdict = await self._ask(key, ip)
        finally:
            del self._flights[key]
            flight.set_result(verdict)  # None: we were cancelled
        return verdict

    async def _ask(self, key: NodeKey, ip: str) -> Verdict:
        if self._allowed.get(key) is None and self._budget.spent(ip):
            reason = f"over {self._budget.per_minute} refused keys a minute"
            return Verdict(Outcome.UNKNOWN, "budget", reason)
        answers = await self._first_yes(key, ip)
        for source, verdict in answers:
            if verdict.allowed:
                self._denied.drop(key)
                self._allowed.put(key, _Allowed(verdict, source, self._clock()))
                return verdict
        return self._without_yes(key, ip, answers)

    async def _first_yes(self, key: NodeKey, ip: str) -> list[Answer]:
        """Ask all at once; stop at the first yes."""
        answers: list[Answer] = []

        async def ask(guard: Guard) -> None:
            verdict = await guard.ask(key, ip)
            answers.append((guard.source, verdict))
            if verdict.allowed:
                for task in tasks:
                    task.cancel()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(guard)) for guard in self.guards]
        return answers

    def _without_yes(self, key: NodeKey, ip: str, answers: list[Answer]) -> Verdict:
        verdict = _combined([verdict for _, verdict in answers])
        if verdict.outcome is Outcome.UNKNOWN:
            return self._last_yes(key, answers) or verdict
        self._allowed.drop(key)
        self._denied.put(key, _Denied(verdict, self._clock() + self._terms.deny_ttl))
        self._budget.charge(ip)
        return verdict

    def _last_yes(self, key: NodeKey, answers: list[Answer]) -> Verdict | None:
        """Let the last yes stand, if whoever said it does not answer now."""
        last = self._allowed.get(key)
        if last is None:
            return None
        age = self._clock() - last.at
        says_no = (last.source, Outcome.DENY) in [
            (source, verdict.outcome) for source, verdict in answers
        ]
        if says_no or age > self._terms.grace:
            self._allowed.drop(key)
            return None
        reason = f"{last.source.name} allowed it {age:.0f} s ago and does not answer"
        return Verdict(Outcome.ALLOW, "grace", reason)

    def _told(self, key: NodeKey, ip: str, verdict: Verdict) -> Verdict:
        self.decisions[verdict.source, verdict.outcome] += 1
        if not verdict.allowed:
            self._refusals.refused(key, ip, verdict)
        return verdict


async def _join(flight: asyncio.Future[Verdict | None]) -> Verdict | None:
    """Wait for what another asks; our own cancellation must not reach it."""
    return await asyncio.shield(flight)


def _combined(verdicts: list[Verdict]) -> Verdict:
    """Sum up answers with no yes among them: a no if nobody is in doubt."""
    if len(verdicts) == 1:
        return verdicts[0]
    doubts = [one for one in verdicts if one.outcome is Outcome.UNKNOWN]
    outcome = Outcome.UNKNOWN if doubts else Outcome.DENY
    reasons = "; ".join(f"{one.source}: {one.reason}" for one in verdicts)
    return Verdict(outcome, "several", reasons or "no source to ask")
