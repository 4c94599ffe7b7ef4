"""All links of a node: opened and closed by plan, dialled again when lost."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from derpmesh.link.link import Link, LinkState, LinkStatus
from derpmesh.link.news import LinkNews
from derpmesh.link.plan import Target, plan
from derpmesh.link.renewal import Renewal
from derpnode.config import Address, is_ip
from derpnode.plane.contract import (
    ClientTls,
    Closed,
    ConnectionId,
    Endpoint,
    Event,
    Plane,
)
from derpnode.relay.relay import Relay
from derpnode.server.journal import Journal
from derpnode.server.switchboard import LinkEvents
from derpnode.wire.keys import NodeKey, PrivateKey
from derpnode.wire.meshring import MeshRing


logger = logging.getLogger(__name__)

DIAL_TIMEOUT = 10.0
"""Seconds from dialling to the end of TLS."""

LOGIN_TIMEOUT = 20.0
"""Seconds from dialling to a link that is up."""

SELF_RETRY = 60.0
"""Seconds until a relay that had this node's key is looked at again."""

_OTHER_KEY = "link %s: the peer does not take the current mesh key; linked with another"

LOOKUP_TIMEOUT = 5.0
"""Seconds that the look-up of a name may take."""


class Links:
    """Keeps the links that a plan asks for.

    Args:
        identity: This node's key.
        mesh_keys: Gives the keys that links may prove, as they are now.
        plane: Moves their bytes.
        relay: Told of what they learn.
        routes: Where events of a connection go to; links enter theirs.
        clock: Seconds, monotonic.
        spawn: Runs a look-up in the background.
        journal: Told of what becomes of links.
    """

    def __init__(  # noqa: PLR0913 - the seams of the mesh
        self,
        identity: PrivateKey,
        mesh_keys: Callable[[], MeshRing],
        plane: Plane,
        relay: Relay,
        *,
        routes: MutableMapping[ConnectionId, LinkEvents],
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[None, None, None]], None],
        journal: Journal,
    ) -> None:
        self._identity = identity
        self._mesh_keys = mesh_keys
        self._renewal = Renewal(mesh_keys())
        self._plane = plane
        self._relay = relay
        self._routes = routes
        self._clock = clock
        self._spawn = spawn
        self._news = LinkNews(journal)
        self._links: dict[str, Link] = {}

    def apply(self, wanted: Mapping[str, Target]) -> None:
        """Open and close links so that they are those wanted; leave others alone."""
        now = self._clock()
        todo = plan({n: link.target for n, link in self._links.items()}, wanted)
        for name in todo.close:
            logger.info("link %s: closing; it is not wanted any more", name)
            link = self._links.pop(name)
            self._news.closed(name, was_up=link.state is LinkState.UP)
            link.close(now)
        for target in todo.open:
            logger.info(
                "link %s: opening to %s:%d", target.name, target.host, target.port
            )
            self._links[target.name] = Link(
                target,
                self._identity,
                self._mesh_keys,
                self._plane,
                self._relay,
                now=now,
            )
        self._links = {name: self._links[name] for name in wanted}
        self.tick()

    def tick(self) -> None:
        """Dial what is due, and look after what is up."""
        now = self._clock()
        for link in list(self._links.values()):
            if link.state is LinkState.WAITING and link.retry <= now:
                self._dial(link, now)
            elif link.state is LinkState.SELF:
                if now - link.changed > SELF_RETRY:
                    self._dial(link, now)
            elif link.state is LinkState.CONNECTING:
                if now - link.changed > LOGIN_TIMEOUT:
                    self._failed(link, f"no login in {LOGIN_TIMEOUT:g} s")
            else:
                with self._telling(link):
                    link.tick(now)
        due = self._renewal.due(self._links, now)
        if due is not None:
            logger.info("link %s: dialling again, as the mesh key is another", due)
            link = self._links[due]
            link.renew(now)
            self._dial(link, now)

    def renew(self) -> None:
        """Dial again, one after the other, the links that prove a key of the past."""
        self._renewal.begin(self._links.values(), self._mesh_keys())

    def hurry(self) -> None:
        """Dial at the next look whoever is waited for: one of them may be back."""
        now = self._clock()
        for link in self._links.values():
            link.retry = min(link.retry, now)

    def tell(self, frame: bytes) -> None:
        """Send a frame to every node of ours that is linked."""
        for link in self._links.values():
            if link.state is LinkState.UP and link.target.is_member:
                link.send(frame)

    def close(self) -> None:
        """End every link."""
        for link in self._links.values():
            link.close(self._clock())
        self._links.clear()

    def statuses(self) -> list[LinkStatus]:
        """Describe every link, in the order of the map."""
        now = self._clock()
        return [link.status(now) for link in self._links.values()]

    def announced(self) -> dict[str, frozenset[NodeKey]]:
        """Give the keys that each peer has announced; of the links that are up."""
        return {
            name: self._relay.announced_by(link.connection)
            for name, link in self._links.items()
            if link.state is LinkState.UP and link.connection is not None
        }

    @property
    def up(self) -> set[str]:
        """Names of the peers that are linked."""
        return {n for n, link in self._links.items() if link.state is LinkState.UP}

    @property
    def serving_members(self) -> list[str]:
        """Names of the members that take clients, as far as one knows."""
        return [
            name
            for name, link in self._links.items()
            if link.is_serving and link.target.is_member
        ]

    @property
    def serving(self) -> int:
        """How many of the other relays take clients, as far as one knows."""
        return sum(link.is_serving for link in self._links.values())

    # Dialling.

    def _dial(self, link: Link, now: float) -> None:
        target = link.target
        link.dialing(None, now)
        if target.dial is not None:
            self._connect(link, target.dial)
        elif is_ip(target.host):
            self._connect(link, Address(target.host, target.port))
        else:
            self._spawn(self._look_up(link))

    async def _look_up(self, link: Link) -> None:
        target = link.target
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                found = await loop.getaddrinfo(
                    target.host, target.port, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError) as exc:  # the latter: a label of 64 characters
            reason = f"{target.host}: {str(exc) or 'no answer from DNS'}"
            self._failed(link, reason)
            return
        if self._links.get(target.name) is link:
            # Each attempt takes the next address: the first may be of a family that
            # does not reach the peer.
            address = found[(link.attempts - 1) % len(found)][4]
            self._connect(link, Address(str(address[0]), int(address[1])))

    def _connect(self, link: Link, address: Address) -> None:
        target = link.target
        try:
            tls = _client_tls(target)
            where = Endpoint(address.host, address.port)
            connection = self._plane.connect(where, tls, DIAL_TIMEOUT)
        except (OSError, UnicodeError) as exc:
            self._failed(link, _reason(exc, target))
            return
        self._routes[connection] = _Route(self, link, connection)
        link.dialing(connection, self._clock())

    def _failed(self, link: Link, reason: str) -> None:
        if self._links.get(link.target.name) is link:
            with self._telling(link):
                link.failed(reason, self._clock())

    # Events.

    def event(self, link: Link, event: Event) -> None:
        """Hand an event to its link."""
        with self._telling(link):
            link.at(self._clock())
            link.event(event)

    @contextmanager
    def _telling(self, link: Link) -> Iterator[None]:
        """Say in the log what becomes of a link in the block."""
        before, error, since = link.state, link.error, link.changed
        yield
        if link.state is before and link.error == error:
            return
        name = link.target.name
        if link.state is LinkState.UP:
            logger.info("link %s: up", name)
            self._news.up(name)
            if link.mesh_key != self._mesh_keys().current:
                logger.warning(_OTHER_KEY, name)
        elif before is LinkState.UP:
            logger.warning("link %s: lost: %s; dialling again", name, link.error)
            self._news.lost(name, link.error, self._clock() - since)
        elif link.error != error:
            logger.warning("link %s: %s; trying again", name, link.error)
            self._news.failed(name, link.error)

    def forget(self, connection: ConnectionId) -> None:
        """Forget where the events of a connection go to."""
        self._routes.pop(connection, None)


