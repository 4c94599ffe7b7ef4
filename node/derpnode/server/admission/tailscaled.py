"""Asks a tailscaled on this machine whether its tailnet knows a key.

Source: tailscale ``derp/derpserver/derpserver.go``, ``verifyClient``;
``client/local``, ``WhoIsNodeKey``; ``ipn/localapi/localapi.go``.
"""

import asyncio
import json
import logging
from pathlib import Path

import aiohttp
import yarl

from derpnode.server.admission.http import HttpSource, read_capped
from derpnode.server.admission.verdict import Verdict
from derpnode.wire.keys import NodeKey, node_key_text


logger = logging.getLogger(__name__)

_API = "http://local-tailscaled.sock/localapi/v0"
_HEADERS = {"Tailscale-Cap": "148"}  # the capability version of Tailscale 1.104
_MAX_WHOIS = 1 << 20  # bytes; one node and its user
_MAX_STATUS = 64 << 20  # bytes; every node of a tailnet, about 1 kB each
_NO_SUCH_PATH = b"404 page not found"  # Go net/http, NotFound
_OK, _NOT_FOUND = 200, 404

# What daemons answer that cannot look up a node key: 400 those that take it for a
# broken address, 404 and 405 those that have no such call at all.
_TOO_OLD = frozenset({400, 405, 501})


class Tailscaled(HttpSource):
    """Allows the keys of the tailnet that a tailscaled is in, its own included.

    A daemon of any age will do. It need not be of the same version as the
    node: old ones, which cannot look up a key, are asked for their whole
    status instead.

    Args:
        socket: The daemon's Unix socket.
    """

    def __init__(self, socket: Path) -> None:
        super().__init__(f"tailscaled:{socket}")
        self._socket = socket
        self._said_old = False

    async def ask(self, key: NodeKey, ip: str) -> Verdict:
        """Ask the daemon for the node of this key."""
        try:
            status, body = await self._get(
                f"whois?addr=nodekey%3A{key.hex()}", _MAX_WHOIS
            )
            if status == _OK:
                return self._judge(key, body)
            if status == _NOT_FOUND and not body.startswith(_NO_SUCH_PATH):
                return await self._not_found()
            if status in _TOO_OLD or status == _NOT_FOUND:
                self._say_old(status)
                return await self._from_status(key)
        except (aiohttp.ClientError, OSError) as exc:
            return self.unreachable(exc)
        return self.unknown(f"whois answered {status}")

    def connect(self) -> aiohttp.ClientSession:
        """Make a session over the Unix socket."""
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket)),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _judge(self, key: NodeKey, body: bytes) -> Verdict:
        """Believe a 200, if it is a tailscaled that gave it, and for this key."""
        answer = _parsed(body)
        if not isinstance(answer, dict):
            return self.unknown("whois answered 200 with something else than JSON")
        named = _member(answer.get("Node"), "Key")
        if isinstance(named, str) and named != node_key_text(key):
            return self.unknown("whois answered with another key")
        return self.allow("in the tailnet")

    async def _not_found(self) -> Verdict:
        """Deny, unless the daemon has only just started and knows nobody yet."""
        status, body = await self._get("status?peers=false", _MAX_WHOIS)
        state = _member(_parsed(body), "BackendState") if status == _OK else None
        if isinstance(state, str) and state != "Running":
            return self.unknown(f"knows no tailnet now, its state is {state[:20]!r}")
        return self.deny("not in the tailnet")

    async def _from_status(self, key: NodeKey) -> Verdict:
        """Look a key up among all nodes."""
        status, body = await self._get("status", _MAX_STATUS)
        if status != _OK:
            return self.unknown(f"status answered {status}")
        # Megabytes in a large tailnet: not on the loop's time.
        found = await asyncio.to_thread(_status_keys, body)
        if found is None:
            return self.unknown("status answered with something else than JSON")
        if node_key_text(key) in found:
            return self.allow("in the tailnet")
        return self.deny("not in the tailnet")

    def _say_old(self, status: int) -> None:
        if self._said_old:
            return
        self._said_old = True
        logger.warning(
            "admission: %s is old, its whois answered %d; asking for its whole "
            "status instead",
            self.name,
            status,
        )

    async def _get(self, path: str, limit: int) -> tuple[int, bytes]:
        # Encoded already: the colon must stay %3A, as Go writes it.
        url = yarl.URL(f"{_API}/{path}", encoded=True)
        async with self.session.get(url, allow_redirects=False) as response:
            return response.status, await read_capped(response, limit)


def _parsed(body: bytes) -> object:
    """Read JSON; None if it is none."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _status_keys(body: bytes) -> set[str] | None:
    """List the keys in a status; None if it is none.

    Very old daemons have no `Self` in it. A tailnet of one has no `Peer`.
    """
    status = _parsed(body)
    if not isinstance(status, dict):
        return None
    peers = status.get("Peer")
    nodes = [status.get("Self"), *(peers.values() if isinstance(peers, dict) else ())]
    keys = (_member(node, "PublicKey") for node in nodes)
    return {key for key in keys if isinstance(key, str)}
