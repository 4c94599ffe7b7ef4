"""The stream of memberships: it never ends, and never forgets."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing

from derpmesh.membership.errors import RegistryError, RevisionCompacted
from derpmesh.membership.model import Membership
from derpmesh.membership.ports import Registry


logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


async def memberships(
    registry: Registry,
    *,
    backoff: Callable[[], Iterator[float]],
    sleep: Sleep,
    failed: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[Membership, None]:
    """Yield the membership now, and again whenever it changes. Never ends.

    Each value is complete, so a consumer that falls behind may skip to the latest.
    While the registry is unreachable nothing is yielded and the last value stays in
    force: losing the registry must not cost a single link.

    Args:
        registry: Where members are recorded.
        backoff: Starts a fresh run of retry delays, in seconds.
        sleep: Waits that long.
        failed: Told why the registry cannot be had, and the empty text once it can.
    """
    delays = backoff()
    known = (-1, -1)  # where the last value that was yielded is in the history
    said = ""  # the failure that was logged, so that it is logged once
    while True:
        try:
            async with aclosing(_follow(registry)) as values:
                async for value in values:
                    delays = backoff()  # it answered: forget past failures
                    if said:
                        said = ""
                        failed(said)
                    if value.place > known:  # a lagging replica repeats the past
                        known = value.place
                        yield value
        except RevisionCompacted as exc:
            logger.info("registry: %s", exc)
        except RegistryError as exc:
            if str(exc) != said:
                said = str(exc)
                logger.warning("registry: %s; the last good one stays in force", exc)
                failed(said)
            await sleep(next(delays))


async def _follow(registry: Registry) -> AsyncGenerator[Membership, None]:
    """Read once, then apply changes, until the registry fails."""
    value = await registry.read()
    yield value
    async with aclosing(registry.changes(after=value.revision)) as changes:
        async for change in changes:
            value = change.apply(value)
            yield value
