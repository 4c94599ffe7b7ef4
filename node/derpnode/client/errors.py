"""How dialling a DERP server can fail: one error for each layer.

ClientError
├── ResolveFailed     dns: the host has no address
├── DialFailed        tcp: nobody answers
├── TlsFailed         tls: no handshake, or a certificate that clients refuse
├── UpgradeFailed     http: another answer than 101
├── ServerKeyFailed   server-key: no DERP, or two nodes behind one name
├── LoginFailed       login: not admitted, or cut
└── RelayFailed       relay: worked, and does not any more
"""

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar

from derpnode.errors import NodeError


@dataclass(eq=False)
class ClientError(NodeError):
    """A layer failed; each has a class. Says what, why, and what to do about it."""

    value: str
    """What was being used: an address, a name, a pin, a key."""
    reason: str
    """Why it did not work, with the limit where there is one."""
    hint: str
    """What to do about it."""

    layer: ClassVar[str] = "client"
    """Name of the layer, for people and for JSON."""

    def __str__(self) -> str:
        return f"{self.value}: {self.reason}; {self.hint}"


class ResolveFailed(ClientError):
    """The host has no address."""

    layer = "dns"


class DialFailed(ClientError):
    """No address took a TCP connection."""

    layer = "tcp"


class TlsFailed(ClientError):
    """No TLS, or a certificate that a client does not accept."""

    layer = "tls"


class UpgradeFailed(ClientError):
    """The answer to an HTTP request is not the one due."""

    layer = "http"


class ServerKeyFailed(ClientError):
    """The server did not say who it is, or two different things."""

    layer = "server-key"


class LoginFailed(ClientError):
    """The server did not take our ClientInfo."""

    layer = "login"


class RelayFailed(ClientError):
    """The connection was logged in, and does not work, or not any more."""

    layer = "relay"


@dataclass(eq=False)
class Ended(Exception):
    """The connection is over, and everything that it brought was read."""

    reason: str


@contextlib.asynccontextmanager
async def layer(
    failed: type[ClientError], value: str, within: float, hint: str
) -> AsyncIterator[None]:
    """Turn what the network throws into the error of a layer."""
    try:
        async with asyncio.timeout(within):
            yield
    except TimeoutError as exc:
        raise failed(value, f"no answer in {within:.3g} s", hint) from exc
    except Ended as exc:
        raise failed(value, exc.reason, hint) from exc
    except OSError as exc:
        raise failed(value, reason_of(exc), hint) from exc


def reason_of(exc: Exception) -> str:
    """Say why in a few words, without the address again."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    if isinstance(exc, ssl.SSLError) and exc.strerror:
        # Before and behind the words there are places in OpenSSL and in CPython.
        return re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", exc.strerror).lower()
    if isinstance(exc, OSError) and exc.errno:
        known = isinstance(exc, socket.gaierror) or exc.errno < 0
        text = exc.strerror or "" if known else os.strerror(exc.errno)
        return text[:1].lower() + text[1:]
    return str(exc) or "connection reset by peer"
