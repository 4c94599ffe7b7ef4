"""Asks before something happens that clients feel."""

import sys

import typer

from derpctl.errors import CtlError
from derpctl.exits import Exit


_AGREED = ("y", "yes")


def consent(question: str, *, yes: bool) -> None:
    """Go on if somebody agrees.

    Args:
        question: `write the policy`.
        yes: Whether they did so by an option.

    Raises:
        CtlError: They do not, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        reason = "there is no terminal to ask at"
        raise CtlError(question, reason, "give --yes", Exit.REFUSED)
    # Click's own question leaves a blank on stdout.
    typer.echo(f"{question}? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in _AGREED:
        reason = "you did not agree"
        raise CtlError(question, reason, "nothing was written", Exit.REFUSED)
