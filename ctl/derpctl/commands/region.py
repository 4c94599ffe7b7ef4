"""`derpctl region …`."""

import typer

from derpctl.commands.check import check
from derpctl.settings import OutputOption, TimeoutOption, settings_of


app = typer.Typer(name="region", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Look after the region as a whole."""


app.command()(check)


@app.command()
def confirm(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Let go the members that vanished from the registry and are held.

    A registry that lost its records must not take a region apart, so that members
    that vanish in numbers stay in force; `derpctl status` names them. Say so here if
    it was meant. Exits 4 when a node does not answer: it goes on holding them.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.reports import confirm_all  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    answers = asyncio.run(confirm_all(config, timeout=settings.timeout))
    if settings.as_json:
        items = [answer.members() for answer in answers]
        found = documents.document("RegionConfirm", region=config.region, items=items)
        typer.echo(documents.pretty(found))
    else:
        for answer in answers:
            typer.echo(str(answer), err=answer.error is not None)
    if any(answer.error is not None for answer in answers):
        raise typer.Exit(Exit.UNREACHABLE)
