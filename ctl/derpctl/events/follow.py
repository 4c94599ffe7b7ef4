"""Reads the events of every node, once or for as long as somebody looks."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from derpctl.admin import Admin, AdminFailed
from derpctl.events.choice import Choice, merged
from derpctl.events.views import EventsView, Told


WAIT: Final = 30.0
"""Seconds that a node may hold a question until something happens."""

PAUSE: Final = 0.5
"""Seconds until a node that does not answer is asked again."""

Show = Callable[[list[Told]], None]
Say = Callable[[str], None]


@dataclass
class Reader:
    """Reads the events of one node, each once, whatever becomes of the node.

    Args:
        name: As the operator knows the node.
        admin: Where it answers.
        say: Tells the operator what is no event.
    """

    name: str
    admin: Admin
    say: Say
    is_silent: bool = False
    """Whether it was said that the node does not answer."""

    is_known: bool = False
    """Whether it ever answered; what it tells from then on is news."""

    _instance: str = ""
    _after: int = 0

    async def read(self, wait: float = 0.0) -> list[Told] | None:
        """Give what is new; None if the node does not answer.

        Args:
            wait: Seconds that the node may take until there is something.
        """
        query = {"after": str(self._after)}
        if self._instance:
            query |= {"instance": self._instance, "wait": f"{wait:g}"}
        patient = replace(self.admin, timeout=self.admin.timeout + wait)
        try:
            found = await patient.document("/v1/events", EventsView, query)
        except AdminFailed as exc:
            if not self.is_silent:
                self.say(f"{self.name}: {exc}")
            self.is_silent = True
            return None
        self._note(found)
        return [Told(self.name, found.instance, event) for event in found.items]

    def _note(self, found: EventsView) -> None:
        """Remember where the reading is, and say what is lost or new."""
        if self._instance not in ("", found.instance):
            self.say(f"{self.name}: it was restarted; its events begin anew")
        elif self.is_silent:
            self.say(f"{self.name}: it answers again")
        if self._instance and found.missed:
            self.say(f"{self.name}: {found.missed} events were missed")
        self.is_silent, self.is_known = False, True
        self._instance, self._after = found.instance, found.last


async def look(
    admins: Mapping[str, Admin], choice: Choice, show: Show, say: Say
) -> list[Reader]:
    """Show what every node has now, in the order of time.

    Args:
        admins: The nodes, by name.
        choice: What of it.
        show: Prints events.
        say: Tells the operator what is no event.

    Returns:
        Who may go on reading, a reader a node.
    """
    readers = [Reader(name, admin, say) for name, admin in admins.items()]
    told = await asyncio.gather(*(reader.read() for reader in readers))
    show(choice.of(merged(some or () for some in told), fresh=False))
    return readers


async def follow(readers: Iterable[Reader], choice: Choice, show: Show) -> None:
    """Show what happens, as it does. Never ends: nodes come and go."""

    async def go_on(reader: Reader) -> None:
        while True:
            fresh = reader.is_known
            told = await reader.read(WAIT)
            if told is None:
                await asyncio.sleep(PAUSE)
            else:
                show(choice.of(told, fresh=fresh))

    await asyncio.gather(*map(go_on, readers))
