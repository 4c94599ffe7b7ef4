"""Who derpctl is to Tailscale's API: a key, or a client of OAuth. Never shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit


KEY_VARIABLE = "TS_API_KEY"
SECRET_VARIABLE = "TS_OAUTH_CLIENT_SECRET"  # noqa: S105 - the name of it
"""Where secrets are, if no file has them. Never in arguments, which others see."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key, or a client and its secret."""

    secret: str = field(repr=False)
    """The API key, or the secret of the client."""
    client: str = ""
    """Id of the OAuth client; empty where the secret is a key."""


def find_credentials(
    *,
    key_file: Path | None,
    oauth_client: str | None,
    oauth_secret_file: Path | None,
    environ: Mapping[str, str],
) -> Credentials:
    """Take what options name; for what they do not, the environment.

    Raises:
        CtlError: There are none, two, or half of one.
    """
    if oauth_client is None:
        if oauth_secret_file is not None:
            value, reason = "--oauth-secret-file", "there is no client to it"
            raise CtlError(value, reason, "give --oauth-client", Exit.USAGE)
        return Credentials(_secret(key_file, environ, KEY_VARIABLE, _KEY_HINT))
    if key_file is not None:
        value, reason = "--key-file", "there is --oauth-client beside it"
        raise CtlError(value, reason, "give one of the two", Exit.USAGE)
    hint = f"give --oauth-secret-file, or set {SECRET_VARIABLE}"
    secret = _secret(oauth_secret_file, environ, SECRET_VARIABLE, hint)
    return Credentials(secret, oauth_client)


_KEY_HINT = f"give --key-file or --oauth-client, or set {KEY_VARIABLE}"


def _secret(
    path: Path | None, environ: Mapping[str, str], variable: str, hint: str
) -> str:
    if path is None:
        value, text = variable, environ.get(variable, "")
        if not text:
            raise CtlError(value, "there is none", hint, Exit.CONFIG)
    else:
        value = str(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason, check = "the secret cannot be read", "check path and mode"
            raise CtlError(value, reason, check, Exit.CONFIG) from exc
    secret = text.strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        reason, line = "not a secret of one line", "put it there, and nothing else"
        raise CtlError(value, reason, line, Exit.CONFIG)
    return secret
