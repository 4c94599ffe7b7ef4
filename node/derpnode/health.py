"""`derpd-health`: asks a node on this machine whether it relays. Fast to start.

For health checks of containers: a node that drains is well, since its clients still
have it, and whoever restarts what is not well would cut them off.
"""

import argparse
import http.client
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path


TIMEOUT = 5.0
"""Seconds that an answer may take."""

WELL, UNWELL = 0, 1
"""Exit codes, as Docker has them."""

_SOCKET, _FOLDER = "DERPD_ADMIN__SOCKET", "DERPD_STATE_DIR"
_USUAL = "/var/lib/derpd"
_OK = 200


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def socket_path(environ: Mapping[str, str]) -> Path:
    """Say where the admin socket is, as far as the environment tells."""
    if environ.get(_SOCKET):
        return Path(environ[_SOCKET])
    return Path(environ.get(_FOLDER) or _USUAL) / "admin.sock"


def ask(path: Path) -> tuple[bool, str]:
    """Ask a node; tell whether it is well, and why.

    Args:
        path: Its admin socket.
    """
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/readyz?draining=ok")
        answer = connection.getresponse()
        text = " ".join(answer.read().decode("utf-8", "replace").split())
    except (OSError, http.client.HTTPException) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else "") or str(exc)
        return False, f"{path}: {reason or 'no answer'}; does derpd run?"
    finally:
        connection.close()
    return answer.status == _OK, text or f"answered {answer.status}"


def main() -> None:
    """Run `derpd-health`."""
    parser = argparse.ArgumentParser(
        prog="derpd-health",
        description="Exit 0 if the node on this machine relays, else 1; a node that"
        " drains is well.",
    )
    parser.add_argument(
        "--socket",
        type=Path,
        default=socket_path(os.environ),
        help="admin socket of the node (default: %(default)s)",
    )
    is_well, text = ask(parser.parse_args().socket)
    sys.stdout.write(f"{text}\n")
    sys.exit(WELL if is_well else UNWELL)


if __name__ == "__main__":
    main()
