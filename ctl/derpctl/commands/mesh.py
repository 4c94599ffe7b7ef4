"""`derpctl mesh …`."""

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


app = typer.Typer(name="mesh", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Look at the links between the nodes."""


@app.command()
def links(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show every link, from the node that watches to the one that is watched.

    A node learns over its link which clients are at the other, and forwards to them.
    Exits 0 when every link is up, 9 when one is not, 10 when none is, 4 when no
    node answers.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl import links as links_of  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.reports import ask_all  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    reports = asyncio.run(ask_all(config, timeout=settings.timeout))
    rows = links_of.link_rows(reports)
    if settings.as_json:
        found = links_of.links_document(config.region, rows)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).links(rows)
    raise typer.Exit(links_of.links_exit(reports, rows))
