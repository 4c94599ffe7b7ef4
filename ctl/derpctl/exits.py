"""Exit codes: numbers that scripts rely on, so no number ever changes its meaning."""

from enum import IntEnum


class Exit(IntEnum):
    """Why derpctl ended."""

    OK = 0
    """Done; healthy; no difference."""
    ERROR = 1
    """A bug, or something that nobody thought of."""
    USAGE = 2
    """The command line cannot be understood."""
    CONFIG = 3
    """Configuration or credentials are missing or wrong."""
    UNREACHABLE = 4
    """No answer from where the answer is."""
    NOT_FOUND = 5
    """There is no such thing."""
    REFUSED = 6
    """A safety guard said no, or somebody else was faster."""
    INVALID = 7
    """What was given breaks a rule."""
    DIFFERENT = 8
    """There are differences."""
    DEGRADED = 9
    """It works, but not all of it."""
    CRITICAL = 10
    """It does not work."""
    DEADLINE = 11
    """What was waited for did not come in time."""
    INTERRUPTED = 130
    """Somebody pressed Ctrl-C."""
