"""`derpctl map verify`."""

from typing import Annotated

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


EXAMPLE = "Example: derpctl map verify --against tailscale:example.com --wait"


def verify(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    against: Annotated[
        str,
        typer.Option(
            "--against", metavar="WHO", help="Who should have it; as for map diff."
        ),
    ] = "client",
    wait: Annotated[bool, typer.Option("--wait", help="Until they have it.")] = False,
    patience: Annotated[
        float,
        typer.Option("--patience", min=0, max=86_400, help="Seconds to wait at most."),
    ] = 300.0,
    ignore_order: Annotated[
        bool,
        typer.Option(
            "--ignore-order",
            help="Another order is the same; as of headscale's clients.",
        ),
    ] = False,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Say whether somebody has the map that the region publishes.

    WHO is client, the tailscaled on this machine; tailscale:TAILNET, headscale:URL, a
    URL or a file; see `map diff`. Only the own region is compared. Exits 8 when they
    have another one; with --wait 11 when they still had after --patience.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py
    from functools import partial  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl import verify as looks  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map.lint import printable  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    ask = partial(
        looks.wait if wait else looks.verify,
        Source(against),
        settings.config,
        timeout=settings.timeout,
        ignore_order=ignore_order,
    )
    found = asyncio.run(ask(patience=patience) if wait else ask())
    if settings.as_json:
        report = documents.document("MapVerify", **found.members())
        typer.echo(documents.pretty(report))
    else:
        typer.echo(printable(str(found)))
        for change in found.changes:
            typer.echo(printable(str(change)))
    if found.stale:
        typer.echo(f"derpctl: {found.stale}", err=True)
    if not found.has_it:
        raise typer.Exit(Exit.DEADLINE if wait else Exit.DIFFERENT)
