"""One round of readiness: a login to oneself, as far as the server's first frame."""

import asyncio
import ssl

from derpnode.plane.contract import Endpoint
from derpnode.wire.handshake import server_key_frame
from derpnode.wire.keys import NodeKey


TIMEOUT = 1.5
"""Seconds that a round may take; a node slower than that is of no use. With the time
between rounds it is below the 3 s in which STUN must fall silent."""

_DERP = (
    b"GET /derp HTTP/1.1\r\nHost: self\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n"
)
_PROBE = b"GET /derp/probe HTTP/1.1\r\nHost: self\r\nConnection: close\r\n\r\n"
_PROBE_OK = b"HTTP/1.1 200 "


async def check_itself(
    address: Endpoint, server_key: NodeKey | None, *, server_name: str | None
) -> str | None:
    """Ask the node at its internal address; return None, or what is wrong.

    Args:
        address: The internal listener.
        server_key: What the first frame must say; None where DERP is off.
        server_name: The name to ask for in TLS; None where there is no TLS. The
            certificate is our own, and not judged here.
    """
    expected = _PROBE_OK if server_key is None else server_key_frame(server_key)
    request = _PROBE if server_key is None else _DERP
    try:
        async with asyncio.timeout(TIMEOUT):
            got = await _ask(address, request, len(expected), server_name)
    except TimeoutError:
        return f"no answer from itself in {TIMEOUT:g} s"
    except (OSError, EOFError) as exc:
        return f"cannot reach itself: {exc}"
    return None if got == expected else "the first bytes are not those of a relay"


async def _ask(
    address: Endpoint, request: bytes, size: int, server_name: str | None
) -> bytes:
    """Send a request and return the first bytes of what comes."""
    context = _unverified() if server_name is not None else None
    reader, writer = await asyncio.open_connection(
        *address, ssl=context, server_hostname=server_name
    )
    try:
        writer.write(request)
        return await reader.readexactly(size)
    finally:
        writer.transport.abort()


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
