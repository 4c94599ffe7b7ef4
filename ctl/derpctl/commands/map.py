"""`derpctl map …`."""

from enum import StrEnum
from typing import Annotated

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


app = typer.Typer(
    name="map",
    help="The DERP map that clients get.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Render the DERP map that clients get."""


class Format(StrEnum):
    """Who shall read the map."""

    ACL = "acl"
    DERPMAP = "derpmap"
    HEADSCALE = "headscale"


class Consumer(StrEnum):
    """Who hands the map to clients."""

    TAILSCALE = "tailscale"
    HEADSCALE = "headscale"


@app.command()
def export(
    context: typer.Context,
    *,
    form: Annotated[
        Format,
        typer.Option(
            "-f",
            "--format",
            help="acl: a Tailscale policy; derpmap: plain JSON; headscale: its YAML.",
        ),
    ] = Format.ACL,
    fragment: Annotated[
        bool, typer.Option("--fragment", help="With acl: the member alone.")
    ] = False,
    timeout: TimeoutOption = None,
) -> None:
    """Print the map of the region, to paste.

    All nodes must answer, those too that only the others know of: a map without the
    one that is down would take it from every client. Who was taken out of the
    region is not in it. The same region prints the same bytes. What `map lint` warns
    of is on stderr; what it says for information, as of a trial on loopback, is not.
    Exits 7 when the map would not work; nothing is printed then.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.export import check, collect, render  # noqa: PLC0415

    if fragment and form is not Format.ACL:
        message = f"only -f acl has a fragment, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--fragment")
    settings = settings_of(context, timeout=timeout)
    config = load_ctl_config(settings.config)
    found = asyncio.run(collect(config, timeout=settings.timeout))
    for finding in check(found, form.value):
        typer.echo(f"derpctl: {finding}", err=True)
    typer.echo(render(found, form.value, fragment=fragment), nl=False)


@app.command()
def lint(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="DERPMap JSON, a policy, headscale's YAML, or -."
        ),
    ],
    *,
    allow_system_ids: Annotated[
        bool,
        typer.Option(
            "--allow-system-ids", help="Do not mind regions outside 900 to 999."
        ),
    ] = False,
    allow_insecure: Annotated[
        bool,
        typer.Option(
            "--allow-insecure", help="Only warn of what tests alone may have in it."
        ),
    ] = False,
    target: Annotated[
        Consumer | None,
        typer.Option(
            "--target",
            help="Who hands it out. Default: headscale for YAML, else tailscale.",
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Say what is wrong with a map, though clients would read it.

    Exits 7 when something is an error; warnings and infos alone exit 0.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map import lint as rules  # noqa: PLC0415
    from derpctl.map.source import judge  # noqa: PLC0415
    from derpctl.sources import is_yaml, read_text  # noqa: PLC0415

    settings = settings_of(context, output)
    text = read_text(file)
    terms = rules.Terms(
        allow_system_ids=allow_system_ids,
        allow_insecure=allow_insecure,
        target=None if target is None else rules.Target(target),
    )
    found = judge(text, is_yaml=is_yaml(file), terms=terms)
    if settings.as_json:
        items = [finding.members() for finding in found.findings]
        report = documents.document(
            "MapLint", file=file, format=found.form, items=items
        )
        typer.echo(documents.pretty(report))
    elif found.findings:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).findings(found.findings)
    typer.echo(f"derpctl: {file}: {rules.summary(found.findings)}", err=True)
    if rules.has_errors(found.findings):
        raise typer.Exit(Exit.INVALID)


@app.command()
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
    from derpctl.sources import STANDARD_INPUT, Source  # noqa: PLC0415

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
