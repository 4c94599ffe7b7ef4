"""`derpctl map watch`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.push.reload import Reload
    from derpctl.settings import Settings

EXAMPLE = "Example: derpctl map watch --exec 'systemctl reload headscale'"


def watch(
    context: typer.Context,
    *,
    run: Annotated[
        str | None,
        typer.Option(
            "--exec", metavar="CMD", help="Run it for each new map, not the first."
        ),
    ] = None,
    debounce: Annotated[
        float,
        typer.Option(
            "--debounce",
            min=0,
            max=3600,
            help="Seconds that a map stays as it is before it is told.",
        ),
    ] = 30.0,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", min=0.1, max=3600, help="Seconds between two looks."
        ),
    ] = 2.0,
    timeout: TimeoutOption = None,
) -> None:
    """Print a line of JSON for the map of the region, and for each that follows.

    Until Ctrl-C. While there is none to be had that is a line too, with the problem.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.push.reload import Reload  # noqa: PLC0415

    settings = settings_of(context, timeout=timeout)
    job = Reload.parse(run, option="--exec")
    asyncio.run(_watch(settings, job, debounce, interval))


async def _watch(
    settings: "Settings", job: "Reload", debounce: float, interval: float
) -> None:
    import asyncio  # noqa: PLC0415
    from contextlib import aclosing  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.watching import follow  # noqa: PLC0415

    found = follow(
        settings.config, interval=interval, debounce=debounce, timeout=settings.timeout
    )
    async with aclosing(found) as maps:
        async for seen in maps:
            line = documents.one_line(documents.document("Map", **seen.members()))
            typer.echo(line)
            if seen.difference is not None:
                try:
                    await asyncio.to_thread(job.run)
                except CtlError as exc:  # the next map may fare better
                    typer.echo(f"derpctl: {exc}", err=True)
