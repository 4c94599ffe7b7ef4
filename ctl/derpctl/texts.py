"""Reads the text of a map from where it is at hand: a file, or standard input.

Apart from `derpctl.sources`, as who lints a file needs no HTTP for it.
"""

import re
import sys
from pathlib import Path
from typing import BinaryIO

from derpctl.errors import CtlError
from derpctl.exits import Exit


CLUSTER = "cluster"
REVISION = "rev:"
STANDARD_INPUT = "-"

MOST = 16 << 20
"""Bytes of a file that are read; a map has far fewer."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
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
    if not file:
        value, reason = "FILE", "it is empty"
        raise CtlError(value, reason, "give a path, a URL or -", Exit.USAGE)
    if _SCHEME.match(file):
        hint = "give http://, https://, or the path of a file"
        raise CtlError(file, "no URL that is known here", hint, Exit.USAGE)
    try:
        if file == STANDARD_INPUT:
            return as_text(file, at_most(file, sys.stdin.buffer))
        with Path(file).open("rb") as opened:
            return as_text(file, at_most(file, opened))
    except (OSError, ValueError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else "a path has no zero bytes"
        reason, hint = (said or "unreadable").lower(), "check path and mode"
        raise CtlError(file, reason, hint, Exit.CONFIG) from exc


def at_most(name: str, file: BinaryIO) -> bytes:
    """Read a file, if it has an end in sight.

    Raises:
        CtlError: It has not.
    """
    data = file.read(MOST + 1)
    if len(data) > MOST:
        reason, hint = f"more than {MOST >> 20} MiB", "is it the right file?"
        raise CtlError(name, reason, hint, Exit.INVALID)
    return data


def as_text(name: str, data: bytes) -> str:
    """Take bytes for text, without a byte order mark.

    Raises:
        CtlError: They are none.
    """
    return whole_text(name, data).removeprefix("\ufeff")


def whole_text(name: str, data: bytes) -> str:
    """Take bytes for text; a byte order mark stays in it.

    Raises:
        CtlError: They are none.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        reason, hint = f"not text: byte {exc.start}", "give a text file, in UTF-8"
        raise CtlError(name, reason, hint, Exit.INVALID) from exc
