"""Shows what a command is about to change, and asks whether that is meant."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from derpctl.errors import CtlError
from derpctl.exits import Exit


if TYPE_CHECKING:
    from derpctl.impact import Impact


_AGREED = ("y", "yes")


@dataclass(frozen=True, slots=True)
class Consent:
    """What the operator said of questions beforehand."""

    yes: bool = False
    """Ask none."""
    max_impact: int | None = None
    """Clients that may be made to reconnect; None: any number."""

    def ask(self, what: str, impact: "Impact") -> None:
        """Show what changes; ask, if that disturbs anybody.

        Args:
            what: What is to be done, `node set 900a`.
            impact: Whom it disturbs.

        Raises:
            CtlError: It is not meant, or disturbs too many, or nobody can be asked.
        """
        for line in impact.lines():
            typer.echo(f"derpctl: {line}", err=True)
        clients = impact.reconnecting
        most = self.max_impact
        shown = (
            "an unknown number of clients" if clients is None else f"{clients} clients"
        )
        if most is not None and (clients is None or clients > most):
            reason = f"{shown} would reconnect, limit is {most}"
            hint = "give a greater --max-impact, or wait for a quiet hour"
            raise CtlError(what, reason, hint, Exit.REFUSED)
        if clients == 0 or self.yes or most is not None:
            return
        agree(what, yes=False, why=f"{shown} would reconnect, and ")


def agree(what: str, *, yes: bool, why: str = "") -> None:
    """Go on if somebody agrees.

    Args:
        what: What is to be done, `write the policy`.
        yes: Whether they did so by an option.
        why: What there is to agree to, if nobody can be asked.

    Raises:
        CtlError: They do not, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        reason, hint = f"{why}there is no terminal to ask at", "give --yes"
        raise CtlError(what, reason, hint, Exit.REFUSED)
    # Click's own question leaves a blank on stdout.
    typer.echo(f"{what}? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in _AGREED:
        raise CtlError(what, "you did not agree", "nothing was written", Exit.REFUSED)
