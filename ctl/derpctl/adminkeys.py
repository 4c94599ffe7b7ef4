"""What admin listeners off loopback need: a token, and a certificate to trust."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from derpctl.authority import Authority
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.keys import write_new
from derpnode.config import Host


LIFETIME = timedelta(days=3650)
"""Nobody but operators and their tools sees the certificate, and it is not renewed."""

TOKEN, CA, CERTIFICATE, KEY = "token", "ca.crt", "admin.crt", "admin.key"
"""Names of the files."""

_HOST = TypeAdapter(Host)
_TOKEN_SIZE = 32  # bytes
_PRIVATE, _PUBLIC = 0o600, 0o644


def make_admin_keys(folder: Path, hosts: Sequence[str]) -> Mapping[str, Path]:
    """Make the files, all of them or none.

    The authority signs this once: nobody has its key afterwards.

    Args:
        folder: Where to; made if it is not there, for its owner alone.
        hosts: DNS names, `*.` too, and addresses that nodes are asked at.

    Returns:
        Where each file is, by its name.

    Raises:
        CtlError: One is there already, or cannot be written; or a host is none.
    """
    for host in hosts:
        _must_be_a_host(host)
    paths = {name: folder / name for name in (TOKEN, CA, CERTIFICATE, KEY)}
    for path in paths.values():
        if path.exists() or path.is_symlink():
            reason = "it is there, and nodes may use it"
            hint = "give another directory, or move all four files away"
            raise CtlError(str(path), reason, hint, Exit.REFUSED)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        reason = f"cannot be made: {(exc.strerror or 'no reason given').lower()}"
        hint = "give a directory that can be written"
        raise CtlError(str(folder), reason, hint, Exit.CONFIG) from exc
    authority = Authority("derpmesh admin CA", LIFETIME)
    pair = authority.issue(list(hosts))
    token = f"{secrets.token_hex(_TOKEN_SIZE)}\n".encode()
    for name, data, mode in (
        (TOKEN, token, _PRIVATE),
        (CA, authority.pem, _PUBLIC),
        (KEY, pair.key, _PRIVATE),
        (CERTIFICATE, pair.certificate, _PUBLIC),
    ):
        write_new(paths[name], data, mode)
    return paths


def _must_be_a_host(text: str) -> None:
    try:
        _HOST.validate_python(text.removeprefix("*."))
    except ValidationError as exc:
        reason = exc.errors()[0]["msg"].removeprefix("Value error, ")
        hint = "give a DNS name, *.NAME or an IP address"
        value = f"--host {text}"
        raise CtlError(value, reason, hint, Exit.USAGE) from None
