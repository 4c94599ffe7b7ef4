"""Finds ports that nobody uses, and tells whether somebody came first."""

import contextlib
import errno
import random
import socket
from typing import NamedTuple

from derpctl.errors import CtlError
from derpctl.exits import Exit


ADMIN_HOST = "127.0.0.1"
"""Admin listeners stay on loopback, wherever the relay is."""


class Ports(NamedTuple):
    """The ports of one node."""

    derp: int
    http: int
    stun: int
    """UDP."""
    admin: int


# Below those that the system gives to outgoing connections: a link that a node dials
# must not be what sits on another node's port.
_LOWEST, _HIGHEST = 10_240, 32_767
_ATTEMPTS = 200


def free_ports(bind: str, count: int) -> list[Ports]:
    """Find ports for nodes; all differ, as all are held until all are found.

    Raises:
        CtlError: The address is not one of this machine.
    """
    with contextlib.ExitStack() as held:
        return [_find(held, bind) for _ in range(count)]


def _find(held: contextlib.ExitStack, bind: str) -> Ports:
    """Find and hold the ports of one node."""
    for attempt in range(_ATTEMPTS):
        chosen = random.sample(range(_LOWEST, _HIGHEST), len(Ports._fields))
        try:
            return _hold(held, bind, Ports(*chosen))
        except OSError as exc:
            in_use = exc.errno == errno.EADDRINUSE
            if in_use and attempt < _ATTEMPTS - 1:
                continue
            value, hint = f"--bind = {bind}", "give an address of this machine"
            reason = (exc.strerror or str(exc)).lower()
            raise CtlError(value, reason, hint, Exit.USAGE) from exc
    raise AssertionError  # the last attempt raises


def are_free(bind: str, ports: Ports) -> bool:
    """Tell whether a node could listen on these ports now."""
    with contextlib.ExitStack() as held:
        try:
            _hold(held, bind, ports)
        except OSError:
            return False
    return True


def _hold(held: contextlib.ExitStack, bind: str, ports: Ports) -> Ports:
    wanted = (
        (socket.SOCK_STREAM, bind, ports.derp),
        (socket.SOCK_STREAM, bind, ports.http),
        (socket.SOCK_DGRAM, bind, ports.stun),
        (socket.SOCK_STREAM, ADMIN_HOST, ports.admin),
    )
    found = []
    for kind, host, port in wanted:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = held.enter_context(socket.socket(family, kind))
        if kind is socket.SOCK_STREAM and port:
            # As servers do: the last demo's connections may linger on it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        found.append(int(sock.getsockname()[1]))
    return Ports(*found)
