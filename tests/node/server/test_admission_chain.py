"""Who may relay: any yes, all noes, doubts, and what is remembered."""

import asyncio
import logging

import pytest
from aiohttp import web

from derpnode.server.admission.chain import Admission, Terms
from derpnode.server.admission.guard import REST
from derpnode.server.admission.keyfile import KeyFile
from derpnode.server.admission.open import Open
from derpnode.server.admission.url import Url
from derpnode.server.admission.verdict import Outcome, Source, Verdict
from derpnode.wire.keys import NodeKey, node_key_text


ALLOW, DENY, UNKNOWN = Outcome.ALLOW, Outcome.DENY, Outcome.UNKNOWN

KEY = NodeKey(b"\1" * 32)
OTHER = NodeKey(b"\2" * 32)
IP = "192.0.2.9"

TERMS = Terms(timeout=0.1)


def key(number: int) -> NodeKey:
    return NodeKey(number.to_bytes(32))


class Fake(Source):
    """Answers one outcome, or waits for its `go`."""

    def __init__(self, name: str, outcome: Outcome = ALLOW) -> None:
        super().__init__(name)
        self.outcome = outcome
        self.questions = []
        self.go = asyncio.Event()
        self.go.set()
        self.asked = asyncio.Event()
        self.cancelled = 0
        self.closed = 0

    async def ask(self, key, ip):
        self.questions.append((key, ip))
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Verdict(self.outcome, self.name, f"says {self.outcome.value}")

    async def close(self):
        self.closed += 1


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
def admission(clock):
    """Make a chain over sources."""

    def make(*sources: Source, terms: Terms = TERMS) -> Admission:
        return Admission(sources, terms, clock=clock)

    return make


# What answers make together.


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([ALLOW], ALLOW),
        ([DENY], DENY),
        ([UNKNOWN], UNKNOWN),
        ([DENY, ALLOW], ALLOW),
        ([UNKNOWN, ALLOW], ALLOW),
        ([DENY, DENY], DENY),
        ([DENY, UNKNOWN], UNKNOWN),
        ([UNKNOWN, UNKNOWN], UNKNOWN),
        ([], DENY),
    ],
)
async def test_any_yes_all_noes(admission, outcomes, expected):
    """One yes is enough; a no takes all of them; the rest is doubt."""
    sources = [Fake(str(number), one) for number, one in enumerate(outcomes)]
    verdict = await admission(*sources).decide(KEY, IP)
    assert verdict.outcome is expected
    assert verdict.allowed is (expected is ALLOW)


async def test_the_reason_names_everybody(admission):
    """For whoever reads why a client did not get in."""
    chain = admission(Fake("a", DENY), Fake("b", UNKNOWN))
    verdict = await chain.decide(KEY, IP)
    assert verdict.source == "several"
    assert verdict.reason == "a: says deny; b: says unknown"


async def test_sources_get_key_and_address(admission):
    """As the client has them."""
    source = Fake("a")
    await admission(source).decide(KEY, IP)
    assert source.questions == [(KEY, IP)]


async def test_the_first_yes_wins(admission):
    """Nobody waits for the slower ones; they are told to stop."""
    fast, slow = Fake("fast"), Fake("slow")
    slow.go.clear()
    async with asyncio.timeout(5):
        verdict = await admission(slow, fast).decide(KEY, IP)
    assert verdict.source == "fast"
    assert slow.cancelled == 1


async def test_a_no_does_not_end_it(admission):
    """A later yes counts as much."""
    late = Fake("late")
    late.go.clear()
    asyncio.get_running_loop().call_later(0.02, late.go.set)
    verdict = await admission(Fake("no", DENY), late).decide(KEY, IP)
    assert verdict.source == "late"


async def test_open(admission):
    """Everybody, and without asking."""
    chain = admission(Open())
    assert chain.known(KEY).allowed
    assert (await chain.decide(OTHER, IP)).reason == "admission is open"
    assert (await Open().ask(KEY, IP)).allowed


