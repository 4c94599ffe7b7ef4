"""Who we are to etcd: a user and a password, and the token they are given for."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from derpmesh.etcd.errors import FileUnusable
from derpnode.secretfile import others_may_read, shown_mode


logger = logging.getLogger(__name__)

_MAX_PASSWORD = 4096


@dataclass(frozen=True)
class Credentials:
    """A user of etcd."""

    user: str
    password_file: Path
    """Read at each login, so that a password may change while we run."""

    def password(self) -> str:
        """Read the password.

        Raises:
            FileUnusable: The file cannot be read, is readable by more than its
                owner, or holds no line of text.
        """
        where = str(self.password_file)
        try:
            with self.password_file.open("rb") as file:
                status = os.fstat(file.fileno())
                content = file.read(_MAX_PASSWORD + 1)
        except OSError as exc:
            reason, hint = (
                f"cannot be read: {exc.strerror}",
                "let the user that runs derpd read it",
            )
            raise FileUnusable(where, reason, hint) from exc
        if others_may_read(status):
            reason = f"mode {shown_mode(status)} lets others read this secret"
            raise FileUnusable(where, reason, f"run: chmod 600 {where}")
        try:
            password = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            password = ""
        if not password or "\n" in password or len(content) > _MAX_PASSWORD:
            reason = f"not one line of text of at most {_MAX_PASSWORD} bytes"
            raise FileUnusable(where, reason, "write the password alone into it")
        return password


class Login:
    """Holds the token; whoever finds it refused has a new one made, once for all.

    Args:
        authenticate: Gives a token for a user and a password.
        credentials: Who we are; None: nobody, and every token is empty.
    """

    def __init__(
        self,
        authenticate: Callable[[str, str], Awaitable[str]],
        credentials: Credentials | None,
    ) -> None:
        self._authenticate = authenticate
        self._credentials = credentials
        self._token = ""
        self._turn = asyncio.Lock()

    @property
    def possible(self) -> bool:
        """Whether a refused token can be followed by another."""
        return self._credentials is not None

    async def token(self, refused: str | None = None) -> str:
        """Give a token; log in if there is none, or none but the refused one.

        Raises:
            FileUnusable: The password cannot be read.
            EtcdError: The login failed.
        """
        credentials = self._credentials
        if credentials is None:
            return ""
        async with self._turn:
            if self._token in ("", refused):
                self._token = ""
                password = credentials.password()
                self._token = await self._authenticate(credentials.user, password)
                logger.info("etcd: logged in as %s", credentials.user)
            return self._token
