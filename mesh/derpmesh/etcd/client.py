"""A client of etcd over several endpoints: keys, leases, watches.

Every method may raise what `errors` lists; its docstring names what is peculiar to it.
All of them may be cancelled at any time; a write may then have been done.
"""

import asyncio
import logging
import random
import secrets
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from derpmesh.etcd.answers import (
    Batch,
    Header,
    Item,
    Lease,
    Listing,
    header,
    items,
    watch_news,
)
from derpmesh.etcd.documents import (
    BrokenDocument,
    Document,
    below,
    integer,
    text,
)
from derpmesh.etcd.endpoint import CONNECT, Endpoint
from derpmesh.etcd.errors import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OUT_OF_RANGE,
    PERMISSION_DENIED,
    Ambiguous,
    Compacted,
    EtcdError,
    LeaseLost,
    NotSent,
    Refused,
    StaleAnswer,
    TokenRefused,
    Unauthenticated,
    WatchEnded,
    verdict,
)
from derpmesh.etcd.login import Credentials, Login
from derpmesh.etcd.ring import Ring
from derpmesh.etcd.seen import Seen


logger = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 500
"""Items that are asked for at a time."""

LOGINS = 2
"""Logins that a refused token may cost one request."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_LEAST_ATTEMPT = 1.0  # seconds; an attempt with less would only add to the load


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long etcd may take."""

    connect: float = CONNECT
    """Seconds until a connection must be there."""

    attempt: float = 3.0
    """Seconds one endpoint may take to answer."""

    deadline: float = 8.0
    """Seconds after which no further attempt is begun.

    With a lease of 15 s that is kept each 5 s, one call that fails leaves time.
    """


