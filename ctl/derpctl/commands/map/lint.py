"""`derpctl map lint`."""

from enum import StrEnum
from typing import Annotated

import typer

from derpctl.settings import OutputOption, settings_of


class Consumer(StrEnum):
    """Who hands the map to clients."""

    TAILSCALE = "tailscale"
    HEADSCALE = "headscale"


def lint(  # noqa: PLR0913 - options of a command line
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
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend in the file what has only one meaning."),
    ] = False,
    output: OutputOption = None,
) -> None:
    """Say what is wrong with a map, though clients would read it.

    With --fix what has but one meaning is mended first, and no byte beside it changes;
    standard input is mended onto standard output, and findings are then on stderr.
    Exits 7 when something is an error; warnings and infos alone exit 0.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map import lint as rules  # noqa: PLC0415
    from derpctl.map.mend import marked  # noqa: PLC0415
    from derpctl.map.source import judge  # noqa: PLC0415
    from derpctl.mending import mend_file  # noqa: PLC0415
    from derpctl.sources import STANDARD_INPUT, is_yaml, read_text  # noqa: PLC0415

    settings = settings_of(context, output)
    is_piped = fix and file == STANDARD_INPUT
    if is_piped and settings.as_json:
        message = "standard output has the mended map; give a file, or no -o json"
        raise typer.BadParameter(message, param_hint="--fix")
    text = mend_file(file) if fix else read_text(file)
    terms = rules.Terms(
        allow_system_ids=allow_system_ids,
        allow_insecure=allow_insecure,
        target=None if target is None else rules.Target(target),
    )
    found = judge(text, is_yaml=is_yaml(file), terms=terms)
    found = marked(found, text, is_yaml=is_yaml(file), terms=terms)
    if is_piped:
        for finding in found.findings:
            typer.echo(f"derpctl: {finding}", err=True)
    elif settings.as_json:
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
