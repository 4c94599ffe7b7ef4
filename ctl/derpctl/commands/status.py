"""`derpctl status`."""

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


_PATIENCE = 1.0  # seconds that a node which hangs may cost


def status(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show a region, its nodes and their links on one screen.

    Exits 0 when every node serves and every link is up, 9 when one does not or is
    not, 10 when no node serves, 4 when that cannot be known, 3 without a
    configuration.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py
    from datetime import UTC, datetime  # noqa: PLC0415

    from derpctl import documents, health  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.reports import ask_all  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    patience = min(settings.timeout, _PATIENCE)
    reports = asyncio.run(ask_all(config, timeout=patience))
    verdict = health.judge(config.region, reports)
    if settings.as_json:
        found = health.status_document(config.region, reports, verdict)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        now = datetime.now(UTC)
        Screen(settings.color).status(config.region, reports, verdict, now)
    raise typer.Exit(health.EXITS[verdict.health])
