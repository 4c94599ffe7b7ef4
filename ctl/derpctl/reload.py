"""Runs what an operator wants to be run when a file was written."""

import shlex
import shutil
import subprocess
from dataclasses import dataclass

from derpctl.errors import CtlError
from derpctl.exits import Exit


_STDERR = 2


@dataclass(frozen=True, slots=True)
class Reload:
    """A command, or none."""

    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | None, option: str = "--reload-cmd") -> "Reload":
        """Read a command line, before anything is written.

        Args:
            text: The command line; None: there is none.
            option: What gave it.

        Raises:
            CtlError: There is no such command.
        """
        if text is None:
            return cls()
        try:
            words = tuple(shlex.split(text))
        except ValueError as exc:
            hint = "close the quote"
            raise CtlError(option, str(exc).lower(), hint, Exit.USAGE) from exc
        if not words or shutil.which(words[0]) is None:
            reason = f"no such command: {words[0] if words else text!r}"
            raise CtlError(option, reason, "give its path", Exit.USAGE)
        return cls(words)

    def run(self) -> None:
        """Run it, if there is one; what it prints is talk, on stderr.

        Raises:
            CtlError: It failed. What it should read is written all the same.
        """
        if not self.words:
            return
        hint = "the file is written; run the command by hand"
        try:
            # The operator's own words, and no shell between.
            ended = subprocess.run(self.words, stdout=_STDERR, check=False)  # noqa: S603
        except OSError as exc:
            reason = (exc.strerror or "cannot be run").lower()
            raise CtlError(self.words[0], reason, hint, Exit.DEGRADED) from exc
        if ended.returncode:
            reason = f"ended with {ended.returncode}"
            raise CtlError(self.words[0], reason, hint, Exit.DEGRADED)
