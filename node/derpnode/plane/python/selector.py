"""The waiting of asyncio's loop, shared with a plane.

Between two packets the plane need not go back to asyncio, which costs a third of what
a lone packet costs at all; and one epoll waits for both, where one inside the other
would be woken twice. Timers are kept as asyncio asked for them.
"""

import asyncio
import os
import select
import selectors
from collections.abc import Callable
from time import monotonic
from typing import Protocol
from weakref import WeakKeyDictionary


Ready = list[tuple[int, int]]
"""Descriptors that are ready, with epoll's masks."""

MOST = 256
"""Descriptors looked at in one turn."""

_READ = ~select.EPOLLOUT
_WRITE = ~select.EPOLLIN


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


# What `selectors` calls a key has an Any in it, wherever it is named.
_FileObject = int | _HasFileno
_Selected = list[tuple[selectors.SelectorKey, int]]  # type: ignore[explicit-any]


class PlaneSelector(selectors.EpollSelector):
    """Waits for asyncio's descriptors, and gives all others to `turn`."""

    def __init__(self) -> None:
        super().__init__()
        self.epoll = select.epoll.fromfd(os.dup(self.fileno()))
        """Where a plane registers its own."""

        self.turn: Callable[[Ready], bool] | None = None
        """Acts on the plane's; says whether asyncio has something to do now."""

        self._asked: dict[int, selectors.SelectorKey] = {}  # type: ignore[explicit-any]

    def register(  # type: ignore[explicit-any]
        self, fileobj: _FileObject, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """See `selectors`."""
        key = super().register(fileobj, events, data)
        self._asked[key.fd] = key
        return key

    def unregister(self, fileobj: _FileObject) -> selectors.SelectorKey:  # type: ignore[explicit-any]
        """See `selectors`."""
        key = super().unregister(fileobj)
        self._asked.pop(key.fd, None)
        return key

    def modify(  # type: ignore[explicit-any]
        self, fileobj: _FileObject, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """See `selectors`."""
        key = super().modify(fileobj, events, data)
        self._asked[key.fd] = key
        return key

    def select(self, timeout: float | None = None) -> _Selected:  # type: ignore[explicit-any]
        """Wait until asyncio has something to do, which packets are not."""
        poll, asked = self.epoll.poll, self._asked
        end = None if timeout is None else monotonic() + timeout
        wait = -1.0 if timeout is None else max(timeout, 0.0)
        while True:
            ready = poll(wait, MOST)
            packets = [one for one in ready if one[0] not in asked]
            told = bool(packets) and self.turn is not None and self.turn(packets)
            if told or len(packets) < len(ready) or not ready:
                return [
                    (asked[descriptor], _events(mask) & asked[descriptor].events)
                    for descriptor, mask in ready
                    if descriptor in asked
                ]
            if end is not None:
                wait = end - monotonic()
                if wait <= 0:
                    return []

    def close(self) -> None:
        """See `selectors`."""
        self.epoll.close()
        super().close()


def _events(mask: int) -> int:
    """Say what a mask of epoll is to `selectors`."""
    read = selectors.EVENT_READ if mask & _READ else 0
    return read | (selectors.EVENT_WRITE if mask & _WRITE else 0)


_SELECTORS: WeakKeyDictionary[asyncio.AbstractEventLoop, PlaneSelector] = (
    WeakKeyDictionary()
)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make a loop whose waiting a plane may share."""
    selector = PlaneSelector()
    loop = asyncio.SelectorEventLoop(selector)
    _SELECTORS[loop] = selector
    return loop


def selector_of(loop: asyncio.AbstractEventLoop) -> PlaneSelector | None:
    """Give a loop's waiting, unless another plane has it or it cannot be shared."""
    selector = _SELECTORS.get(loop)
    return selector if selector is not None and selector.turn is None else None
