"""`derpctl events`: what is printed, of whom, and how it goes on when nodes do not."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from derpctl.errors import CtlError
from derpctl.events.choice import parse_since
from derpnode.kinds import Kind
from tests.ctl.regions import admins
from tests.ctl.standins import AdminStandIn, admin
from tests.mesh.region import PATIENCE, cluster


def event(number: int, second: int, kind: str, subject: str = "", text: str = ""):
    """Make an event as a node gives it, at a second after noon."""
    return {
        "number": number,
        "time": f"2026-11-24T12:00:{second:02}.000Z",
        "kind": kind,
        "subject": subject,
        "text": text,
        "fields": {"revision": 3} if kind == "member_joined" else {},
        "a_newer_field": 1,
    }


def telling(name: str, *items: dict, instance: str = "one") -> AdminStandIn:
    """Make a node that tells these."""
    last = items[-1]["number"] if items else 0
    told = {"instance": instance, "last": last, "missed": 0, "items": list(items)}
    return AdminStandIn(name, raw={"/v1/events": web.json_response(told)})


A = [
    event(1, 1, "started", text="derpd 0.1.0"),
    event(2, 5, "member_joined", "900b", "it is in the region"),
    event(3, 9, "from_the_future", "900b", "\x1b[31m"),
]
B = [event(1, 3, "started", text="derpd 0.1.0")]


@pytest.fixture
def events(derpctl, beside, configured):
    """Ask two nodes that tell of A and B, and whoever else there is."""

    def run(*options, **more):
        urls = {
            f"_{name}": beside.start(admin(telling(name, *told)))
            for name, told in (("900a", A), ("900b", B))
        }
        return derpctl("--config", configured(**urls, **more), "events", *options)

    return run


def test_table(events):
    """All of both, in the order of time; nothing steers the terminal."""
    ended = events()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "TIME                      NODE     KIND             SUBJECT  TEXT\n"
        "2026-11-24T12:00:01.000Z  900a     started          -        derpd 0.1.0\n"
        "2026-11-24T12:00:03.000Z  900b     started          -        derpd 0.1.0\n"
        "2026-11-24T12:00:05.000Z  900a     member_joined    900b     "
        "it is in the region\n"
        "2026-11-24T12:00:09.000Z  900a     from_the_future  900b     \\x1b[31m\n"
    )


def test_json(events):
    """An object a line, with the node that says so, and what is for programs."""
    ended = events("-o", "json")
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [(one["kind"], one["node"]) for one in found] == [
        ("Event", "900a"),
        ("Event", "900b"),
        ("Event", "900a"),
        ("Event", "900a"),
    ]
    assert found[2] == {
        "apiVersion": "derpctl/v1",
        "kind": "Event",
        "node": "900a",
        "instance": "one",
        "event": {
            "number": 2,
            "time": "2026-11-24T12:00:05.000Z",
            "kind": "member_joined",
            "subject": "900b",
            "text": "it is in the region",
            "fields": {"revision": 3},
        },
    }


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--kind", "started"], ["900a 1", "900b 1"]),
        (["--kind", "started", "--kind", "member_joined", "--node", "900a"], None),
        (["--node", "900b"], ["900b 1"]),
        (["--since", "1m"], []),
        (["--since", "10000d"], ["900a 1", "900b 1", "900a 2", "900a 3"]),
    ],
)
def test_choice(events, options, numbers, monkeypatch):
    """By kind, by node, by age."""
    found = [
        json.loads(line) for line in events("-o", "json", *options).out.splitlines()
    ]
    assert [f"{one['node']} {one['event']['number']}" for one in found] == (
        ["900a 1", "900a 2"] if numbers is None else numbers
    )


def test_node_that_does_not_answer(events):
    """The others' events are there, and it is said who is missing: 0."""
    ended = events(_900c="unix:/none/c.sock")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 5
    assert ended.err.startswith("derpctl: 900c: unix:/none/c.sock: no such file")


def test_node_that_stops(derpctl, beside, configured):
    """It says so itself, and that is passed on."""
    stopping = web.Response(status=503, text="the node is stopping\n")
    url = beside.start(admin(AdminStandIn(raw={"/v1/events": stopping})))
    ended = derpctl("--config", configured(_900a=url), "events")
    assert ended.code == 4
    said = f"derpctl: 900a: {url}: the node is stopping; ask again once it runs\n"
    assert ended.err == said


def test_nobody_answers(derpctl, configured):
    """4; a table without rows."""
    ended = derpctl("--config", configured(_900a="unix:/none/a.sock"), "events")
    assert (ended.code, ended.out.count("\n")) == (4, 1)


def test_no_such_node(events):
    """5, and who there is."""
    ended = events("--node", "900z")
    assert ended.code == 5
    assert ended.err.endswith("there is 900a, 900b\n")


