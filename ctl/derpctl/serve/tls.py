"""The certificate of the map server; replaced in place when its files are."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from derpctl.errors import CtlError
from derpctl.exits import Exit


LOOK = 2.0
"""Seconds between looks at the files."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    def load(self, context: ssl.SSLContext) -> None:
        """Have a context prove this; it is left as it was if it cannot.

        Raises:
            CtlError: The files cannot be used, or do not go together.
        """
        try:
            # A pair that does not fit would leave half of it behind.
            for one in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
                one.load_cert_chain(self.certificate, self.key, _no_password)
        except (ssl.SSLError, ValueError) as exc:
            reason = f"it and {self.key} are no pair in PEM, without a password"
            hint = "give a certificate, and its own key"
            value = str(self.certificate)
            raise CtlError(value, reason, hint, Exit.CONFIG) from exc
        except OSError as exc:
            value = f"{self.certificate}, {self.key}"
            reason = (exc.strerror or "unreadable").lower()
            raise CtlError(value, reason, "check path and mode", Exit.CONFIG) from exc

    def stamps(self) -> tuple[tuple[int, ...], ...]:
        """Say which files these are; links are followed."""
        return tuple(_stamp(path) for path in (self.certificate, self.key))


class ServerTls:
    """What handshakes prove.

    Args:
        pair: The files.
        say: Tells an operator that they were replaced, or cannot be used.

    Raises:
        CtlError: They cannot be used from the start.
    """

    def __init__(self, pair: Pair, say: Callable[[str], None]) -> None:
        self._pair = pair
        self._say = say
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._loaded = self._seen = pair.stamps()
        pair.load(self.context)

    async def follow(
        self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Use what the files become. Never ends."""
        while True:
            await sleep(LOOK)
            self.step()

    def step(self) -> None:
        """Look once; what is still being written is left for the next time."""
        seen, self._seen = self._seen, self._pair.stamps()
        if self._seen == self._loaded or self._seen != seen:
            return
        self._loaded = self._seen
        try:
            self._pair.load(self.context)
        except CtlError as exc:
            self._say(f"{exc}; the former one is used")
        else:
            self._say(f"{self._pair.certificate}: a new certificate is used")


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - of what a link leads to
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _no_password() -> str:
    """Keep OpenSSL from asking on the terminal."""
    raise ValueError
