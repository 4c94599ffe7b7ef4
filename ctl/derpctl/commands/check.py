"""`derpctl region check`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.check.findings import Conclusion


def check(
    context: typer.Context,
    *,
    looks: Annotated[
        int, typer.Option(min=1, max=1000, help="How often every node is asked.")
    ] = 5,
    interval: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds between two looks.")
    ] = 0.5,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show the keys of clients whole.")
    ] = False,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Compare what nodes say of themselves with what the others believe of them.

    Which clients are on a node, and which ones its peers send there; whether each is
    linked to each; whether all have the same members in force, and server keys of
    their own; whether a relay's maps fit together. What is under way between nodes is
    no difference: only what is there at every look counts.

    Exits 0 when all is consistent, 9 when there are differences or a node does not
    answer, 10 when no link works, 4 when no node answers.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.check.findings import EXITS  # noqa: PLC0415
    from derpctl.check.judge import judge  # noqa: PLC0415
    from derpctl.check.looks import look_often  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.map.lint import printable  # noqa: PLC0415
    from derpctl.reports import ask_all, every_admin  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)

    async def run() -> "Conclusion":
        admins = await every_admin(config, timeout=settings.timeout)
        found = await look_often(admins, count=looks, interval=interval)
        return judge(found, await ask_all(config, timeout=settings.timeout))

    conclusion = asyncio.run(run())
    if settings.as_json:
        found = conclusion.document(config.region, reveal=reveal)
        typer.echo(documents.pretty(found))
    else:
        for line in conclusion.lines(config.region, reveal=reveal):
            typer.echo(printable(line))
    raise typer.Exit(EXITS[conclusion.verdict])
