"""Logs in to a node as a client and tells what it hears, a line each.

Usage: ``python -m tests.install.visitor HOST KEY PIN``, with a private key of 64 hex
digits. It is a process of its own, as it runs on the network of another machine.
"""

import asyncio
import sys

from derpnode.client import ClientTls, connect
from derpnode.client.errors import ClientError
from derpnode.client.tls import PIN_PREFIX
from derpnode.wire.keys import PrivateKey


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def visit(host: str, private: PrivateKey, pin: str) -> None:
    """Stay until the node ends it."""
    tls = ClientTls(f"{PIN_PREFIX}{pin}")
    try:
        async with connect(host, 443, private=private, tls=tls) as client:
            _say("in")
            while True:
                _say(type(await client.recv()).__name__)
    except ClientError as exc:
        _say(f"out: {exc}")


if __name__ == "__main__":
    asyncio.run(visit(sys.argv[1], PrivateKey(bytes.fromhex(sys.argv[2])), sys.argv[3]))
