"""Runs what an operator wants to be run when a file was written."""

import contextlib
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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

    def is_due(self, path: Path) -> bool:
        """Whether it is still to be run for a file, as it failed the last time."""
        return bool(self.words) and _mark(path).exists()

    def run_after(self, path: Path) -> None:
        """Run it for a file that was written; a failure is remembered beside that.

        Raises:
            CtlError: It failed.
        """
        if not self.words:
            return
        mark = _mark(path)
        with contextlib.suppress(OSError):
            mark.touch()
        self.run()
        with contextlib.suppress(OSError):
            mark.unlink()

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


def _mark(path: Path) -> Path:
    """Where it is remembered that a command is still to be run for a file."""
    return path.with_name(f".{path.name}.reload")
