"""The planes that keep the contract: every test of this folder runs over each."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from derpnode.plane.contract import EventSink, Plane, PlaneLimits
from derpnode.plane.python.plane import PythonPlane


class Factory(Protocol):
    """Makes a plane on the running loop."""

    def __call__(
        self,
        sink: EventSink,
        limits: PlaneLimits,
        loop: asyncio.AbstractEventLoop,
        *,
        uniform: Callable[[float, float], float] = ...,
    ) -> Plane:
        """See `PythonPlane`."""


PLANES: Final[Mapping[str, Factory]] = {"python": PythonPlane}
