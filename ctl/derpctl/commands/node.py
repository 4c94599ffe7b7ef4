"""`derpctl node …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.commands import listing
from derpctl.settings import OutputOption, Settings, TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.steer import Steered
app = typer.Typer(name="node", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A node's name, as in the configuration."),
]


@app.callback()
def group() -> None:
    """Look at single nodes, and steer them."""


@app.command("list")
def list_nodes(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """List the nodes, those that do not answer too.

    Exits 0 when at least one answers, else 4.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py
    from datetime import UTC, datetime  # noqa: PLC0415

    from derpctl import documents, health  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.reports import ask_all  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    reports = asyncio.run(ask_all(config, timeout=settings.timeout))
    verdict = health.judge(config.region, reports)
    if settings.as_json:
        items = health.node_items(reports, verdict)
        found = documents.document("NodeList", region=config.region, items=items)
        typer.echo(documents.pretty(found))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).nodes(reports, verdict, datetime.now(UTC))
    if all(report.view is None for report in reports):
        raise typer.Exit(Exit.UNREACHABLE)


@app.command()
def show(
    context: typer.Context,
    name: Name,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show all that one node says of itself, and its links.

    Exits 0 when it answers, 4 when it does not, 5 when there is no such node.
    """
    import asyncio  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from derpctl import documents, health  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.reports import ask_all, report_of  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    reports = asyncio.run(ask_all(config, timeout=settings.timeout))
    verdict = health.judge(config.region, reports)
    report = report_of(config, reports, name)
    if settings.as_json:
        item = health.node_items([report], verdict)[0]
        typer.echo(documents.pretty(documents.document("Node", **item)))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        own = [link for link in verdict.links if link.watcher == name]
        Screen(settings.color).node(report, own, datetime.now(UTC))
    if report.view is None:
        raise typer.Exit(Exit.UNREACHABLE)


@app.command()
def drain(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    name: Name,
    *,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3600,
            help="Seconds that it may take. Default: as the node has it, 120.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also if another drains, or none takes the clients."
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until every client has left.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=7200, help="Seconds to wait. Default: the grace, and 30."
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Have a node refuse clients, and send those that it has to the others.

    Where derpctl knows the registry that is wished for there, so that every node
    sees it and a restart does not undo it; while etcd is away, the node is told
    itself. Exits 6 when another node drains already or no other node takes clients,
    11 when it was waited for in vain.
    """
    from derpctl import steer  # noqa: PLC0415

    settings = settings_of(context, output)
    job = steer.Drain(name, grace=grace, force=force, wait=wait, patience=timeout)
    _steer(settings, job)


@app.command()
def undrain(context: typer.Context, name: Name, *, output: OutputOption = None) -> None:
    """Have a node take clients again."""
    from derpctl import steer  # noqa: PLC0415

    _steer(settings_of(context, output), steer.Undrain(name))


app.command(epilog=listing.ADD_EXAMPLE)(listing.add)
app.command("set", epilog=listing.SET_EXAMPLE)(listing.set_)
app.command()(listing.remove)


def _steer(settings: Settings, job: "Steered") -> None:
    """Tell a node to do something, and print what it says."""
    import asyncio  # noqa: PLC0415

    from derpctl import documents, steer  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.render import Counting  # noqa: PLC0415

    config = load_ctl_config(settings.config)
    with Counting(job.name, "clients") as teller:
        done = asyncio.run(steer.steer(config, job, teller, settings.timeout))
    if settings.as_json:
        typer.echo(documents.pretty(documents.document(job.kind, **done.members())))
    else:
        typer.echo(str(done))
    raise typer.Exit(done.exit)