class _Route:
    """Leads the events of one connection to its link, until it is closed."""

    def __init__(self, links: Links, link: Link, connection: ConnectionId) -> None:
        self._links = links
        self._link = link
        self._connection = connection

    def event(self, event: Event) -> None:
        """Act on one event."""
        self._links.event(self._link, event)
        if isinstance(event, Closed):
            self._links.forget(self._connection)


def _client_tls(target: Target) -> ClientTls | None:
    """Say how a link is secured: by pin, by a CA of ours, or as the system does.

    Raises:
        OSError: The CA file cannot be read, or is none.
        UnicodeError: The host is no name that TLS can ask for.
    """
    if not target.tls:
        return None
    target.host.encode("idna")
    ca_pem = target.ca_file.read_bytes() if target.ca_file is not None else None
    if ca_pem is not None and not ca_pem.isascii():
        raise OSError(errno.EINVAL, "not a PEM file", str(target.ca_file))
    return ClientTls(target.host, verify=target.pin is None, ca_pem=ca_pem)


def _reason(exc: OSError | UnicodeError, target: Target) -> str:
    """Say why a connection cannot even begin, and what is to be mended."""
    if isinstance(exc, UnicodeError):
        return f"{target.host}: {exc}"
    text = exc.strerror or str(exc)
    file = target.ca_file if isinstance(exc, ssl.SSLError) else exc.filename
    return f"{file}: {text}" if file is not None else text
