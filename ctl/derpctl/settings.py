"""What every command is told: the global options, as one value."""

import sys
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How to print a result."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options."""

    config: Path
    """Where derpctl's own configuration is; it may not exist."""
    output: Output = Output.TABLE
    color: bool = False
    """Whether tables may have colours."""
    timeout: float = 5.0
    """Seconds that one question to one node may take."""

    @property
    def as_json(self) -> bool:
        """Whether somebody's program reads the result."""
        return self.output is Output.JSON


OutputOption = Annotated[
    Output | None, typer.Option("-o", "--output", help="How to print the result.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0.001, max=3600, help="Seconds for one question."),
]
YesOption = Annotated[bool, typer.Option("-y", "--yes", help="Ask no question.")]
MaxImpactOption = Annotated[
    int | None,
    typer.Option(
        "--max-impact",
        min=0,
        metavar="CLIENTS",
        help="Do nothing if more clients would reconnect; exits 6.",
    ),
]


def settings_of(
    context: typer.Context, output: Output | None = None, timeout: float | None = None
) -> Settings:
    """Give the settings, with what was said after the command's name."""
    found = context.ensure_object(dict).get("settings")
    if not isinstance(found, Settings):
        message = "the root callback has not run"
        raise TypeError(message)
    return replace(
        found, output=output or found.output, timeout=timeout or found.timeout
    )


def default_config(context: str | None = None) -> Path:
    """Say where the configuration is when nobody says it.

    Args:
        context: Name of one of several; None: the usual one.

    Raises:
        typer.BadParameter: It is no name.
    """
    name = "config" if context is None else context
    if not name or "/" in name or name.startswith("."):
        message = f"{name!r:.40} is no name; a file is given by --config"
        raise typer.BadParameter(message, param_hint="--context")
    return Path(f"~/.config/derpctl/{name}.yaml").expanduser()


def wants_color(no_color: bool, environ_no_color: str | None) -> bool:
    """Tell whether colours are welcome. Source: https://no-color.org."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()  # it may be closed
    return not no_color and not environ_no_color and is_terminal
