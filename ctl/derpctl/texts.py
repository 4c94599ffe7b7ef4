"""Reads the text of a map from where it is at hand: a file, or standard input.

Apart from `derpctl.sources`, as who lints a file needs no HTTP for it.
"""

import sys
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit


CLUSTER = "cluster"
REVISION = "rev:"
STANDARD_INPUT = "-"

_YAML = frozenset({".yaml", ".yml"})
_URLS = ("http://", "https://")


def is_at_hand(name: str) -> bool:
    """Tell whether a source is a file or standard input. `./cluster` is a file."""
    asked = (CLUSTER, "client")
    kinds = (REVISION, "client:", "headscale:", "tailscale:")
    return name not in asked and not name.startswith(kinds) and not is_url(name)


def is_url(name: str) -> bool:
    """Tell whether a source is to be downloaded."""
    return name.lower().startswith(_URLS)


def is_yaml(path: str) -> bool:
    """Tell by its name whether a file is YAML, though it may look like JSON."""
    return Path(path).suffix in _YAML


def read_text(file: str) -> str:
    """Read a file, or standard input.

    Raises:
        CtlError: There is none, or it is not text.
    """
    try:
        if file == STANDARD_INPUT:
            return as_text(file, sys.stdin.buffer.read())
        return as_text(file, Path(file).read_bytes())
    except (OSError, ValueError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else "a path has no zero bytes"
        reason, hint = (said or "unreadable").lower(), "check path and mode"
        raise CtlError(file, reason, hint, Exit.CONFIG) from exc


def as_text(name: str, data: bytes) -> str:
    """Take bytes for text.

    Raises:
        CtlError: They are none.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        reason, hint = f"not text: byte {exc.start}", "give a text file, in UTF-8"
        raise CtlError(name, reason, hint, Exit.INVALID) from exc
