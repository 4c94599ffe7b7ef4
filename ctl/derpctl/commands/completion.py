"""`derpctl completion`."""

import importlib
import os
from enum import StrEnum
from types import ModuleType
from typing import Annotated

import typer


_VARIABLE = "_DERPCTL_COMPLETE"


class Shell(StrEnum):
    """Shells that can complete our commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="Which shell will read it.")],
) -> None:
    """Print a script that makes a shell complete derpctl's words.

    For bash, put `eval "$(derpctl completion bash)"` into ~/.bashrc.
    """
    script = _typer().get_completion_script(
        prog_name="derpctl", complete_var=_VARIABLE, shell=shell
    )
    typer.echo(script)


def prepare() -> None:
    """Be ready to answer a shell that asks for words."""
    if _VARIABLE in os.environ:
        _typer().completion_init()


def _typer() -> ModuleType:
    # By name: the module is public, though it does not say what it exports.
    return importlib.import_module("typer.completion")
