"""`derpctl map …`."""

from enum import StrEnum
from typing import Annotated

import typer

from derpctl.settings import TimeoutOption, settings_of


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

    All nodes must answer: a map without the one that is down would take it
    from every client. The same region prints the same bytes.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.export import collect, render  # noqa: PLC0415

    if fragment and form is not Format.ACL:
        message = f"only -f acl has a fragment, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--fragment")
    settings = settings_of(context, timeout=timeout)
    config = load_ctl_config(settings.config)
    found = asyncio.run(collect(config, timeout=settings.timeout))
    typer.echo(render(found, form.value, fragment=fragment), nl=False)
