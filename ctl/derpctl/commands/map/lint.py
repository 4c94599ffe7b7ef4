"""`derpctl map lint`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import OutputOption, Settings, TimeoutOption, settings_of


if TYPE_CHECKING:
    from derpctl.map.lint import Terms
    from derpctl.map.source import Judged


class Consumer(StrEnum):
    """Who hands the map to clients."""

    TAILSCALE = "tailscale"
    HEADSCALE = "headscale"


def lint(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="DERPMap JSON, a policy, headscale's YAML; a URL of one, -, cluster.",
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
    timeout: TimeoutOption = None,
) -> None:
    """Say what is wrong with a map, though clients would read it.

    FILE is a file, a URL, - for standard input, or the word cluster for what
    `map export` would print; a file of that name is ./cluster.
    Exits 7 when something is an error; warnings and infos alone exit 0.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map import lint as rules  # noqa: PLC0415

    settings = settings_of(context, output, timeout)
    terms = rules.Terms(
        allow_system_ids=allow_system_ids,
        allow_insecure=allow_insecure,
        target=None if target is None else rules.Target(target),
    )
    shown, found = _judged(settings, file, terms)
    if settings.as_json:
        items = [finding.members() for finding in found.findings]
        report = documents.document(
            "MapLint", file=shown, format=found.form, items=items
        )
        typer.echo(documents.pretty(report))
    elif found.findings:
        from derpctl.render import Screen  # noqa: PLC0415

        Screen(settings.color).findings(found.findings)
    typer.echo(f"derpctl: {shown}: {rules.summary(found.findings)}", err=True)
    if rules.has_errors(found.findings):
        raise typer.Exit(Exit.INVALID)


def _judged(settings: Settings, name: str, terms: "Terms") -> "tuple[str, Judged]":
    """Judge a map; also give the name that others may see."""
    from derpctl.texts import is_at_hand, is_yaml, read_text  # noqa: PLC0415

    if is_at_hand(name):
        from derpctl.map.source import judge  # noqa: PLC0415

        text = read_text(name)
        return name, judge(text, is_yaml=is_yaml(name), terms=terms)
    import asyncio  # noqa: PLC0415

    from derpctl.judging import judge_source  # noqa: PLC0415
    from derpctl.sources import Source  # noqa: PLC0415

    source = Source(name)
    shown, seconds = source.shown, settings.timeout
    judging = judge_source(source, terms, settings.config, timeout=seconds)
    return shown, asyncio.run(judging)
