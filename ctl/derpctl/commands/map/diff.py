"""`derpctl map diff`."""

from typing import Annotated

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


def diff(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    before: Annotated[
        str,
        typer.Argument(metavar="A", help="A file, -, a URL, or cluster."),
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="The same; what is new.")],
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 8 when there are differences.")
    ] = False,
    ignore_order: Annotated[
        bool,
        typer.Option(
            "--ignore-order", help="Nodes of a region in another order are the same."
        ),
    ] = False,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Say what differs between two maps, and whose clients would reconnect.

    A and B are each a file or a URL (DERPMap JSON, a policy, headscale's YAML), - for
    standard input, or the word cluster for what `map export` would print. Clients
    drop their connection to a region, and measure anew, on any difference inside it.
    Exits 0 with differences, too, unless told otherwise.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map.diff import diff as compare  # noqa: PLC0415
    from derpctl.map.lint import printable  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415
    from derpctl.texts import STANDARD_INPUT  # noqa: PLC0415

    if before == after == STANDARD_INPUT:
        message = "only one of both can be standard input"
        raise typer.BadParameter(message, param_hint="B")
    settings = settings_of(context, output, timeout)
    old, new = (
        asyncio.run(source.get(settings.config, timeout=settings.timeout))
        for source in (Source(before), Source(after))
    )
    found = compare(old, new, ignore_order=ignore_order)
    if settings.as_json:
        report = documents.document(
            "MapDiff",
            before=Source(before).shown,
            after=Source(after).shown,
            reconnecting=found.reconnecting,
            items=[change.members() for change in found.changes],
        )
        typer.echo(documents.pretty(report))
    else:
        for line in found.lines():
            typer.echo(printable(line))
    if exit_code and found.changes:
        raise typer.Exit(Exit.DIFFERENT)
