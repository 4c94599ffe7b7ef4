"""What sources that speak HTTP have in common."""

import abc

import aiohttp

from derpnode.server.admission.verdict import Source, Verdict


_MAX_REASON = 160  # characters


class HttpSource(Source):
    """Keeps one session, from the first question until it is closed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._open: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; made when it is first needed, in a running loop."""
        if self._open is None:
            self._open = self.connect()
        return self._open

    @abc.abstractmethod
    def connect(self) -> aiohttp.ClientSession:
        """Make a session. It needs no time limit: `Guard` sets one."""

    def unreachable(self, exc: Exception) -> Verdict:
        """Say UNKNOWN with an error's words, which may quote the other side."""
        words = " ".join(str(exc).split()) or type(exc).__name__
        shown = "".join(char if char.isprintable() else "?" for char in words)
        return self.unknown(f"cannot be asked: {shown[:_MAX_REASON]}")

    async def close(self) -> None:
        """Close the connections."""
        if self._open is not None:
            await self._open.close()
        self._open = None


async def read_capped(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body, but no more of it than that many bytes."""
    body = bytearray()
    while len(body) < limit:
        chunk = await response.content.read(limit - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)
