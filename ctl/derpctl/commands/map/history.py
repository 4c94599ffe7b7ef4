"""`derpctl map history` and `derpctl map rollback`."""

from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.consent import Consent
from derpctl.settings import (
    MaxImpactOption,
    OutputOption,
    TimeoutOption,
    YesOption,
    settings_of,
)


if TYPE_CHECKING:
    from derpmesh.membership.edits import Wanted

HISTORY_EXAMPLE = "Example: derpctl map history --limit 5"
ROLLBACK_EXAMPLE = "Example: derpctl map rollback 1042"


def history(
    context: typer.Context,
    *,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=500, help="How many, at most.")
    ] = 20,
    output: OutputOption = None,
) -> None:
    """List what the map of the region was: when, by whom, and what that changed.

    Newest last. Each revision is one of the registry, which keeps the last 500 changes;
    a node that listed itself is one, too. `map diff rev:N cluster` compares with one.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted.history import steps  # noqa: PLC0415

    settings = settings_of(context, output)
    config = load_ctl_config(settings.config)
    found = asyncio.run(steps(config, limit))
    if settings.as_json:
        items = [step.members() for step in found]
        report = documents.document("MapHistory", region=config.region, items=items)
        typer.echo(documents.pretty(report))
    else:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).history(found)


def rollback(
    context: typer.Context,
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REV", help="A revision of map history, or a map's content."
        ),
    ],
    *,
    yes: YesOption = False,
    max_impact: MaxImpactOption = None,
    output: OutputOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Have the map be again what it was.

    All of it at once: nodes that were listed since are taken out, and those that were
    taken out are listed again. Wishes to drain stay. It says what differs and how many
    clients would reconnect, and asks. Exits 6 when somebody changes the region
    meanwhile.
    """
    import asyncio  # noqa: PLC0415

    from derpctl import documents  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.wanted.apply import change  # noqa: PLC0415
    from derpctl.wanted.history import revision_of  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    config = load_ctl_config(settings.config)
    then = asyncio.run(revision_of(config, revision))

    def plan(_: "Wanted | None") -> "Wanted":
        return then

    done = asyncio.run(
        change(
            config,
            f"map rollback {revision}",
            plan,
            Consent(yes, max_impact),
            timeout=settings.timeout,
        )
    )
    if settings.as_json:
        report = documents.document("MapRollback", **done.members())
        typer.echo(documents.pretty(report))
    else:
        typer.echo(str(done))
