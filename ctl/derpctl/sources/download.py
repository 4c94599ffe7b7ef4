"""Downloads the text of a map, and says in a word why that cannot be."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import aiohttp

from derpctl.asking import asking
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.texts import as_text


_MOST = 1 << 20  # bytes; clients read no more of a map
_OK = 200
_MISSING = (404, 410)
_SOME_URL = "the URL"
"""One that cannot be read may have a password in it, and there is no telling where."""


def parts_of(url: str) -> SplitResult:
    """Take a URL apart.

    Raises:
        CtlError: It is none.
    """
    hint = "give http://HOST[:PORT]/PATH, or https://"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise CtlError(_SOME_URL, str(exc).lower(), hint, Exit.USAGE) from exc
    if not host:
        raise CtlError(_SOME_URL, "it has no host", hint, Exit.USAGE)
    return parts


def shown_url(url: str) -> str:
    """Give a URL as others may see it: without who asks.

    Raises:
        CtlError: It is none.
    """
    parts = parts_of(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@dataclass(frozen=True, slots=True)
class Download:
    """One text to be had by HTTP."""

    url: str
    shown: str
    """What to call it in errors."""
    timeout: float
    """Seconds that it may take."""
    hint: str = "give a URL that answers with the map itself"
    """What to do where something else answers."""
    up: str = "is the server running?"
    """What to do where nobody listens."""
    socket: Path | None = None
    """Unix socket to ask at, in place of the host."""
    headers: dict[str, str] = field(default_factory=dict)

    async def text(self) -> str:
        """Get it.

        Raises:
            CtlError: It is not to be had.
        """
        connector = None
        if self.socket is not None:
            connector = aiohttp.UnixConnector(str(self.socket))
        async with (
            asking(self.shown, timeout=self.timeout, up=self.up),
            aiohttp.ClientSession(connector=connector) as session,
            session.get(self.url, headers=self.headers) as answer,
        ):
            if answer.status != _OK:
                gone = answer.status in _MISSING
                ends = Exit.NOT_FOUND if gone else Exit.UNREACHABLE
                reason = f"answered {answer.status}"
                raise CtlError(self.shown, reason, self.hint, ends)
            body = bytearray()
            while not answer.content.at_eof() and len(body) <= _MOST:
                body += await answer.content.read(_MOST + 1 - len(body))
        return as_text(self.shown, bytes(body))
