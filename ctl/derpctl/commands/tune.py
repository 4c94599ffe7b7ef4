"""`derpctl tune`."""

from pathlib import Path
from typing import Annotated

import typer

from derpctl.settings import OutputOption, settings_of
from derpctl.tune.files import File


EPILOG = (
    "Examples: derpctl tune --check;"
    " derpctl tune --print sysctl > /etc/sysctl.d/60-derpmesh.conf;"
    " derpctl tune --print modules > /etc/modules-load.d/derpmesh.conf"
)


def tune(
    context: typer.Context,
    *,
    check: Annotated[
        bool,
        typer.Option("--check", help="Tell which settings of this kernel will not do."),
    ] = False,
    which: Annotated[
        File | None,
        typer.Option("--print", help="Which file to print. Usual: sysctl."),
    ] = None,
    proc: Annotated[
        Path,
        typer.Option(
            help="Where the kernel's files are; in a container, where those of the"
            " host are mounted."
        ),
    ] = Path("/proc"),
    output: OutputOption = None,
) -> None:
    """Print the settings of the kernel that we recommend, or check them.

    The files are those of the package, each setting with its reason. Nothing is
    changed. The check needs no right; what this kernel has not, or does not show, is a
    note. Exits 9 when a setting will not do, and names value, wish and remedy.
    """
    from derpctl import documents  # noqa: PLC0415 - see commands/__init__.py
    from derpctl.errors import CtlError  # noqa: PLC0415
    from derpctl.exits import Exit  # noqa: PLC0415
    from derpctl.tune.files import text_of  # noqa: PLC0415
    from derpctl.tune.judge import judge  # noqa: PLC0415
    from derpctl.tune.kernel import open_files, read_kernel  # noqa: PLC0415
    from derpctl.tune.recommended import listing  # noqa: PLC0415

    if check and which is not None:
        value, reason = f"--print {which.value}", "--check prints no file"
        raise CtlError(value, reason, "give one of both", Exit.USAGE)
    as_json = settings_of(context, output).as_json
    if not check:
        text = text_of(which or File.SYSCTL)
        typer.echo(documents.pretty(listing()) if as_json else text, nl=as_json)
        return
    judgement = judge(read_kernel(proc), open_files())
    if as_json:
        typer.echo(documents.pretty(judgement.document()))
    else:
        for line in judgement.lines():
            typer.echo(line)
    raise typer.Exit(Exit.DEGRADED if judgement.findings else Exit.OK)
