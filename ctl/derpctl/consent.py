"""Shows what a command is about to change, and asks whether that is meant."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from derpctl.errors import CtlError
from derpctl.exits import Exit


if TYPE_CHECKING:
    from derpctl.impact import Impact


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
        if not sys.stdin.isatty():
            reason = f"{shown} would reconnect, and nobody can be asked"
            hint = "give --yes, or --max-impact with their greatest number"
            raise CtlError(what, reason, hint, Exit.REFUSED)
        if not typer.confirm("derpctl: go on?", err=True):
            reason, hint = "not done", "nothing was changed"
            raise CtlError(what, reason, hint, Exit.REFUSED)
