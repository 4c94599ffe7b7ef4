"""`derpd` that logs how many tasks it has when it is sent USR2.

Run as `python -m tests.load.counted`.
"""

import asyncio
import logging
import signal

import derpmesh.daemon
from derpnode.node import Node


logger = logging.getLogger(__name__)

SAID = "tasks: "
"""What the line begins with; the number follows."""


class CountedNode(Node):
    """Counts its tasks."""

    async def run(self) -> None:
        """Serve until `stop`."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _tell)
        await super().run()


def _tell() -> None:
    logger.info("%s%d", SAID, len(asyncio.all_tasks()))


if __name__ == "__main__":
    derpmesh.daemon.Node = CountedNode
    derpmesh.daemon.main()
