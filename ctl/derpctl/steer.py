"""Tells a node what to do, and waits until it is done."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from derpctl.admin import Admin, AdminFailed, CommandRefused
from derpctl.errors import CtlError
from derpctl.exits import Exit


_POLL = 0.5  # seconds between two looks at a node that drains
_GRACE = 120.0  # as the node has it where nobody says
_SPARE = 30.0  # seconds that a drain may be late

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command."""

    name: str
    state: str
    clients: int | None = None
    """How many are left; None if nobody asked."""
    exit: Exit = Exit.OK

    def __str__(self) -> str:
        left = "" if self.clients is None else f", {self.clients} clients left"
        return f"{self.name}: {self.state}{left}"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {"name": self.name, "state": self.state, "clients": self.clients}


class Steered(Protocol):
    """A command for one node."""

    kind: ClassVar[str]
    """Of the JSON document."""
    name: str

    async def run(self, admin: Admin, say: Say) -> Done:
        """Give it.

        Args:
            admin: The node's admin listener.
            say: Tells people how it goes.

        Raises:
            CtlError: The node does not answer, or refuses.
        """


@dataclass
class Drain:
    """Send the clients of a node to the others."""

    kind: ClassVar[str] = "NodeDrain"

    name: str
    grace: float | None
    """Seconds that it may take; None leaves that to the node."""
    force: bool
    """Also if no other node takes clients."""
    wait: bool
    """Until all have left."""
    patience: float | None
    """Seconds to wait; None: as long as it may take, and somewhat more."""

    async def run(self, admin: Admin, say: Say) -> Done:
        """See `Steered`."""
        try:
            begun = await admin.drain(grace=self.grace, force=self.force)
            if not self.wait:
                return Done(self.name, begun.state)
            return await self._follow(admin, say)
        except CommandRefused as exc:
            value, hint = f"node drain {self.name}", "use --force to do it anyway"
            raise CtlError(value, exc.reason, hint, Exit.REFUSED) from exc
        except AdminFailed as exc:
            raise CtlError(exc.url, exc.reason, exc.hint, Exit.UNREACHABLE) from exc

    async def _follow(self, admin: Admin, say: Say) -> Done:
        """Wait until it is drained, telling how many are left."""
        clock = asyncio.get_running_loop().time
        grace = _GRACE if self.grace is None else self.grace
        patience = grace + _SPARE if self.patience is None else self.patience
        deadline, told = clock() + patience, -1
        while True:
            view = await admin.status()
            state, left = view.node.state, view.clients.connections - view.clients.mesh
            if state == "drained":
                return Done(self.name, state, left)
            if state != "draining":
                value, reason = f"node drain {self.name}", f"it is {state} now"
                hint = "somebody else gave it another command; look at its log"
                raise CtlError(value, reason, hint, Exit.REFUSED)
            if left != told:
                told = left
                say(f"{self.name}: {left} clients left")
            if clock() >= deadline:
                say(f"{self.name}: not drained in {patience:g} s; it goes on")
                return Done(self.name, state, left, Exit.DEADLINE)
            await asyncio.sleep(min(_POLL, max(deadline - clock(), 0.0)))


@dataclass
class Undrain:
    """Have a node take clients again."""

    kind: ClassVar[str] = "NodeUndrain"

    name: str

    async def run(self, admin: Admin, say: Say) -> Done:
        """See `Steered`."""
        del say
        try:
            done = await admin.undrain()
        except AdminFailed as exc:
            raise CtlError(exc.url, exc.reason, exc.hint, Exit.UNREACHABLE) from exc
        return Done(self.name, done.state)