@pytest.mark.parametrize("text", ["", "10", "10x", "-1s", "1.5h", "999999d"])
def test_bad_duration(events, text):
    """2, with the value and what would do."""
    ended = events("--since", text)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"derpctl: --since = {text}: not a duration;"
        " give one such as 90s, 10m, 1h30m or 2d\n"
    )


def test_durations():
    """The units add up."""
    assert parse_since("90s") == timedelta(seconds=90)
    assert parse_since("2d1h30m5s") == timedelta(days=2, hours=1, minutes=30, seconds=5)
    with pytest.raises(CtlError):
        parse_since("1d1d1d1d1d")
    assert datetime.now(UTC) - parse_since("99999d99999d99999d99999d")


# Following real nodes.


class Following:
    """A `derpctl events -f` that runs, and what it has printed."""

    def __init__(self, *arguments: object) -> None:
        words = [sys.executable, "-m", "derpctl", *map(str, arguments)]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.told: list[dict] = []
        self.said: list[str] = []
        self._news = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, args=args)
            for args in (
                (self.process.stdout, self._event),
                (self.process.stderr, self.said.append),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _event(self, line: str) -> None:
        self.told.append(json.loads(line))

    def _read(self, stream, take: Callable[[str], None]) -> None:
        for line in stream:
            with self._news:
                take(line)
                self._news.notify_all()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until what was printed makes something true."""
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), (self.told, self.said)

    def of(self, node: str, kind: str) -> list[dict]:
        """Give what a node told of a kind."""
        return [
            one
            for one in self.told
            if (one["node"], one["event"]["kind"]) == (node, kind)
        ]

    def end(self) -> int:
        """Press Ctrl-C; give the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def following(configured):
    """Follow the events of these places; ended at last."""
    started: list[Following] = []

    def run(places, *options) -> Following:
        path = configured(**admins(places))
        words = ("--config", path, "-o", "json", "events", "-f", *options)
        started.append(Following(*words))
        return started[-1]

    yield run
    for one in started:
        one.end()


@pytest.fixture
def region(beside):
    """A region without nodes."""
    return beside.start(cluster())


def test_node_that_is_killed_and_comes_back(beside, region, following):
    """It is said once each, what it tells anew is all there, and 130 on Ctrl-C."""
    a, victim = region.place("a"), region.child("b")
    region.write(a, victim)
    for place in (a, victim):
        beside.run(region.start(place))
    found = following([a, victim])
    found.until(lambda: found.of("900b", "started") and found.of("900a", "link_up"))
    victim.kill()
    victim.process.wait()
    found.until(lambda: found.of("900a", "link_lost"))
    found.until(lambda: found.said)
    beside.run(region.start(victim))
    found.until(lambda: len(found.of("900b", "serving")) == 2)
    found.until(lambda: len(found.of("900a", "link_up")) == 2)
    assert found.end() == 130
    one, other = found.of("900b", "started")
    assert one["instance"] != other["instance"]
    assert other["event"]["number"] == 1
    assert len(found.said) == 2
    assert found.said[0].startswith(f"derpctl: 900b: http://{victim.host}:9090: ")
    assert found.said[1] == ("derpctl: 900b: it was restarted; its events begin anew\n")
    numbers = [one["event"]["number"] for one in found.told if one["node"] == "900a"]
    assert numbers == list(range(1, len(numbers) + 1))


def test_what_happens_from_now_on(beside, region, following):
    """With a limit of age, of what was before nothing is shown; then all that is."""
    a = region.place("a")
    region.write(a)
    beside.run(region.start(a))
    found = following([a], "--since", "0s", "--kind", "draining", "--kind", "serving")

    async def drain() -> None:
        a.node.drain(grace=1, force=True)

    async def asked() -> None:
        while not a.node.journal._news._waiters:
            await a.node._pause(0.01)

    beside.run(asked())
    beside.run(drain())
    found.until(lambda: found.told)
    assert [one["event"]["kind"] for one in found.told] == ["draining"]


def test_reader_that_falls_behind(beside, region, following):
    """It is said how many were missed, and the rest is there."""
    a = region.place("a")
    region.write(a)
    beside.run(region.start(a))
    found = following([a])
    found.until(lambda: found.of("900a", "serving"))

    async def flood() -> None:
        last = a.node.journal.last
        for number in range(1100):
            a.node.journal.add(Kind.HOMING, text=str(number))
        assert last < a.node.journal.last - 1024

    beside.run(flood())
    found.until(lambda: found.told and found.told[-1]["event"]["text"] == "1099")
    assert found.end() == 130
    homing = found.of("900a", "homing")
    [said] = found.said
    assert said == f"derpctl: 900a: {1100 - len(homing)} events were missed\n"
