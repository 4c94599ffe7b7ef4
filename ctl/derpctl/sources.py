"""Gets a map from wherever an operator has one: a file, a URL, the region itself."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import aiohttp

from derpctl.cluster import published
from derpctl.config import load_ctl_config
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.export import check
from derpctl.map.errors import BadMap
from derpctl.map.model import DerpMap
from derpctl.map.source import read_any
from derpctl.texts import CLUSTER, as_text, is_url, is_yaml, read_text
from derpnode.client.errors import reason_of


_MOST = 1 << 20  # bytes; clients read no more of a map
_OK = 200
_MISSING = (404, 410)
_SOME_URL = "the URL"
"""One that cannot be read may have a password in it, and there is no telling where."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place to get a map from."""

    name: str
    """A path, `-`, an http:// or https:// URL, or `cluster`."""

    @property
    def shown(self) -> str:
        """Its name as others may see it: a URL without who asks."""
        if not self._is_url:
            return self.name
        parts = self._parts()
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host).geturl()

    async def get(self, config: Path, *, timeout: float) -> DerpMap:  # noqa: ASYNC109 - part of the error
        """Get the map.

        Args:
            config: Where derpctl's configuration is; only `cluster` reads it.
            timeout: Seconds that a node, or a URL, may take.

        Raises:
            CtlError: There is none, or it is no map.
        """
        if self.is_cluster:
            return await _of_cluster(config, timeout)
        text, named = await self.read(timeout=timeout)
        try:
            return read_any(text, is_yaml=named)
        except BadMap as exc:
            hint = "give DERPMap JSON, a policy, or headscale's YAML"
            raise CtlError(self.shown, str(exc), hint, Exit.INVALID) from exc

    async def read(self, *, timeout: float) -> tuple[str, bool]:  # noqa: ASYNC109 - part of the error
        """Get the text; also say whether its name says that it is YAML.

        Not for `cluster`, which has none.

        Args:
            timeout: Seconds that a URL may take.

        Raises:
            CtlError: There is none.
        """
        if self._is_url:
            text = await self._download(timeout)
            return text, is_yaml(self._parts().path)
        return read_text(self.name), is_yaml(self.name)

    @property
    def is_cluster(self) -> bool:
        """Whether the region itself is asked."""
        return self.name == CLUSTER

    @property
    def _is_url(self) -> bool:
        return is_url(self.name)

    def _parts(self) -> SplitResult:
        """Take the URL apart.

        Raises:
            CtlError: It is none.
        """
        hint = "give http://HOST[:PORT]/PATH, or https://"
        try:
            parts = urlsplit(self.name)
            host, _ = parts.hostname, parts.port
        except ValueError as exc:
            raise CtlError(_SOME_URL, str(exc).lower(), hint, Exit.USAGE) from exc
        if not host:
            raise CtlError(_SOME_URL, "it has no host", hint, Exit.USAGE)
        return parts

    async def _download(self, timeout: float) -> str:  # noqa: ASYNC109 - part of the error
        hint = "give a URL that answers with the map itself"
        try:
            async with (
                asyncio.timeout(timeout),
                aiohttp.ClientSession() as session,
                session.get(self.name) as answer,
            ):
                if answer.status != _OK:
                    gone = answer.status in _MISSING
                    ends = Exit.NOT_FOUND if gone else Exit.UNREACHABLE
                    raise CtlError(self.shown, f"answered {answer.status}", hint, ends)
                body = bytearray()
                while not answer.content.at_eof() and len(body) <= _MOST:
                    body += await answer.content.read(_MOST + 1 - len(body))
        except TimeoutError as exc:
            reason, wait = (
                f"no answer in {timeout:g} s",
                "try again, or give a longer --timeout",
            )
            raise CtlError(self.shown, reason, wait, Exit.UNREACHABLE) from exc
        except aiohttp.ClientConnectorCertificateError as exc:
            reason = reason_of(exc.certificate_error)
            trust = "give a URL whose certificate this machine trusts"
            raise CtlError(self.shown, reason, trust, Exit.UNREACHABLE) from exc
        except aiohttp.ClientConnectorError as exc:
            reason, up = reason_of(exc.os_error), "is the server running?"
            raise CtlError(self.shown, reason, up, Exit.UNREACHABLE) from exc
        except (aiohttp.ClientError, OSError) as exc:
            reason, broken = "no HTTP answer that can be read", "is it a web server?"
            raise CtlError(self.shown, reason, broken, Exit.UNREACHABLE) from exc
        return as_text(self.shown, bytes(body))


async def _of_cluster(config: Path, timeout: float) -> DerpMap:  # noqa: ASYNC109 - part of the error
    """Get what `map export` would print; it refuses what that refuses."""
    found = await published(load_ctl_config(config), timeout=timeout)
    check(found.derp_map)
    return found.derp_map