# What is remembered.


async def test_a_yes_is_remembered(admission, clock):
    """For allow_ttl; `known` answers from it."""
    source = Fake("a")
    chain = admission(source)
    assert chain.known(KEY) is None
    await chain.decide(KEY, IP)
    clock.now += 899
    assert chain.known(KEY).allowed
    await chain.decide(KEY, IP)
    assert len(source.questions) == 1
    clock.now += 1
    assert chain.known(KEY) is None
    await chain.decide(KEY, IP)
    assert len(source.questions) == 2


async def test_a_no_is_remembered_for_less(admission, clock):
    """For deny_ttl: who was just added does not want to wait."""
    source = Fake("a", DENY)
    chain = admission(source)
    await chain.decide(KEY, IP)
    clock.now += 29
    assert chain.known(KEY).outcome is DENY
    clock.now += 1
    source.outcome = ALLOW
    assert (await chain.decide(KEY, IP)).allowed


async def test_a_doubt_is_not_remembered(admission):
    """The source may be back at the next try."""
    source = Fake("a", UNKNOWN)
    chain = admission(source)
    await chain.decide(KEY, IP)
    assert chain.known(KEY) is None
    source.outcome = ALLOW
    assert (await chain.decide(KEY, IP)).allowed


async def test_forget(admission):
    """Then it is asked for anew, without grace."""
    source = Fake("a")
    chain = admission(source)
    await chain.decide(KEY, IP)
    chain.forget([KEY, OTHER])
    source.outcome = UNKNOWN
    assert not (await chain.decide(KEY, IP)).allowed


async def test_memory_is_bounded(admission, monkeypatch):
    """Strangers with new keys push each other out, not those who are allowed."""
    monkeypatch.setattr("derpnode.server.admission.chain._REMEMBERED", 10)
    source = Fake("a")
    chain = admission(source, terms=Terms(unknown_keys=0))
    await chain.decide(KEY, IP)
    source.outcome = DENY
    for number in range(100):
        await chain.decide(key(number), IP)
    assert len(chain._denied) == 10
    assert chain.known(KEY).allowed


# Grace: the last yes of a source that does not answer.


@pytest.fixture
async def seen(admission, clock):
    """A chain of two sources, the first of which allowed KEY a while ago."""
    first, second = Fake("first"), Fake("second", DENY)
    chain = admission(first, second)
    await chain.decide(KEY, IP)
    clock.now += 1000
    return chain, first, second


async def test_grace(seen, clock):
    """Known keys get in while their source is down; for a day."""
    chain, first, _ = seen
    first.outcome = UNKNOWN
    verdict = await chain.decide(KEY, IP)
    assert verdict == Verdict(
        ALLOW, "grace", "first allowed it 1000 s ago and does not answer"
    )
    clock.now += 86_400 - 1000
    assert (await chain.decide(KEY, IP)).allowed
    clock.now += 1
    assert not (await chain.decide(KEY, IP)).allowed


async def test_grace_is_for_known_keys(seen):
    """A stranger stays out."""
    chain, first, _ = seen
    first.outcome = UNKNOWN
    assert not (await chain.decide(OTHER, IP)).allowed


async def test_grace_is_not_prolonged_by_itself(seen, clock):
    """Its day is counted from the last real yes."""
    chain, first, _ = seen
    first.outcome = UNKNOWN
    for _ in range(30):
        clock.now += 3600
        verdict = await chain.decide(KEY, IP)
    assert not verdict.allowed


async def test_a_no_of_its_source_ends_grace(seen):
    """Also if another source is down: it never allowed this key."""
    chain, first, second = seen
    first.outcome, second.outcome = DENY, UNKNOWN
    assert not (await chain.decide(KEY, IP)).allowed
    first.outcome = UNKNOWN
    assert not (await chain.decide(KEY, IP)).allowed


