"""What operators are told when a server on the network gives no answer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpnode.client.errors import reason_of


@asynccontextmanager
async def asking(
    name: str,
    *,
    timeout: float,  # noqa: ASYNC109 - part of the error
    up: str = "is the server running?",
    broken: str = "is it a web server?",
) -> AsyncGenerator[None]:
    """Ask a server in the block, for so many seconds.

    Args:
        name: What to call it.
        timeout: Seconds that it may take.
        up: What to do where nobody listens.
        broken: What to do where no answer can be read.

    Raises:
        CtlError: It gave no answer; says why.
    """
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError as exc:
        reason = f"no answer in {timeout:g} s"
        wait = "try again, or give a longer --timeout"
        raise CtlError(name, reason, wait, Exit.UNREACHABLE) from exc
    except aiohttp.ClientConnectorCertificateError as exc:
        reason = reason_of(exc.certificate_error)
        trust = "give a URL whose certificate this machine trusts"
        raise CtlError(name, reason, trust, Exit.UNREACHABLE) from exc
    except aiohttp.ClientConnectorError as exc:
        reason = reason_of(exc.os_error)
        raise CtlError(name, reason, up, Exit.UNREACHABLE) from exc
    except (aiohttp.ClientError, OSError) as exc:
        reason = "no HTTP answer that can be read"
        raise CtlError(name, reason, broken, Exit.UNREACHABLE) from exc
