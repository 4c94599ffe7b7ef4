"""Looks at every node of a region, several times."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from derpctl.admin import Admin, AdminFailed
from derpctl.check.views import MembershipView, PresenceView


MOST: Final = 128 * 1024 * 1024
"""Bytes of an answer: a key is 75, and there may be many."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said at one look, or why it said nothing."""

    presence: PresenceView | None = None
    membership: MembershipView | None = None
    contradictions: str = ""
    """What its own maps contradict each other in."""

    error: str = ""


Look = Mapping[str, Answer]
"""What the nodes said at about the same time, by their names."""


async def look_often(
    admins: Mapping[str, Admin], *, count: int, interval: float
) -> list[Look]:
    """Ask every node several times.

    Args:
        admins: The nodes, by name.
        count: How often.
        interval: Seconds from the end of one look to the next.
    """
    found = [await _look(admins)]
    while len(found) < count:
        await asyncio.sleep(interval)
        found.append(await _look(admins))
    return found


async def _look(admins: Mapping[str, Admin]) -> Look:
    answers = await asyncio.gather(*map(_ask, admins.values()))
    return dict(zip(admins, answers, strict=True))


async def _ask(admin: Admin) -> Answer:
    patient = replace(admin, most=MOST)
    try:
        presence, membership, contradictions = await asyncio.gather(
            patient.document("/v1/presence", PresenceView),
            patient.document("/v1/membership", MembershipView),
            admin.contradictions(),
        )
    except AdminFailed as exc:
        return Answer(error=str(exc))
    return Answer(presence, membership, contradictions)
