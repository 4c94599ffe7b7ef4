"""The body of an operator's command: small, soon there, and never repeated."""

import asyncio
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from derpnode.errors import NodeError


MAX_BODY = 4096
"""Bytes of a body at most."""

PATIENCE = 5.0
"""Seconds that all of it may take to come."""


@dataclass(eq=False)
class BadBody(NodeError):
    """A body is not taken. What was in it is not said: it may be secret."""

    status: int
    """Of the answer."""

    reason: str

    def __str__(self) -> str:
        return self.reason


async def read_body(request: web.BaseRequest) -> bytes:
    """Read the body of a request.

    Raises:
        BadBody: It is too long, too long in coming, or broken off.
    """
    body = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while part := await request.content.read(MAX_BODY + 1 - len(body)):
                body += part
    except TimeoutError:
        raise BadBody(408, f"no whole body in {PATIENCE:g} s; send it again") from None
    except (OSError, HttpProcessingError):
        raise BadBody(400, "the body is broken off; send it again") from None
    if len(body) > MAX_BODY:
        raise BadBody(413, f"the body is too long; {MAX_BODY} bytes is the limit")
    return body
