"""Names of nodes: found as ever, and never waited for once a command is done."""

import socket
import subprocess
import sys

import pytest

from derpctl.resolver import Resolver


async def test_addresses():
    (found,) = await Resolver().resolve("127.0.0.1", 9090, socket.AF_INET)
    assert (found["host"], found["port"]) == ("127.0.0.1", 9090)
    assert found["family"] is socket.AF_INET


async def test_no_such_name():
    with pytest.raises(OSError, match=r"not known|resolution"):
        await Resolver().resolve("nobody.invalid", 9090)


HANGS = """
import asyncio, socket, threading
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
from derpctl.admin import Admin, AdminFailed
try:
    asyncio.run(Admin("https://node-b:9090", 0.2).node())
except AdminFailed as exc:
    print(exc.reason)
"""


def test_a_name_server_that_hangs():
    """Regression: a command that was done waited for it, 12 s for each dead name."""
    said = subprocess.run(
        [sys.executable, "-c", HANGS],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,  # for ever, before
        check=True,
    )
    assert said.stdout == "no answer in 0.2 s\n"
