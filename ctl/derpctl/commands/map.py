"""`derpctl map …`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from derpctl.settings import OutputOption, TimeoutOption, settings_of


app = typer.Typer(
    name="map",
    help="The DERP map that clients get.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Render the DERP map that clients get."""


class Format(StrEnum):
    """Who shall read the map."""

    ACL = "acl"
    DERPMAP = "derpmap"
    HEADSCALE = "headscale"


class Consumer(StrEnum):
    """Who hands the map to clients."""

    TAILSCALE = "tailscale"
    HEADSCALE = "headscale"


@app.command()
def export(
    context: typer.Context,
    *,
    form: Annotated[
        Format,
        typer.Option(
            "-f",
            "--format",
            help="acl: a Tailscale policy; derpmap: plain JSON; headscale: its YAML.",
        ),
    ] = Format.ACL,
    fragment: Annotated[
        bool, typer.Option("--fragment", help="With acl: the member alone.")
    ] = False,
    timeout: TimeoutOption = None,
) -> None:
    """Print the map of the region, to paste.

    All nodes must answer, those too that only the others know of: a map without the
    one that is down would take it from every client. Who was taken out of the
    region is not in it. The same region prints the same bytes. What `map lint` warns
    of is on stderr; what it says for information, as of a trial on loopback, is not.
    Exits 7 when the map would not work; nothing is printed then.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.export import check, collect, render  # noqa: PLC0415

    if fragment and form is not Format.ACL:
        message = f"only -f acl has a fragment, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--fragment")
    settings = settings_of(context, timeout=timeout)
    config = load_ctl_config(settings.config)
    found = asyncio.run(collect(config, timeout=settings.timeout))
    for finding in check(found, form.value):
        typer.echo(f"derpctl: {finding}", err=True)
    typer.echo(render(found, form.value, fragment=fragment), nl=False)


@app.command()
def lint(
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
    output: OutputOption = None,
) -> None:
    """Say what is wrong with a map, though clients would read it.

    Exits 7 when something is an error; warnings and infos alone exit 0.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.map import lint as rules  # noqa: PLC0415
    from derpctl.map.source import judge  # noqa: PLC0415

    settings = settings_of(context, output)
    text = _read(file)
    is_yaml = Path(file).suffix in {".yaml", ".yml"}
    terms = rules.Terms(
        allow_system_ids=allow_system_ids,
        allow_insecure=allow_insecure,
        target=None if target is None else rules.Target(target),
    )
    found = judge(text, is_yaml=is_yaml, terms=terms)
    if settings.as_json:
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


def _read(file: str) -> str:
    """Read a file, or standard input.

    Raises:
        CtlError: There is none, or it is not text.
    """
    import sys  # noqa: PLC0415

    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as exc:
        reason, hint = (exc.strerror or "unreadable").lower(), "check path and mode"
        raise CtlError(file, reason, hint, Exit.CONFIG) from exc
    except UnicodeDecodeError as exc:
        reason, hint = f"not text: byte {exc.start}", "give a text file, in UTF-8"
        raise CtlError(file, reason, hint, Exit.INVALID) from exc
