"""Has a node drain, or take clients again, and waits until it does.

Where there is a registry, that is wished for there: every node sees it, and a node
that restarts still knows. While the registry is away the node itself is told.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from derpctl.admin import Admin, AdminFailed, CommandRefused, CommandView
from derpctl.config import CtlConfig
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.reports import Report, ask_all, report_of
from derpctl.wanted import registry
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.model import Drain as Wish


_POLL = 0.25  # seconds between two looks at a node
_GRACE = 120.0  # as the node has it where nobody says
_SPARE = 30.0  # seconds that a drain may be late
_PATIENCE = 1.0  # seconds that a node which hangs may cost beforehand
_FOLLOWS = 5.0  # seconds in which a node follows a wish
_LEAVING = ("draining", "drained")


class Teller(Protocol):
    """Tells people how it goes."""

    def say(self, text: str) -> None:
        """Say a line."""

    def left(self, count: int) -> None:
        """Show how many clients are left."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command."""

    name: str
    state: str
    clients: int | None = None
    """How many are left; None if nobody asked."""
    revision: int | None = None
    """Of the registry, in which it is wished for; None if the node was told."""
    exit: Exit = Exit.OK

    def __str__(self) -> str:
        left = "" if self.clients is None else f", {self.clients} clients left"
        return f"{self.name}: {self.state}{left}"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "name": self.name,
            "state": self.state,
            "clients": self.clients,
            "revision": self.revision,
        }


class Steered(Protocol):
    """A command for one node."""

    kind: ClassVar[str]
    """Of the JSON document."""
    verb: ClassVar[str]
    name: str

    def check(self, reports: Sequence[Report]) -> None:
        """See that it does no harm to the region as it is.

        Raises:
            CtlError: It would.
        """

    def wish(self) -> Wish | None:
        """Say what to write into the registry."""

    def is_begun(self, state: str) -> bool:
        """Tell by the state of the node whether it does it."""

    async def tell(self, admin: Admin) -> CommandView:
        """Tell the node itself.

        Raises:
            AdminFailed: No usable answer.
            CommandRefused: It does not do that.
        """

    async def finish(self, admin: Admin, teller: Teller) -> Done:
        """Wait until the node does it.

        Raises:
            AdminFailed: It does not answer any more.
            CtlError: It does something else.
        """


async def steer(
    config: CtlConfig,
    job: Steered,
    teller: Teller,
    timeout: float,  # noqa: ASYNC109 - of each question
) -> Done:
    """Give a command to a node.

    Raises:
        CtlError: There is no such node, it does not answer, or it refuses.
    """
    reports = await ask_all(config, timeout=min(timeout, _PATIENCE))
    report = report_of(config, reports, job.name)
    job.check(reports)
    revision = await _wish(config, job, teller)
    admin = report.source
    if admin is None:
        wished = "" if revision is None else "it is wished for in the registry, but "
        reason, hint = f"{wished}{report.error}", "look at it where it runs"
        raise CtlError(job.name, reason, hint, Exit.UNREACHABLE)
    try:
        if revision is None or not await _follows(job, admin):
            await job.tell(admin)
        done = await job.finish(admin, teller)
    except CommandRefused as exc:
        value, hint = f"node {job.verb} {job.name}", "use --force to do it anyway"
        reason = exc.reason
        if revision is not None:  # it stays: who reads "refused" must know
            reason = f"{reason}; it stays wished for in the registry"
            hint = f"{hint}, or derpctl node undrain {job.name} to take it back"
        raise CtlError(value, reason, hint, Exit.REFUSED) from exc
    except AdminFailed as exc:
        wished = "" if revision is None else "it is wished for in the registry, but "
        raise CtlError(
            exc.url, f"{wished}{exc.reason}", exc.hint, Exit.UNREACHABLE
        ) from exc
    return Done(done.name, done.state, done.clients, revision, done.exit)


async def _wish(config: CtlConfig, job: Steered, teller: Teller) -> int | None:
    """Write the wish into the registry; None if there is none, or it is away."""
    if config.registry.etcd is None:
        return None
    try:
        async with registry.opened(config) as operator:
            written = await operator.drain(job.name, job.wish())
    except RegistryUnavailable as exc:
        teller.say(f"registry: {exc}; telling {job.name} itself")
        return None
    teller.say(f"{job.name}: wished for in the registry, revision {written.revision}")
    return written.revision


