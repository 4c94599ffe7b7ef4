"""`derpctl map diff`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, Settings, TimeoutOption, settings_of


if TYPE_CHECKING:
    from collections.abc import Sequence

    from derpctl.impact import Counted


def diff(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    before: Annotated[
        str,
        typer.Argument(metavar="A", help="What clients have: a file, a URL, a word."),
    ],
    after: Annotated[
        str, typer.Argument(metavar="B", help="The same; what they would get.")
    ],
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
    """Say what differs between two maps, and how many clients would reconnect.

    A and B are each a file or a URL (DERPMap JSON, a policy, headscale's YAML), - for
    standard input, or a word: cluster for what `map export` would print; rev:N for what
    `map history` lists; client[:SOCKET] for what the tailscaled on this machine has;
    tailscale:TAILNET for its policy ($TS_API_KEY); headscale:URL of its metrics, which
    show no more than names and ports. Clients drop their connection to a region, and
    measure anew, on any difference inside it; of the own region it is said how many
    there are. Exits 0 with differences, too, unless told otherwise.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map.diff import diff as compare  # noqa: PLC0415
    from derpctl.map.lint import printable  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415
    from derpctl.texts import STANDARD_INPUT  # noqa: PLC0415

    if before == after == STANDARD_INPUT:
        message = "only one of the two can be standard input"
        raise typer.BadParameter(message, param_hint="B")
    settings = settings_of(context, output, timeout)
    sources = Source(before), Source(after)
    old, new = (
        asyncio.run(source.get(settings.config, timeout=settings.timeout, remark=_say))
        for source in sources
    )
    for source in sources:
        old, new = source.sees(old), source.sees(new)
    ignore_order |= any(source.shuffles for source in sources)
    found = compare(old, new, ignore_order=ignore_order)
    counted = asyncio.run(_count(settings, found.reconnecting))
    if settings.as_json:
        report = documents.document(
            "MapDiff",
            before=Source(before).shown,
            after=Source(after).shown,
            reconnecting=found.reconnecting,
            clients=counted.clients if counted else None,
            items=[change.members() for change in found.changes],
        )
        typer.echo(documents.pretty(report))
    else:
        for line in found.lines():
            typer.echo(printable(line))
        if counted is not None:
            typer.echo(f"clients of region {counted.region}: {counted}")
    if exit_code and found.changes:
        raise typer.Exit(Exit.DIFFERENT)


def _say(text: str) -> None:
    typer.echo(f"derpctl: {text}", err=True)


async def _count(settings: Settings, reconnecting: "Sequence[int]") -> "Counted | None":
    """Count the clients of the own region, if it is one of those; None if not."""
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.impact import count  # noqa: PLC0415

    if not reconnecting or not settings.config.exists():
        return None
    try:
        config = load_ctl_config(settings.config)
    except CtlError:  # two files can be compared without it
        return None
    if config.region not in reconnecting:
        return None
    return await count(config, timeout=settings.timeout)
