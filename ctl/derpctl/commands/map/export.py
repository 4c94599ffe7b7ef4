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

    It is what is wanted of the region, as the registry has it: nodes that are down are
    in it, those that were taken out are not. While the registry is away, the nodes say
    what they last read, and stderr says so. The same region prints the same bytes. What
    `map lint` warns of is on stderr; what it says for information, as of a trial on
    loopback, is not. Exits 7 when the map would not work; nothing is printed then.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.cluster import published  # noqa: PLC0415
    from derpctl.config import load_ctl_config  # noqa: PLC0415
    from derpctl.export import check, render  # noqa: PLC0415

    if fragment and form is not Format.ACL:
        message = f"only -f acl has a fragment, not -f {form.value}"
        raise typer.BadParameter(message, param_hint="--fragment")
    settings = settings_of(context, timeout=timeout)
    config = load_ctl_config(settings.config)
    found = asyncio.run(published(config, timeout=settings.timeout))
    if found.stale:
        typer.echo(
            f"derpctl: {found.stale}; this is as {found.source} has it", err=True
        )
    for finding in check(found.derp_map, form.value):
        typer.echo(f"derpctl: {finding}", err=True)
    typer.echo(render(found.derp_map, form.value, fragment=fragment), nl=False)
