"""Asks every node of a region how it fares, and keeps what each said."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from derpctl.admin import Admin, AdminFailed, LinkView, StatusView
from derpctl.config import CtlConfig, NodeAddress, node_named, read_token


@dataclass(frozen=True, slots=True)
class Report:
    """What one node said, or why it said nothing."""

    name: str
    """As in derpctl's configuration."""
    admin: str
    """Whom we asked."""
    view: StatusView | None = None
    links: Sequence[LinkView] | None = None
    """Its links to other nodes; None if it did not say."""
    error: str | None = None
    """Why there is no view."""
    dead: bool = False
    """Whether nobody listens where its admin should be."""
    seconds: float | None = None
    """How long the answer took."""

    @property
    def state(self) -> str:
        """The node's own word for it; `dead` or `silent` if it has none."""
        if self.view is not None:
            return self.view.node.state
        return "dead" if self.dead else "silent"


async def ask_all(config: CtlConfig, *, timeout: float) -> list[Report]:  # noqa: ASYNC109 - part of each report
    """Ask every node at once; the order is that of the configuration.

    Raises:
        CtlError: The token or the authorities cannot be read.
    """
    token = read_token(config.token_file)
    jobs = [
        _ask(node, Admin(node.admin, timeout, token, config.ca_file))
        for node in config.nodes
    ]
    return list(await asyncio.gather(*jobs))


async def _ask(node: NodeAddress, admin: Admin) -> Report:
    clock = asyncio.get_running_loop().time
    started = clock()
    status, links = await asyncio.gather(
        admin.status(), admin.links(), return_exceptions=True
    )
    took = clock() - started
    if isinstance(status, AdminFailed):
        return Report(node.name, node.admin, error=str(status), dead=status.dead)
    if isinstance(status, BaseException):
        raise status
    if isinstance(links, BaseException) and not isinstance(links, AdminFailed):
        raise links
    told = None if isinstance(links, AdminFailed) else links
    return Report(node.name, node.admin, status, told, seconds=took)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a node let go, or why it did not answer."""

    name: str
    let_go: Sequence[str] = ()
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.name}: {self.error}"
        if not self.let_go:
            return f"{self.name}: nothing is held"
        return f"{self.name}: let go {', '.join(self.let_go)}"

    def members(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {"name": self.name, "let_go": list(self.let_go), "error": self.error}


async def confirm_all(config: CtlConfig, *, timeout: float) -> list[Confirmed]:  # noqa: ASYNC109 - of each
    """Have every node let go what it holds.

    Raises:
        CtlError: The token or the authorities cannot be read.
    """

    async def one(node: NodeAddress) -> Confirmed:
        admin = Admin(node.admin, timeout, token, config.ca_file)
        try:
            found = await admin.confirm()
        except AdminFailed as exc:
            return Confirmed(node.name, error=str(exc))
        return Confirmed(node.name, found.let_go)

    token = read_token(config.token_file)
    return list(await asyncio.gather(*map(one, config.nodes)))


async def every_admin(
    config: CtlConfig,
    *,
    timeout: float,  # noqa: ASYNC109 - of each question
    only: Sequence[str] = (),
) -> dict[str, Admin]:
    """Give the admin listener of every node by its name, in the order of the map.

    Args:
        config: derpctl's own.
        timeout: Seconds that an answer may take.
        only: Names of the nodes that are wanted; none: all of them.

    Raises:
        CtlError: There is no such node, or the token cannot be read.
    """
    token = read_token(config.token_file)
    nodes = [node_named(config, name) for name in only] or config.nodes
    return {
        node.name: Admin(node.admin, timeout, token, config.ca_file) for node in nodes
    }


def admin_of(config: CtlConfig, name: str, *, timeout: float) -> Admin:
    """Give the admin listener of one node.

    Raises:
        CtlError: There is no such node, or the token cannot be read.
    """
    node = node_named(config, name)
    token = read_token(config.token_file)
    return Admin(node.admin, timeout, token, config.ca_file)
