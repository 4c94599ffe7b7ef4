"""Reads what a kernel is set to."""

import resource
from dataclasses import dataclass
from pathlib import Path

from derpctl.tune.recommended import SETTINGS


AVAILABLE = "net.ipv4.tcp_available_congestion_control"
"""Which ways of congestion control are there now."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Why a setting was not read."""

    reason: str
    is_absent: bool
    """Whether this kernel has no such setting, as a module is not loaded."""


Reading = dict[str, str | Missed]
"""What each setting is, by its name."""


def read_kernel(proc: Path) -> Reading:
    """Read all settings that we know of; needs no right.

    Args:
        proc: Where the kernel's files are: ``/proc``.
    """
    names = [*(setting.name for setting in SETTINGS), AVAILABLE]
    return {name: _read(proc / "sys" / name.replace(".", "/")) for name in names}


def _read(path: Path) -> str | Missed:
    try:
        return " ".join(path.read_text("ascii").split())
    except FileNotFoundError:
        return Missed("this kernel has no such setting now", is_absent=True)
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "not text"
        return Missed(f"{path} cannot be read: {reason.lower()}", is_absent=False)


def open_files() -> int:
    """Tell how many files a process that is started here may open at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
