"""What happened to a node: kept, counted, waited for, and asked over HTTP."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from derpnode.kinds import Kind
from derpnode.server.eventspage import Ending, Question, events_document
from derpnode.server.journal import MAX_TEXT, SIZE, Journal
from tests.node.server.adminnode import admin_client, node_config, running


NOON = datetime(2026, 11, 24, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def journal():
    """A small one, at noon."""
    return Journal(lambda: NOON, size=3)


def numbers(journal: Journal, after: int) -> list[int]:
    """Give the numbers of the events after one."""
    return [event.number for event in journal.after(after)]


def test_event(journal):
    """It says what, when, whom it is about, and more for programs."""
    journal.add(Kind.LINK_LOST, "900b", "closed by the peer", was_up=True)
    [event] = journal.after(0)
    assert event.document() == {
        "number": 1,
        "time": "2026-11-24T12:00:00.123Z",
        "kind": "link_lost",
        "subject": "900b",
        "text": "closed by the peer",
        "fields": {"was_up": True},
    }


def test_numbers_go_on_and_the_oldest_are_forgotten(journal):
    """Whoever fell behind learns how many there were; the counts are of all."""
    assert (journal.last, numbers(journal, 0), journal.missed(0)) == (0, [], 0)
    for _ in range(5):
        journal.add(Kind.SERVING)
    assert (journal.last, numbers(journal, 0), journal.missed(0)) == (5, [3, 4, 5], 2)
    assert (numbers(journal, 1), journal.missed(1)) == ([3, 4, 5], 1)
    assert (numbers(journal, 2), journal.missed(2)) == ([3, 4, 5], 0)
    assert (numbers(journal, 4), journal.missed(4)) == ([5], 0)
    assert (numbers(journal, 5), numbers(journal, 9)) == ([], [])
    assert journal.counts == {"serving": 5}


def test_long_text_is_cut(journal):
    """A peer that has a say in it fills no memory."""
    journal.add(Kind.LINK_LOST, text="x" * (MAX_TEXT + 1))
    assert len(journal.after(0)[0].text) == MAX_TEXT


def test_instances_differ(journal):
    """Or a reader would take the numbers of another process for news."""
    assert journal.instance != Journal(lambda: NOON).instance


async def test_waiting(journal):
    """Everybody who waits is woken, and only by what is newer."""
    journal.add(Kind.STARTED)
    await journal.news(after=0)
    async with asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(journal.news(after=last)) for last in (1, 1, 2)]
        await asyncio.sleep(0)
        journal.add(Kind.SERVING)
        await asyncio.wait(waits[:2])
        assert not waits[2].done()
        journal.close()


# Over HTTP.


@pytest.fixture
async def node(tmp_path):
    """A node that serves."""
    async with running(node_config(tmp_path)) as found:
        yield found


@pytest.fixture
async def http(node):
    """A client of its admin address on loopback."""
    async with admin_client(node) as found:
        yield found


async def events(http, query: str = "") -> dict:
    """Ask for events."""
    async with http.get(f"/v1/events{query}") as answer:
        assert answer.status == 200
        return await answer.json()


def kinds(found: dict) -> list[str]:
    """Give the kinds, in order."""
    return [item["kind"] for item in found["items"]]


async def test_life_of_a_node(node, http):
    """What it went through is there, numbered, in the order of time."""
    node.drain(grace=1, force=True)
    await asyncio.wait_for(node.journal.news(after=3), 10)
    node.undrain()
    found = await events(http)
    assert kinds(found) == [
        "started",
        "serving",
        "draining",
        "drained",
        "undrained",
        "serving",
    ]
    assert [item["number"] for item in found["items"]] == [1, 2, 3, 4, 5, 6]
    assert (found["last"], found["missed"]) == (6, 0)
    times = [datetime.fromisoformat(item["time"]) for item in found["items"]]
    assert all(one <= other for one, other in pairwise(times))
    assert found["items"][2]["fields"] == {"grace": 1, "force": True}


async def test_unready(node, http):
    """That it cannot reach itself is an event, with the reason; so is that it can."""
    last = node.journal.last
    node.readiness.failure = "cannot reach itself"
    node.readiness.ready = False
    node._ready_changed(False)
    node.readiness.ready = True
    node._ready_changed(True)
    found = await events(http, f"?after={last}")
    assert kinds(found) == ["unready", "serving"]
    assert found["items"][0]["text"] == "cannot reach itself"


async def test_long_poll(node, http):
    """It answers once there is something new, with that alone."""
    last = (await events(http))["last"]
    async with asyncio.TaskGroup() as tasks:
        polls = [
            tasks.create_task(events(http, f"?after={last}&wait=60")) for _ in range(2)
        ]
        assert (await events(http, f"?after={last}&wait=0.01"))["items"] == []
        node.journal.add(Kind.HOMING, "900b", "3 clients")
    for poll in polls:
        assert kinds(poll.result()) == ["homing"]


async def test_reader_of_another_process(node, http):
    """Its number means nothing here, so it gets everything, and at once."""
    instance = (await events(http))["instance"]
    assert instance == node.journal.instance
    for query in ("?after=1&wait=60&instance=other", "?after=1000&wait=60"):
        assert kinds(await events(http, query)) == ["started", "serving"]
    assert kinds(await events(http, f"?after=1&instance={instance}")) == ["serving"]


async def test_reader_that_fell_behind(node, http):
    """It is told how many events it will never see."""
    for _ in range(SIZE):
        node.journal.add(Kind.KEY_PHASE)
    found = await events(http, "?after=1")
    assert (found["missed"], len(found["items"])) == (1, SIZE)
    assert found["items"][0]["number"] == 3


async def test_stopping(tmp_path):
    """Whoever waits is told that the node stops, before it is gone."""
    async with running(node_config(tmp_path)) as node, admin_client(node) as http:
        last = node.journal.last
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(events(http, f"?after={last}&wait=60"))
            while not node.journal._news._waiters:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            node.stop()
    assert kinds(polling.result()) == ["stopping"]


async def test_end_of_the_process(journal):
    """A question that waits does not hold it up; what there is, is still told."""
    journal.add(Kind.STOPPING)
    async with asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(ending(journal))
        await asyncio.sleep(0)
        journal.close()
    assert waits.result() == "the node is stopping"
    found = await events_document(journal, Question(after=0, wait=60))
    assert kinds(found) == ["stopping"]


async def ending(journal: Journal) -> str:
    """Wait for what does not come; give what is answered."""
    with pytest.raises(Ending) as caught:
        await events_document(journal, Question(after=1, wait=60))
    return str(caught.value)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "?after=-1",
            'after = "-1": not a number of at most 18 digits;'
            " give the last of the answer before, or 0",
        ),
        (
            "?wait=61",
            'wait = "61": not seconds from 0 to 60; ask again when the answer is there',
        ),
        (
            "?wait=nan",
            'wait = "nan": not seconds from 0 to 60;'
            " ask again when the answer is there",
        ),
    ],
)
async def test_bad_question(http, query, text):
    """400: the value, the limit, and what to do."""
    async with http.get(f"/v1/events{query}") as answer:
        assert (answer.status, await answer.text()) == (400, f"{text}\n")
