"""`derpctl map export`."""

from enum import StrEnum
from typing import Annotated

import typer

from derpctl.settings import TimeoutOption, settings_of


class Format(StrEnum):
    """Who shall read the map."""

    ACL = "acl"
    DERPMAP = "derpmap"
    HEADSCALE = "headscale"


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