class Etcd:
    """Speaks to a cluster: to one endpoint until it fails, then to the next.

    Args:
        urls: The endpoints, `http://HOST:PORT` or `https://HOST:PORT`.
        credentials: Who we are, where etcd has users.
        tls: How `https` proves itself, and whom it trusts; see `tls.client_context`.
        patience: How long etcd may take.
        sleep: Waits so many seconds.
        uniform: Draws a number between two.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
        patience: Patience = Patience(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        endpoints = [Endpoint(url, tls=tls, connect=patience.connect) for url in urls]
        self._ring = Ring(endpoints, uniform=uniform)
        self._login = Login(self._authenticate, credentials)
        self._patience = patience
        self._sleep = sleep
        self._uniform = uniform
        self._seen = Seen()
        self._left: set[str] = set()  # endpoints that failed since the last answer

    @property
    def endpoint(self) -> str:
        """The URL of the endpoint that is asked."""
        return self._ring.current.url

    @property
    def seen(self) -> Seen:
        """What is known of the cluster."""
        return self._seen

    def rotate(self, why: str = "told to") -> None:
        """Leave the endpoint that is asked, and end its watches.

        It is not asked for some seconds; with a single one, it still is.
        """
        self._leave(self._ring.current, why)

    def forget(self) -> None:
        """Take the cluster as it is from now on, be it older or another one.

        For clusters restored from a backup; until then all answers are stale.
        """
        self._seen = Seen()

    async def close(self) -> None:
        """Close every connection, and end every watch."""
        for endpoint in self._ring.endpoints:
            await endpoint.close()

    # Keys.

    async def range_prefix(
        self, prefix: bytes, revision: int = 0, *, page: int = PAGE
    ) -> Listing:
        """Read every key that begins so, all at the same revision.

        Args:
            prefix: At least one byte.
            revision: That to read at; 0: the newest one.
            page: Items to ask for at a time.

        Raises:
            Compacted: The revision is forgotten.
        """
        found: list[Item] = []
        start, end = prefix, prefix_end(prefix)
        while True:
            payload = {
                "key": start,
                "range_end": end,
                "revision": revision,
                "limit": page,
            }
            listing, more = await self._call("/kv/range", payload, _listing)
            revision = revision or listing.revision
            found += listing.items
            if not more or not listing.items:
                return Listing(revision, tuple(found))
            start = listing.items[-1].key + b"\0"

    async def get(self, key: bytes) -> Item | None:
        """Read one key; None if it is not there."""
        listing, _ = await self._call("/kv/range", {"key": key}, _listing)
        return listing.items[0] if listing.items else None

    async def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Store a value, whatever is there. Give its revision.

        Args:
            key: Where.
            value: What.
            lease: What the key ends with; 0: nothing.

        Raises:
            Ambiguous: It was sent, and is not there; it may still come.
            LeaseLost: There is no such lease.
        """
        payload = {"key": key, "value": value, "lease": lease}
        try:
            return await self._write("/kv/put", payload, _revision)
        except Ambiguous as exc:
            item = await self._stored(key, exc)
            if item is not None and (item.value, item.lease) == (value, lease):
                return item.mod_revision
            raise exc.with_traceback(None) from None
        except Refused as exc:
            raise _lease_lost(exc, lease) from exc

    async def txn_put(
        self,
        key: bytes,
        value: bytes,
        expected_mod_revision: int,
        lease: int = 0,
        *,
        given: Mapping[bytes, int] | None = None,
        also: Mapping[bytes, bytes] | None = None,
    ) -> int | None:
        """Store a value if the key is as it was read. Give its revision, or None.

        None says that the key is otherwise, so nothing was stored. The value must
        be unlike any that anybody else would store there: it is how a write whose
        answer was lost is found again.

        Args:
            key: Where.
            value: What.
            expected_mod_revision: That of the item that was read; 0: no such key.
            lease: What the key ends with; 0: nothing.
            given: Other keys that must be as they were read, with those revisions.
            also: Other keys, and what is stored there in the same moment or not at all.

        Raises:
            Ambiguous: It was sent, and is not there. Read and decide anew.
            LeaseLost: There is no such lease.
        """
        expected = {**(given or {}), key: expected_mod_revision}
        compare = [
            {"key": one, "target": "MOD", "result": "EQUAL", "mod_revision": revision}
            for one, revision in expected.items()
        ]
        puts = [{"key": key, "value": value, "lease": lease}]
        puts += [{"key": one, "value": text} for one, text in (also or {}).items()]
        success = [{"request_put": put} for put in puts]
        payload = {"compare": compare, "success": success}
        try:
            return await self._write("/kv/txn", payload, _revision_if_succeeded)
        except Ambiguous as exc:
            item = await self._stored(key, exc)
            if item is not None and item.value == value:
                return item.mod_revision
            raise exc.with_traceback(None) from None
        except Refused as exc:
            raise _lease_lost(exc, lease) from exc

    async def delete(self, key: bytes) -> None:
        """Delete one key; it need not be there.

        Raises:
            Ambiguous: It was sent, and the key is there; it may still go.
        """
        try:
            await self._write("/kv/deleterange", {"key": key}, _revision)
        except Ambiguous as exc:
            if await self._stored(key, exc) is not None:
                raise exc.with_traceback(None) from None

    async def _stored(self, key: bytes, doubt: Ambiguous) -> Item | None:
        """Look whether a write was done whose answer is missing.

        Raises:
            Ambiguous: That cannot be seen either.
        """
        try:
            return await self.get(key)
        except EtcdError:
            raise doubt.with_traceback(None) from None

    # Leases.

    async def lease_grant(self, ttl: int) -> Lease:
        """Take a lease of so many seconds.

        Its number is ours, so that the request may be sent again; if the answer is
        lost for good, the lease ends by itself.
        """
        number = secrets.randbits(62) + 1
        try:
            return await self._call(
                "/lease/grant", {"ID": number, "TTL": ttl}, _lease, agreed=True
            )
        except Refused as exc:
            if exc.code == FAILED_PRECONDITION and "already exists" in exc.message:
                return Lease(number, ttl)
            raise

    async def lease_keepalive(self, lease: int) -> int:
        """Let a lease live on. Give the seconds that it has left.

        Raises:
            LeaseLost: It has ended before.
        """
        try:
            left = await self._call(
                "/lease/keepalive", {"ID": lease}, _seconds_left, agreed=False
            )
        except Refused as exc:
            raise _lease_lost(exc, lease) from exc
        if left <= 0:  # what a lease that is not there is said to have
            raise LeaseLost(lease)
        return left

    async def lease_revoke(self, lease: int) -> None:
        """End a lease, and delete its keys; it may have ended before."""
        try:
            await self._call("/lease/revoke", {"ID": lease}, _revision)
        except Refused as exc:
            if exc.code != NOT_FOUND:
                raise

    # Watches.

    async def watch(
        self, prefix: bytes, from_revision: int
    ) -> AsyncGenerator[Batch, None]:
        """Yield what changes below a prefix, from a revision on.

        The first batch is empty and says that the watch has begun. It ends only by
        an exception; after most of them, resume from the revision after that of the
        last batch. The endpoint is left then, so that the next watch is elsewhere.
        Consume it under `aclosing`: that closes its connection.

        Args:
            prefix: At least one byte.
            from_revision: The first one whose changes are wanted.

        Raises:
            Compacted: Those changes are forgotten: read all anew.
            StaleAnswer: It is another cluster: read all anew.
            EtcdError: The watch ended.
        """
        endpoint = self._ring.current
        try:
            async with aclosing(
                self._watch(endpoint, prefix, from_revision)
            ) as batches:
                async for batch in batches:
                    yield batch
        except (NotSent, Ambiguous, WatchEnded, Refused) as exc:
            if not isinstance(exc, Refused) or exc.transient:
                self._leave(endpoint, str(exc))
            raise

    async def _watch(
        self, endpoint: Endpoint, prefix: bytes, from_revision: int
    ) -> AsyncGenerator[Batch, None]:
        """Watch at one endpoint, with a new login if the token is refused at first."""
        refused: str | None = None
        for left in reversed(range(LOGINS + 1)):
            token = await self._token(endpoint, refused)
            begun = False
            try:
                async with aclosing(
                    self._batches(endpoint, prefix, from_revision, token)
                ) as batches:
                    async for batch in batches:
                        begun = True
                        yield batch
            except TokenRefused:
                if begun or not left or not self._login.possible:
                    raise
                refused = token

    async def _batches(
        self, endpoint: Endpoint, prefix: bytes, from_revision: int, token: str
    ) -> AsyncGenerator[Batch, None]:
        request = {
            "key": prefix,
            "range_end": prefix_end(prefix),
            "start_revision": from_revision,
        }
        last = from_revision - 1
        stream = endpoint.stream(
            "/watch",
            {"create_request": request},
            token=token,
            within=self._patience.attempt,
        )
        async with aclosing(stream) as documents:
            async for document in documents:
                batch = self._batch(endpoint.url, document, last)
                if batch is not None:
                    last = batch.revision
                    yield batch

    def _batch(self, url: str, document: Document, last: int) -> Batch | None:
        """Judge one message of a watch; None if it tells nothing."""
        try:
            news = watch_news(document)
        except BrokenDocument as exc:
            raise WatchEnded(url, f"garbage in the stream: {exc}") from exc
        if news.canceled:
            # The stream stays open after it, silent for good.
            if news.compact_revision:
                raise Compacted(news.compact_revision)
            raise _cancellation(url, news.reason)
        self._seen.check_cluster(url, news.header)
        if news.events:
            first = news.events[0].mod_revision
            if first <= last:
                raise StaleAnswer(url, "revision", last, first)
            last = news.events[-1].mod_revision
        elif not news.created:
            return None
        self._seen = self._seen.after_revision(news.header)
        return Batch(last, news.events)

    # How requests are sent.

    async def _write(
        self,
        method: str,
        payload: Mapping[str, object],
        read: Callable[[Document], tuple[Header, T]],
    ) -> T:
        """Send a request that must not be done twice."""
        return await self._call(method, payload, read, idempotent=False)

    async def _call(
        self,
        method: str,
        payload: Mapping[str, object],
        read: Callable[[Document], tuple[Header, T]],
        *,
        idempotent: bool = True,
        agreed: bool = True,
    ) -> T:
        """Send a request until it is answered, or for too long.

        Args:
            method: The path of an RPC.
            payload: The request.
            read: Makes sense of the answer.
            idempotent: Whether it may be done twice.
            agreed: Whether the answer is as new as the cluster, not as the member.
        """
        deadline = time.monotonic() + self._patience.deadline
        pauses = self._pauses()
        while True:
            endpoint = self._ring.current
            left = max(_LEAST_ATTEMPT, deadline - time.monotonic())
            before = self._seen
            try:
                answer = await self._authorized(
                    endpoint, method, payload, min(left, self._patience.attempt)
                )
                found, value = _read(endpoint.url, answer, read)
            except (NotSent, Ambiguous, Refused) as exc:
                if isinstance(exc, Refused) and not exc.transient:
                    raise
                self._leave(endpoint, str(exc))
                pause = next(pauses)
                late = time.monotonic() + pause >= deadline
                if late or (isinstance(exc, Ambiguous) and not idempotent):
                    raise
                await self._sleep(pause)
                continue
            self._left.clear()
            if not agreed:
                before.check_cluster(endpoint.url, found)
                return value
            before.check(endpoint.url, found)
            self._seen = self._seen.after(found)
            return value

    def _pauses(self) -> Iterator[float]:
        """Give the seconds before each further attempt: none for the first round."""
        for _ in self._ring.endpoints[1:]:
            yield 0.0
        bound = _FIRST_PAUSE
        while True:
            yield self._uniform(0.0, bound)
            bound = min(_LONGEST_PAUSE, 2 * bound)

    async def _authorized(
        self,
        endpoint: Endpoint,
        method: str,
        payload: Mapping[str, object],
        within: float,
    ) -> Document:
        """Send a request once, with a new login if the token is refused."""
        refused: str | None = None
        for left in reversed(range(LOGINS + 1)):
            token = await self._token(endpoint, refused)
            try:
                return await endpoint.call(method, payload, token=token, within=within)
            except TokenRefused:
                if not left or not self._login.possible:
                    raise
                refused = token
        raise AssertionError  # the last round returned or raised

    async def _token(self, endpoint: Endpoint, refused: str | None) -> str:
        """Give what to show to an endpoint; a login of others may be waited for."""
        within = self._patience.attempt
        try:
            async with asyncio.timeout(within):
                return await self._login.token(refused)
        except TimeoutError as exc:
            raise NotSent(endpoint.url, f"no login in {within:g} s") from exc

    async def _authenticate(self, user: str, password: str) -> str:
        """Log in at the endpoint that is asked."""
        endpoint = self._ring.current
        payload = {"name": user, "password": password}
        try:
            answer = await endpoint.call(
                "/auth/authenticate", payload, within=self._patience.attempt
            )
            token = text(answer, "token")
        except Refused as exc:
            if exc.code != INVALID_ARGUMENT:
                raise
            raise Unauthenticated(exc.endpoint, exc.message) from exc
        except BrokenDocument as exc:
            raise Ambiguous(endpoint.url, f"garbage for an answer: {exc}") from exc
        return token

    def _leave(self, endpoint: Endpoint, why: str) -> None:
        if self._ring.leave(endpoint):
            # With all of them away it would be a line at each attempt.
            level = logging.DEBUG if endpoint.url in self._left else logging.INFO
            logger.log(level, "etcd: %s; asking %s from now on", why, self.endpoint)
        self._left.add(endpoint.url)
        endpoint.hang_up()


