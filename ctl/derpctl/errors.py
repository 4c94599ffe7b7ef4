"""What derpctl tells an operator who cannot have what they asked for."""

from dataclasses import dataclass

from derpctl.exits import Exit


@dataclass(eq=False)
class CtlError(Exception):
    """A command ends here: what was given, why it will not do, what would."""

    value: str
    """What was given: `--nodes = 3`, a path, a URL. Never a secret."""
    reason: str
    """Why it will not do, with the limit where there is one."""
    hint: str
    """What to do instead."""
    exit: Exit
    """How derpctl ends."""

    def __str__(self) -> str:
        return f"{self.value}: {self.reason}; {self.hint}"
