"""`derpctl region …`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.commands.check import check
from derpctl.consent import Consent
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.settings import (
    MaxImpactOption,
    OutputOption,
    Settings,
    TimeoutOption,
    YesOption,
    settings_of,
)


if TYPE_CHECKING:
    from collections.abc import Callable

    from derpmesh.membership.edits import Wanted
    from derpmesh.membership.records import RegionIntent


class Join(StrEnum):
    """Who lists nodes."""

    OPEN = "open"
    LISTED = "listed"


app = typer.Typer(name="region", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Look after the region as a whole."""


app.command()(check)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """List the regions that the registry has, with how they fare.

    Without etcd, or while it is away, that is the one of the configuration, as its
    nodes have it.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import regions  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    found = asyncio.run(regions.rows(config, timeout=settings.timeout))
    if settings.as_json:
        items = [row.members() for row in found.rows]
        stale = found.stale or None
        report = documents.document("RegionList", stale=stale, items=items)
        typer.echo(documents.pretty(report))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).regions(found.rows)
    if found.stale:
        typer.echo(f"derpctl: {found.stale}; the nodes answered", err=True)


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


@app.command()
def show(context: typer.Context, *, output: OutputOption = None) -> None:
    """Show what is wanted of the region, as the registry has it."""
    import asyncio  # noqa: PLC0415

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import intents  # noqa: PLC0415

    settings = settings_of(context, output)
    config = load_ctl_config(settings.config)
    intent, revision = asyncio.run(intents.region(config))
    _print(settings, intent, revision)


@app.command(
    "set",
    epilog="Examples: derpctl region set --join listed; derpctl region set --lat 52.4"
    " --lon 4.9 --max-impact 100",
)
def set_(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    join: Annotated[
        Join | None,
        typer.Option(help="open: nodes list themselves; listed: operators do."),
    ] = None,
    bring_home: Annotated[
        bool | None,
        typer.Option(
            "--bring-home/--no-bring-home",
            help="Whether clients are moved back to the node that their map prefers.",
        ),
    ] = None,
    code: Annotated[str | None, typer.Option(help="Short tag, in the map.")] = None,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    latitude: Annotated[
        float | None,
        typer.Option("--lat", min=-90, max=90, help="Degrees; 0 is unset."),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option("--lon", min=-180, max=180, help="Degrees; 0 is unset."),
    ] = None,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Whether clients may choose the region as their home.",
        ),
    ] = None,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Change what is wanted of the region; what is not named stays.

    All but --join and --bring-home is in the map: a client that gets another one
    reconnects, so that this says how many there are, and asks if any
    is there. Code and name are both
    needed for a region that no node has recorded yet; else that exits 5.
    """
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import intents  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    said = {
        "join": join.value if join is not None else None,
        "bring_home": bring_home,
        "code": code,
        "name": name,
        "latitude": latitude,
        "longitude": longitude,
        "measure": measure,
    }
    changes = {key: value for key, value in said.items() if value is not None}
    if not changes:
        value, reason = "region set", "nothing to change is named"
        raise CtlError(value, reason, "give --join listed, say", Exit.USAGE)
    plan = intents.region_changes(config, changes)
    _change(settings, "region set", plan, Consent(yes, max_impact))


@app.command(epilog="Example: derpctl region order 900b,900a,900c")
def order(
    context: typer.Context,
    names: Annotated[
        str,
        typer.Argument(
            metavar="NAMES", help="Nodes, parted by commas; those not named follow."
        ),
    ],
    *,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Say in which order clients try the nodes of the region.

    Clients go to the first that takes them. Another order is another map: every client
    of the region reconnects when it gets it, so that this asks.
    """
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted.changes import set_order  # noqa: PLC0415
    from derpctl.wanted.registry import no_region  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        value, hint = f"NAMES = {names!r:.40}", "give them with commas: 900b,900a"
        raise CtlError(value, "no node is named", hint, Exit.USAGE)

    def plan(seen: "Wanted | None") -> "Wanted":
        if seen is None:
            raise no_region(config)
        return set_order(seen, wanted)

    _change(settings, "region order", plan, Consent(yes, max_impact))


@app.command("import", epilog="Example: derpctl region import region.yaml")
def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A region's file, as nodes read it.")
    ],
    *,
    output: OutputOption = None,
) -> None:
    """List in etcd what a region's file lists, before its nodes move there.

    What is in etcd already stays as it is; exits 9 when a node of the file was taken
    out there. See docs/howto/move-registry.md.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import intents  # noqa: PLC0415

    settings = settings_of(context, output)
    config = load_ctl_config(settings.config)
    text = intents.read_region(config, file)
    written, struck = asyncio.run(intents.import_region(config, text))
    if settings.as_json:
        found = documents.document("RegionImport", region=config.region, items=written)
        typer.echo(documents.pretty(found))
    elif written or not struck:
        for name in written or ["nothing: all of it is there"]:
            typer.echo(f"written: {name}" if written else name)
    for name in struck:
        hint = f"derpctl node add {name} lists it again"
        typer.echo(f"derpctl: {name}: taken out in the registry; {hint}", err=True)
    if struck:
        raise typer.Exit(Exit.DEGRADED)


@app.command("export", epilog="Example: derpctl region export > region.yaml")
def export(context: typer.Context) -> None:
    """Print what etcd has of the region as a region's file, for nodes without etcd."""
    import asyncio  # noqa: PLC0415

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted import intents  # noqa: PLC0415

    config = load_ctl_config(settings_of(context).config)
    typer.echo(asyncio.run(intents.export_region(config)), nl=False)


def _change(
    settings: Settings,
    what: str,
    plan: "Callable[[Wanted | None], Wanted]",
    consent: Consent,
) -> None:
    """Change the region, and print what it is then."""
    import asyncio  # noqa: PLC0415

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted.apply import change  # noqa: PLC0415

    config = load_ctl_config(settings.config)
    done = asyncio.run(change(config, what, plan, consent, timeout=settings.timeout))
    _print(settings, done.wanted.intent, done.revision)


def _print(settings: Settings, intent: "RegionIntent", revision: int) -> None:
    from derpctl import documents  # noqa: PLC0415

    if settings.as_json:
        found = documents.document("Region", revision=revision, **intent.plain())
        typer.echo(documents.pretty(found))
        return
    for key, value in {**intent.plain(), "revision": revision}.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        typer.echo(f"{key:<10}  {shown if shown not in ('', None) else '-'}")
