"""`derpctl events`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of
from derpnode.kinds import Kind


if TYPE_CHECKING:
    from collections.abc import Mapping

    from derpctl.admin import Admin
    from derpctl.events.choice import Choice
    from derpctl.events.follow import Say, Show
    from derpctl.events.views import Told

EPILOG = (
    "Examples: `derpctl events --since 10m` for what happened lately, `derpctl events"
    " -f --since 0s` for what happens from now on, `derpctl events --kind link_lost"
    " --kind held --node 900a` for some of it, `derpctl -o json events -f` for a"
    " program."
)


def events(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    follows: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Not older than that: 90s, 10m, 1h30m, 2d."
        ),
    ] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option(metavar="KIND", help="Only of this kind; repeatable."),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only what this node says; repeatable."),
    ] = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show what happened in the region, as its nodes tell it, in the order of time.

    Each node keeps its last 1,024 events and forgets them when it ends. What several
    nodes saw is there once for each of them. With -f every node is asked on, those
    that die and come back as well; with -o json a line is an object.

    Exits 0 when at least one node answers, 4 when none does, 5 when there is no such
    node, 130 on Ctrl-C.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py
    from datetime import UTC, datetime  # noqa: PLC0415

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.events.choice import Choice, parse_since  # noqa: PLC0415
    from derpctl.events.lines import Columns, json_line  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.reports import every_admin  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    kinds = frozenset(one.value for one in kind or ())
    limit = datetime.now(UTC) - parse_since(since) if since is not None else None
    config = load_ctl_config(settings.config)

    async def run() -> bool:
        admins = await every_admin(config, timeout=settings.timeout, only=node or ())
        columns = Columns(admins)
        if not settings.as_json:
            typer.echo(columns.head)
        write = json_line if settings.as_json else columns.line

        def show(told: "list[Told]") -> None:
            for one in told:
                typer.echo(write(one))

        return await _run(admins, Choice(kinds, limit), show, follows=follows)

    try:
        answered = asyncio.run(run())
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if not answered:
        raise typer.Exit(Exit.UNREACHABLE)


async def _run(
    admins: "Mapping[str, Admin]", choice: "Choice", show: "Show", *, follows: bool
) -> bool:
    """Show events; tell whether any node answered."""
    from derpctl.events.follow import follow, look  # noqa: PLC0415

    say: Say = lambda text: typer.echo(f"derpctl: {text}", err=True)  # noqa: E731
    readers = await look(admins, choice, show, say)
    if follows:
        await follow(readers, choice, show)
    return not all(reader.is_silent for reader in readers)
