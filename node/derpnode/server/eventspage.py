"""The page `/v1/events`: what happened after a number, now or as soon as it does."""

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from derpnode.errors import NodeError
from derpnode.server.journal import Journal


MOST_WAIT: Final = 60.0
"""Seconds that a question may wait for an answer."""

_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(eq=False)
class BadQuestion(NodeError):
    """A parameter makes no sense; answer 400 with the text."""

    name: str
    value: str
    limit: str
    hint: str

    def __str__(self) -> str:
        value = json.dumps(self.value[:80], ensure_ascii=False)
        return f"{self.name} = {value}: {self.limit}; {self.hint}"


class Ending(NodeError):
    """The node stops, and nothing more will happen; answer 503."""

    def __str__(self) -> str:
        return "the node is stopping"


@dataclass(frozen=True)
class Question:
    """Which events, and how long to wait for the first."""

    after: int = 0
    wait: float = 0.0
    """Seconds."""

    instance: str = ""
    """Whose numbers `after` is one of; empty: this process's, as far as one knows."""


def parse_question(query: Mapping[str, str]) -> Question:
    """Read `after`, `wait` and `instance`; each may be missing.

    Raises:
        BadQuestion: One of them makes no sense.
    """
    after = query.get("after", "0")
    if not _NUMBER.fullmatch(after):
        limit = "not a number of at most 18 digits"
        hint = "give the last of the answer before, or 0"
        raise BadQuestion("after", after, limit, hint)
    return Question(
        int(after), _seconds(query.get("wait", "0")), query.get("instance", "")
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_WAIT:
        limit = f"not seconds from 0 to {MOST_WAIT:g}"
        raise BadQuestion("wait", text, limit, "ask again when the answer is there")
    return value


async def events_document(journal: Journal, question: Question) -> dict[str, object]:
    """Give the events that are asked for.

    A reader of an earlier process, as its instance or a number that never was shows,
    is given what there is from the beginning, and at once.

    Raises:
        Ending: It was waited for in vain, as the node stops.
    """
    after = question.after
    if question.instance not in ("", journal.instance) or after > journal.last:
        after = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(question.wait or None):
            if question.wait:
                await journal.news(after)
    items = journal.after(after)
    if question.wait and journal.closed and not items:
        raise Ending
    return {
        "instance": journal.instance,
        "last": journal.last,
        "missed": journal.missed(after),
        "items": [event.document() for event in items],
    }
