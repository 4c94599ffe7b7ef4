"""Serves the map over HTTP until it is told to stop."""

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.serve.answers import answer
from derpnode.config import Address
from derpnode.document import Document


logger = logging.getLogger(__name__)

_IDLE = 30.0  # seconds that a connection may wait for its next request
_LAST_WORDS = 2.0  # seconds that answers under way may take at the end


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell a mistake of our own from one of strangers, who could fill the disk."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


logger.addFilter(_is_ours)


@asynccontextmanager
async def listening(
    listen: Address,
    paths: Collection[str],
    document: Callable[[], Document | None],
    context: ssl.SSLContext | None,
) -> AsyncGenerator[str]:
    """Serve until the block ends; give the URL of the map.

    Args:
        listen: Where; port 0 is any.
        paths: Where the map is on it.
        document: Gives what there is of it.
        context: What handshakes prove; None serves plain HTTP.

    Raises:
        CtlError: The address cannot be listened on.
    """

    async def handle(request: web.BaseRequest) -> web.Response:
        return answer(request, paths, document)

    server = web.Server(handle, keepalive_timeout=_IDLE, access_log=None, logger=logger)
    runner = web.ServerRunner(server, shutdown_timeout=_LAST_WORDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port, ssl_context=context)
        await site.start()
        bound = Address(listen.host, runner.addresses[0][1])
        scheme = "http" if context is None else "https"
        yield f"{scheme}://{bound}{next(iter(paths))}"
    except OSError as exc:
        reason = f"cannot listen: {(exc.strerror or 'no reason given').lower()}"
        value, hint = f"--listen = {listen}", "free the port, or choose another"
        raise CtlError(value, reason, hint, Exit.CONFIG) from exc
    finally:
        await runner.cleanup()


async def run_until(
    stop: asyncio.Event, jobs: Collection[Coroutine[None, None, None]]
) -> None:
    """Run jobs that never end, until the event is set."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(job) for job in jobs]
        await stop.wait()
        for task in running:
            task.cancel()


@contextlib.contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """Have SIGTERM and SIGINT set an event, until the block ends."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
