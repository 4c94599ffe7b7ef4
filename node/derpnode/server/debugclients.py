"""`/debug/clients/`: connections page by page, in the JSON of derper 1.104.

Source of order and fields: tailscale ``derp/derpserver/debugclients.go`` at 1.104.5.
"""

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from operator import itemgetter

from derpnode.plane.contract import ConnectionId, Plane, Stats
from derpnode.relay.relay import Client, Relay
from derpnode.server.clientquery import COUNTERS, Position, Query, address_position
from derpnode.server.status import Document
from derpnode.wire.keys import NodeKey, node_key_text


_SECOND = 10**9  # nanoseconds

_Entry = tuple[Position, Client]


class ClientList:
    """The connections of a node, to be listed.

    Args:
        relay: Knows them.
        plane: Knows what passed over them.
        epoch: Nanoseconds since the Unix epoch at which the relay's clock was
            zero. Always the same, so that a cursor finds its place again.
        clock: The relay's clock, seconds.
    """

    def __init__(
        self, relay: Relay, plane: Plane, *, epoch: int, clock: Callable[[], float]
    ) -> None:
        self._relay = relay
        self._plane = plane
        self._epoch = epoch
        self._clock = clock

    @property
    def now(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self._epoch + round(self._clock() * _SECOND)

    def summary(self) -> Document:
        """Count connections and keys: what is shown where nothing was asked for."""
        connections = sum(1 for _ in self._relay.clients())
        return {"conns": connections, "keys": self._relay.local_keys}

    def page(self, query: Query) -> Document:
        """List one page."""
        connections = 0
        keys: set[NodeKey] = set()
        beyond: list[_Entry] = []
        for client in self._chosen(query):
            if not query.matches(client):
                continue
            connections += 1
            keys.add(client.key)
            position = self._position(query.sort, client)
            if query.is_past_cursor(position):
                beyond.append((position, client))
        nearest = heapq.nlargest if query.descending else heapq.nsmallest
        shown = nearest(query.limit, beyond, key=itemgetter(0))
        remaining = len(beyond) - len(shown)
        document: Document = {
            "query": str(query),
            "conns": connections,
            "keys": len(keys),
            "remaining": remaining,
        }
        if remaining:
            document["next"] = query.link(*_cursor(query, shown[-1]))
        document["clients"] = [self._row(client) for _, client in shown]
        return document

    def _chosen(self, query: Query) -> Iterable[Client]:
        return self._relay.clients() if query.key is None else self._of(query.key)

    def _of(self, key: NodeKey) -> list[Client]:
        found = map(self._relay.client, self._relay.connections_of(key))
        return [client for client in found if client is not None]

    def _position(self, sort: str, client: Client) -> Position:
        number = client.connection
        if sort == "conn":
            return (number,)
        if sort == "key":
            return (int.from_bytes(client.key), number)
        if sort == "ip":
            return (*address_position(client.host, client.port), number)
        if sort == "connected":
            return (self._connected_at(client), number)
        return (COUNTERS[sort](self._stats(client)), number)

    def _row(self, client: Client) -> Document:
        """Describe one connection. Source: ``debugClient``."""
        stats = self._stats(client)
        return {
            "connNum": client.connection,
            "key": node_key_text(client.key),
            "remote": _remote(client),
            "connectedAt": _rfc3339_nano(self._connected_at(client)),
            "connected": round(self._clock() - client.since) * _SECOND,
            "active": self._relay.is_active(client.connection),
            "dup": len(self._relay.connections_of(client.key)) > 1,
            "disabled": False,  # derper stops duplicates that fight; we do not
            "home": client.home,
            "meshPeer": client.mesh,
            "notIdeal": client.not_ideal,
            "prober": client.prober,
            "version": client.version,
            "appName": client.app_name,
            "rxPkts": stats.rx_packets,
            "rxBytes": stats.rx_bytes,
            "txPkts": stats.tx_packets,
            "txBytes": stats.tx_bytes,
            "senders": 0,  # not counted; nor does derper unless told to
        }

    def _stats(self, client: Client) -> Stats:
        return self._plane.stats(ConnectionId(client.connection))

    def _connected_at(self, client: Client) -> int:
        return self._epoch + round(client.since * _SECOND)


def _cursor(query: Query, last: _Entry) -> tuple[str, str]:
    """Say beyond what the next page begins: the sorted value, and the connection."""
    position, client = last
    connection = str(client.connection)
    match query.sort:
        case "key":
            return node_key_text(client.key), connection
        case "ip":
            return _remote(client), connection
        case "conn":
            return connection, ""
        case _:
            return str(position[0]), connection


def _remote(client: Client) -> str:
    if not client.host:
        return ""
    host = f"[{client.host}]" if ":" in client.host else client.host
    return f"{host}:{client.port}"


def _rfc3339_nano(moment: int) -> str:
    """Write nanoseconds since the epoch as Go does, without trailing zeros."""
    seconds, fraction = divmod(moment, _SECOND)
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"