async def test_a_no_of_all_ends_grace(seen, clock):
    """An explicit no is the last word."""
    chain, first, _ = seen
    first.outcome = DENY
    await chain.decide(KEY, IP)
    clock.now += 100
    first.outcome = UNKNOWN
    assert not (await chain.decide(KEY, IP)).allowed


async def test_no_grace(admission, clock):
    """0 closes the door at once."""
    source = Fake("a")
    chain = admission(source, terms=Terms(grace=0))
    await chain.decide(KEY, IP)
    clock.now += 1000
    source.outcome = UNKNOWN
    assert not (await chain.decide(KEY, IP)).allowed


# The key file in the chain.


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys"
    path.write_text(node_key_text(KEY))
    return path


async def test_file_alone_never_asks(admission, path):
    """Its answers are at hand."""
    chain = admission(KeyFile(path))
    assert chain.known(KEY).allowed
    assert chain.known(OTHER).outcome is DENY


async def test_file_before_others(admission, path):
    """Who is in it needs nobody else; who is not, may be allowed elsewhere."""
    other = Fake("other")
    chain = admission(KeyFile(path), other)
    assert (await chain.decide(KEY, IP)).source == "key_file"
    assert other.questions == []
    assert chain.known(OTHER) is None
    assert (await chain.decide(OTHER, IP)).source == "other"


async def test_added_keys_get_in_at_once(admission, path):
    """A no that is remembered does not outweigh the file."""
    file = KeyFile(path)
    chain = admission(file, Fake("other", DENY))
    assert not (await chain.decide(OTHER, IP)).allowed
    path.write_text(node_key_text(OTHER))
    file.check(asked=True)
    assert chain.known(OTHER).allowed


async def test_removed_keys_have_no_grace(admission, path):
    """Who left the file stays out though another source is down."""
    file = KeyFile(path)
    chain = admission(file, Fake("other", UNKNOWN))
    assert (await chain.decide(KEY, IP)).allowed
    path.write_text("")
    file.check(asked=True)
    assert chain.known(KEY) is None
    assert not (await chain.decide(KEY, IP)).allowed


async def test_watch_and_reload(admission, path):
    """The chain follows its files; `reload` has them read at once."""
    removed = []
    chain = admission(KeyFile(path, on_removed=removed.append), Fake("other"))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(chain.watch())
        path.write_text("")
        chain.reload()
        await asyncio.sleep(0.01)
        watching.cancel()
    assert removed == [{KEY}]


async def test_close(admission):
    """Every source is."""
    sources = Fake("a"), Fake("b")
    await admission(*sources).close()
    assert [source.closed for source in sources] == [1, 1]
    await Open().close()


# Many at once.


async def test_single_flight(admission):
    """However many wait for a key, one question is asked."""
    source = Fake("a")
    source.go.clear()
    chain = admission(source)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain.decide(KEY, IP)) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.go.set()
    assert {task.result().outcome for task in tasks} == {ALLOW}
    assert len(source.questions) == 1
    assert chain._flights == {}


async def test_single_flight_of_a_doubt(admission):
    """Those who waited for it take it as well."""
    source = Fake("a", UNKNOWN)
    chain = admission(source)
    verdicts = await asyncio.gather(*(chain.decide(KEY, IP) for _ in range(20)))
    assert {verdict.outcome for verdict in verdicts} == {UNKNOWN}
    assert len(source.questions) == 1


async def test_whoever_asked_may_go_away(admission):
    """Those who waited ask for themselves."""
    source = Fake("a")
    source.go.clear()
    chain = admission(source)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(chain.decide(KEY, IP))
        await asyncio.sleep(0.01)
        others = [group.create_task(chain.decide(KEY, IP)) for _ in range(5)]
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        source.go.set()
    assert {task.result().outcome for task in others} == {ALLOW}
    assert len(source.questions) == 2


async def test_whoever_waits_may_go_away(admission):
    """Nobody else notices."""
    source = Fake("a")
    source.go.clear()
    chain = admission(source)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(chain.decide(KEY, IP))
        await asyncio.sleep(0.01)
        second = group.create_task(chain.decide(KEY, IP))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0)
        source.go.set()
    assert first.result().allowed
    assert second.cancelled()


