"""The root of the command tree: global options, and how a command ends.

Commands import what they need when they run, so that `--help` costs nothing.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from derpctl.commands import (
    client,
    completion,
    demo,
    events,
    init,
    key,
    mesh,
    migrate,
    node,
    probe,
    region,
    status,
    tune,
    version,
)
from derpctl.commands import map as map_commands
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.lint import shortcut
from derpctl.settings import Output, Settings, default_config, wants_color


app = typer.Typer(
    name="derpctl",
    add_completion=False,  # a command of its own, see commands/completion.py
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug shows its plain traceback
    rich_markup_mode=None,  # rich would double the time to --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(  # noqa: PLR0913 - options of a command line
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="DERPCTL_CONFIG",
            help="Which nodes there are. Default: ~/.config/derpctl/config.yaml.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--context",
            envvar="DERPCTL_CONTEXT",
            metavar="NAME",
            help="Which of several regions: ~/.config/derpctl/NAME.yaml.",
        ),
    ] = None,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="How to print results.")
    ] = Output.TABLE,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; as NO_COLOR=1.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(min=0.001, max=3600, help="Seconds for one question to a node."),
    ] = 5.0,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more on stderr.")
    ] = 0,
) -> None:
    """Shows and steers a region of DERP relays, and renders its map.

    Results are on stdout, talk on stderr. Exit codes: 0 fine, 2 usage,
    3 configuration, 4 no answer, 5 not found, 6 refused, 7 invalid,
    8 different, 9 degraded, 10 critical, 11 deadline, 130 interrupted.
    """
    if config is not None and name is not None:
        message = "--config names a file already"
        raise typer.BadParameter(message, param_hint="--context")
    if verbose:
        _log(verbose)
    context.obj = {
        "settings": Settings(
            config=config or default_config(name),
            output=output,
            color=wants_color(no_color, os.environ.get("NO_COLOR")),
            timeout=timeout,
        )
    }


app.command()(demo.demo)
app.command(epilog=init.EPILOG)(init.init)
app.command()(status.status)
app.command(epilog=events.EPILOG)(events.events)
app.add_typer(region.app)
app.add_typer(node.app)
app.add_typer(client.app)
app.add_typer(mesh.app)
app.add_typer(map_commands.app)
app.add_typer(probe.app)
app.add_typer(key.app)
app.add_typer(migrate.app)
app.command(epilog=tune.EPILOG)(tune.tune)
app.command()(version.version)
app.command()(completion.completion)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run derpctl; ends the process by `SystemExit`, always.

    Args:
        arguments: The command line without its first word; None takes the
            process's own.
    """
    completion.prepare()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        name = shortcut.well(given)
        if name is not None:
            typer.echo(f"derpctl: {name}: nothing is wrong", err=True)
            sys.exit(Exit.OK)
        try:
            app(args=arguments, prog_name="derpctl")
        finally:
            _flush()
    except CtlError as exc:
        typer.echo(f"derpctl: {exc}", err=True)
        sys.exit(exc.exit)
    except OSError as exc:
        if exc.errno != errno.ENOSPC or exc.filename is not None:
            raise
        typer.echo(f"derpctl: standard output: {_FULL}", err=True)
        _give_up()


_FULL = "no space is left on its device; give it one that has room"


def _flush() -> None:
    """Write what is left to write, while somebody can still be told that it failed."""
    if sys.stdout is not None:
        with contextlib.suppress(BrokenPipeError, ValueError):
            sys.stdout.flush()


def _give_up() -> NoReturn:
    """End where stdout cannot be written, and does not try again at the end."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path of anybody's
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    sys.exit(Exit.CONFIG)


def _log(verbose: int) -> None:
    import logging  # noqa: PLC0415 - only who asks pays

    level = logging.INFO if verbose == 1 else logging.DEBUG
    logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s")