@dataclass
class Drain:
    """Send the clients of a node to the others."""

    kind: ClassVar[str] = "NodeDrain"
    verb: ClassVar[str] = "drain"

    name: str
    grace: float | None
    """Seconds that it may take; None leaves that to the node."""
    force: bool
    """Also if another node drains, or no other node takes clients."""
    wait: bool
    """Until all have left."""
    patience: float | None
    """Seconds to wait; None: as long as it may take, and somewhat more."""

    def check(self, reports: Sequence[Report]) -> None:
        """See `Steered`."""
        if self.force:
            return
        others = [report for report in reports if report.name != self.name]
        leaving = [report.name for report in others if report.state in _LEAVING]
        value, hint = f"node drain {self.name}", "use --force to do it anyway"
        if leaving:
            reason = f"{', '.join(leaving)} is drained already, and two would be many"
            hint = f"derpctl node undrain {leaving[0]} first, or {hint}"
            raise CtlError(value, reason, hint, Exit.REFUSED)
        if not any(report.state == "serving" for report in others):
            reason = f"{self.name} is the last serving node of its region"
            raise CtlError(value, reason, f"start another one, or {hint}", Exit.REFUSED)

    def wish(self) -> Wish | None:
        """See `Steered`."""
        return Wish(grace=self.grace, force=self.force)

    def is_begun(self, state: str) -> bool:
        """See `Steered`."""
        return state in _LEAVING

    async def tell(self, admin: Admin) -> CommandView:
        """See `Steered`."""
        return await admin.drain(grace=self.grace, force=self.force)

    async def finish(self, admin: Admin, teller: Teller) -> Done:
        """See `Steered`."""
        clock = asyncio.get_running_loop().time
        began = clock()
        grace = _GRACE if self.grace is None else self.grace
        patience = grace + _SPARE if self.patience is None else self.patience
        while True:
            view = await admin.status()
            state, left = view.node.state, view.clients.connections - view.clients.mesh
            if not self.wait:
                return Done(self.name, state)
            teller.left(left)
            if state == "drained":
                return Done(self.name, state, left)
            if state != "draining":
                value, reason = f"node drain {self.name}", f"it is {state} now"
                hint = "somebody else gave it another command; look at its log"
                raise CtlError(value, reason, hint, Exit.REFUSED)
            if clock() - began >= patience:
                teller.say(f"{self.name}: not drained in {patience:g} s; it goes on")
                return Done(self.name, state, left, exit=Exit.DEADLINE)
            await asyncio.sleep(min(_POLL, max(began + patience - clock(), 0.0)))


@dataclass
class Undrain:
    """Have a node take clients again."""

    kind: ClassVar[str] = "NodeUndrain"
    verb: ClassVar[str] = "undrain"

    name: str

    def check(self, reports: Sequence[Report]) -> None:
        """See `Steered`."""

    def wish(self) -> Wish | None:
        """See `Steered`."""
        return None

    def is_begun(self, state: str) -> bool:
        """See `Steered`."""
        return state not in _LEAVING

    async def tell(self, admin: Admin) -> CommandView:
        """See `Steered`."""
        return await admin.undrain()

    async def finish(self, admin: Admin, teller: Teller) -> Done:
        """See `Steered`."""
        del teller
        return Done(self.name, (await admin.status()).node.state)


async def check_idle(config: CtlConfig, name: str, timeout: float) -> None:  # noqa: ASYNC109 - of each question
    """See that a node serves nobody who would miss it.

    Raises:
        CtlError: It serves.
    """
    reports = await ask_all(config, timeout=min(timeout, _PATIENCE))
    for report in reports:
        if report.name == name and report.state == "serving":
            value, reason = f"node remove {name}", "it serves clients"
            hint = f"derpctl node drain {name} --wait first, or use --force"
            raise CtlError(value, reason, hint, Exit.REFUSED)


async def _follows(job: Steered, admin: Admin) -> bool:
    """Look whether a node does what is wished for, for as long as that may take."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _FOLLOWS
    while not job.is_begun((await admin.status()).node.state):
        if clock() >= deadline:
            return False
        await asyncio.sleep(_POLL)
    return True