# Strangers.


async def test_budget_of_an_address(admission):
    """After ten refused keys a minute, the source is left in peace."""
    source = Fake("a", DENY)
    chain = admission(source)
    verdicts = [await chain.decide(key(number), IP) for number in range(100)]
    assert len(source.questions) == 10
    assert verdicts[-1] == Verdict(UNKNOWN, "budget", "over 10 refused keys a minute")
    await chain.decide(key(1000), "192.0.2.10")
    await chain.decide(key(1001), "127.0.0.1")
    assert len(source.questions) == 12


async def test_an_office_behind_one_address(admission):
    """Keys that are allowed cost nothing, however many they are."""
    chain = admission(Fake("a"))
    verdicts = [await chain.decide(key(number), IP) for number in range(200)]
    assert all(verdict.allowed for verdict in verdicts)


async def test_known_keys_are_not_strangers(admission, clock):
    """They are asked for whatever else comes from their address."""
    source = Fake("a")
    chain = admission(source)
    await chain.decide(KEY, IP)
    source.outcome = DENY
    for number in range(100):
        await chain.decide(key(number), IP)
    clock.now += 900
    for number in range(100):
        await chain.decide(key(1000 + number), IP)
    source.outcome = ALLOW
    assert (await chain.decide(KEY, IP)).allowed


# What is told.


async def test_refusals_are_logged_once(admission, caplog):
    """By key and hour; those who get in are not."""
    caplog.set_level(logging.INFO)
    chain = admission(Fake("a", DENY))
    for _ in range(5):
        await chain.decide(KEY, IP)
        chain.known(KEY, IP)
    assert caplog.messages == [
        "[AQEBA] from 192.0.2.9: not admitted: says deny (a); refused"
    ]


async def test_counters(admission):
    """What sources said, and what clients were told."""
    source = Fake("a")
    chain = admission(source, Fake("b", DENY))
    for _ in range(3):
        await chain.decide(KEY, IP)
    source.outcome = UNKNOWN
    await chain.decide(OTHER, IP)
    assert chain.answers()["a", ALLOW] == 1
    assert chain.answers()["a", UNKNOWN] == 1
    assert chain.answers()["b", DENY] >= 1
    assert chain.decisions == {("a", ALLOW): 3, ("several", UNKNOWN): 1}


# S3: a hook that misbehaves, over real HTTP.


class Hook:
    """A hook that misbehaves in one way."""

    def __init__(self) -> None:
        self.answer = lambda: web.Response(text='{"Allow":true}')

    async def handle(self, _request: web.Request) -> web.StreamResponse:
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer


async def sleepy():
    await asyncio.sleep(30)


MISBEHAVIOUR = {
    "slow": sleepy,
    "500": lambda: web.Response(status=500),
    "redirect": lambda: web.Response(
        status=307, headers={"Location": "http://192.0.2.1/"}
    ),
    "10 MiB": lambda: web.Response(body=b" " * (10 << 20)),
    "not JSON": lambda: web.Response(text="<html>Please log in</html>"),
}


