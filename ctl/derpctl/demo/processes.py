"""Signals to processes that asyncio waits for."""

import asyncio
import contextlib
import os
import signal


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal, unless the process has ended.

    `Process.terminate` asks first whether it has, and so takes the answer from the
    thread that waits for it, which then complains on standard error.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
