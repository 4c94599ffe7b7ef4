"""`derpctl map push headscale`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from derpctl.settings import TimeoutOption, YesOption, settings_of


if TYPE_CHECKING:
    from derpctl.push.reload import Reload

EXAMPLE = (
    "Example: derpctl map push headscale --path /etc/headscale/derp.yaml"
    " --reload-cmd 'systemctl restart headscale'"
)


def headscale(
    context: typer.Context,
    *,
    path: Annotated[
        Path,
        typer.Option("--path", metavar="FILE", help="A file of its derp.paths."),
    ],
    reload_command: Annotated[
        str | None,
        typer.Option(
            "--reload-cmd",
            metavar="CMD",
            help="Run this when the file was written; words, not a shell's script.",
        ),
    ] = None,
    yes: YesOption = False,
    timeout: TimeoutOption = None,
) -> None:
    """Write the map into a file that headscale reads.

    Whoever reads it gets the old file or the new one, whole. What changes for clients
    is on stdout. A file that has the map already is not written, and nothing is run,
    unless the command failed the last time. Regions of others that are in the file
    would be lost, which is asked for. Exits 6 instead of writing an empty map, or over
    a file that is none, 7 when it would break a rule of
    `map lint`, 9 when the file is written and the command fails.
    """
    import asyncio  # noqa: PLC0415 - see commands/__init__.py

    from derpctl.consent import agree  # noqa: PLC0415
    from derpctl.export import check, render  # noqa: PLC0415
    from derpctl.files import replace_whole  # noqa: PLC0415
    from derpctl.map.diff import diff  # noqa: PLC0415
    from derpctl.map.lint import printable  # noqa: PLC0415
    from derpctl.push import policy as push  # noqa: PLC0415
    from derpctl.push.reload import Reload  # noqa: PLC0415

    settings = settings_of(context, timeout=timeout)
    reload = Reload.parse(reload_command)
    wanted = asyncio.run(push.wanted_map(settings.config, timeout=settings.timeout))
    if wanted.stale:
        said = f"{wanted.stale}; the map is as {wanted.source} has it"
        typer.echo(f"derpctl: {said}", err=True)
    for finding in check(wanted.derp_map, "headscale"):
        typer.echo(f"derpctl: {finding}", err=True)
    text = render(wanted.derp_map, "headscale")
    old = push.held(path)
    if old.text == text:
        _say_same(path, reload)
        return
    for line in diff(old.derp_map, wanted.derp_map).lines():
        typer.echo(printable(line))
    lost = sorted(old.derp_map.regions.keys() - wanted.derp_map.regions.keys())
    if lost:
        others = ", ".join(map(str, lost))
        agree(f"write {path}", yes=yes, why=f"region {others} would be lost, and ")
    replace_whole(path, text)
    typer.echo(f"derpctl: {path} is written", err=True)
    reload.run_after(path)


def _say_same(path: Path, reload: "Reload") -> None:
    """Say that nothing is to be written; run what failed the last time."""
    if reload.is_due(path):
        said = "has the map already; the command failed the last time, and is run again"
        typer.echo(f"derpctl: {path} {said}", err=True)
        reload.run_after(path)
    else:
        said = "has the map already; it is not written, and nothing is run"
        typer.echo(f"derpctl: {path} {said}", err=True)