@pytest.fixture
async def hooked(admission):
    """A chain over a URL, and the hook behind it."""
    hook = Hook()
    app = web.Application()
    app.router.add_post("/verify", hook.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook.site = site
    chain = admission(Url(f"http://127.0.0.1:{runner.addresses[0][1]}/verify"))
    yield chain, hook
    await chain.close()
    await runner.cleanup()


async def judge(chain, clock) -> tuple[bool, bool]:
    """Say whether a known and an unknown key get in, when the cache is old."""
    clock.now += 1000
    async with asyncio.timeout(2):
        return (
            (await chain.decide(KEY, IP)).allowed,
            (await chain.decide(OTHER, IP)).allowed,
        )


@pytest.mark.parametrize("answer", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
async def test_hook_misbehaves(hooked, clock, answer):
    """Known keys get in, unknown ones do not, and nobody waits long."""
    chain, hook = hooked
    await chain.decide(KEY, IP)
    hook.answer = answer
    for _ in range(3):
        assert await judge(chain, clock) == (True, False)


async def test_hook_is_down(hooked, clock):
    """Connections are refused."""
    chain, hook = hooked
    await chain.decide(KEY, IP)
    await chain.close()
    await hook.site.stop()
    assert await judge(chain, clock) == (True, False)


async def test_hook_says_text(hooked, clock):
    """`"Allow":"true"` is a JSON object that does not say true: a no."""
    chain, hook = hooked
    await chain.decide(KEY, IP)
    hook.answer = lambda: web.Response(text='{"Allow":"true"}')
    assert await judge(chain, clock) == (False, False)


async def test_hook_flaps(hooked, clock):
    """Each second answer fails: known keys always get in, no stranger ever does."""
    chain, hook = hooked
    await chain.decide(KEY, IP)
    count = 0

    def flap():
        nonlocal count
        count += 1
        return web.Response(status=502)

    for turn in range(10):
        hook.answer = flap
        assert await judge(chain, clock) == (True, False)
        hook.answer = lambda: web.Response(text='{"Allow":true}')
        clock.now += REST + 1000
        assert (await chain.decide(KEY, IP)).source.startswith("url:"), turn
    assert count == 20


async def test_decisions_from_memory_are_fast(hooked, clock):
    """With the hook dead and its guard resting, a decision costs no wait.

    One that asked would wait for the hook's timeout.
    """
    chain, hook = hooked
    await chain.decide(KEY, IP)
    hook.answer = sleepy
    clock.now += 1000
    for _ in range(3):
        await chain.decide(KEY, IP)
    async with asyncio.timeout(20 * TERMS.timeout):
        for number in range(100):
            assert (await chain.decide(KEY, IP)).allowed
            assert not (await chain.decide(key(number), "127.0.0.1")).allowed


async def test_rules_of_the_region_come_first(admission):
    """Nobody is asked about a key that the region lets in or keeps out by name."""
    source = Fake("one")
    chain = admission(source)
    assert chain.rule({KEY: False, OTHER: True}) == {KEY}
    denied, allowed = chain.known(KEY, IP), chain.known(OTHER, IP)
    assert (denied.outcome, denied.source) == (DENY, "region")
    assert (allowed.outcome, allowed.source) == (ALLOW, "region")
    assert (await chain.decide(key(3), IP)).source == "one"
    assert source.questions == [(key(3), IP)]


async def test_rules_with_an_open_door(admission):
    """Whoever is denied is denied there, too."""
    chain = admission(Open())
    chain.rule({KEY: False})
    assert chain.known(KEY).outcome is DENY
    assert chain.known(OTHER).outcome is ALLOW


async def test_rules_without_any_source(admission):
    """Only who is let in by name gets in."""
    chain = admission()
    chain.rule({KEY: True})
    assert chain.known(KEY).outcome is ALLOW
    assert (await chain.decide(OTHER, IP)).outcome is not ALLOW


async def test_rule_that_comes_while_a_source_is_asked(admission):
    """The answer is too late."""
    source = Fake("one")
    source.go.clear()
    chain = admission(source)
    async with asyncio.TaskGroup() as group:
        question = group.create_task(chain.decide(KEY, IP))
        await source.asked.wait()
        chain.rule({KEY: False})
        source.go.set()
    assert question.result().source == "region"


def test_whose_clients_are_doubted(admission):
    """Those that are kept out now, or that nobody lets in by name any more."""
    chain = admission()
    assert chain.rule({key(1): True, key(2): False, key(3): False}) == {key(2), key(3)}
    assert chain.rule({key(1): True, key(2): True, key(3): False}) == frozenset()
    assert chain.rule({key(1): False, key(3): False}) == {key(1), key(2)}
    assert chain.rule({}) == frozenset()