def prefix_end(prefix: bytes) -> bytes:
    """Give the first key after all that begin so, as etcd wants ranges to end.

    Source: etcd ``client/v3/op.go``, ``getPrefix``.
    """
    head = prefix.rstrip(b"\xff")
    if not head:
        return b"\0"  # "to the end of all keys"
    return head[:-1] + bytes([head[-1] + 1])


# What requests are answered with.


def _read(
    url: str, answer: Document, read: Callable[[Document], tuple[Header, T]]
) -> tuple[Header, T]:
    try:
        return read(answer)
    except BrokenDocument as exc:
        raise Ambiguous(url, f"garbage for an answer: {exc}") from exc


def _revision(answer: Document) -> tuple[Header, int]:
    found = header(answer)
    return found, found.revision


def _revision_if_succeeded(answer: Document) -> tuple[Header, int | None]:
    found = header(answer)
    return found, found.revision if answer.get("succeeded") is True else None


def _listing(answer: Document) -> tuple[Header, tuple[Listing, bool]]:
    found = header(answer)
    more = answer.get("more") is True
    return found, (Listing(found.revision, items(answer)), more)


def _lease(answer: Document) -> tuple[Header, Lease]:
    lease = Lease(integer(answer, "ID"), integer(answer, "TTL"))
    if lease.id == 0 or lease.ttl <= 0:
        message = "no lease"
        raise BrokenDocument(message)
    return header(answer), lease


def _seconds_left(answer: Document) -> tuple[Header, int]:
    result = below(answer, "result")
    return header(result), integer(result, "TTL")


def _lease_lost(exc: Refused, lease: int) -> EtcdError:
    """Say that a lease is not there, if that is why etcd refused."""
    if lease and exc.code == NOT_FOUND and "lease" in exc.message:
        return LeaseLost(lease)
    return exc


def _cancellation(url: str, reason: str) -> EtcdError:
    """Say what a cancelled watch means; its reason is a text without a code."""
    code = PERMISSION_DENIED if "permission denied" in reason else OUT_OF_RANGE
    found = verdict(url, 200, {"code": code, "message": reason})
    if code == PERMISSION_DENIED:
        return found
    if isinstance(found, Refused):
        return WatchEnded(url, f"cancelled: {reason or 'no reason given'}")
    return found
