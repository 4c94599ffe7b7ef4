"""What etcd answers, as values. No I/O, no clock.

Source: etcd ``api/etcdserverpb/rpc.proto`` and ``api/mvccpb/kv.proto``.
"""

from dataclasses import dataclass, field

from derpmesh.etcd.documents import (
    BrokenDocument,
    Document,
    below,
    data,
    each,
    integer,
    text,
)


@dataclass(frozen=True, slots=True)
class Header:
    """Who answered, and when in the history of the cluster."""

    cluster_id: int
    raft_term: int
    revision: int


@dataclass(frozen=True, slots=True)
class Item:
    """A key, and what is stored under it."""

    key: bytes
    value: bytes = field(repr=False)
    create_revision: int
    """That of the put that made the key."""

    mod_revision: int
    """That of the last put."""

    version: int
    """How many puts there were since it was made."""

    lease: int
    """The lease that it ends with; 0: none."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Every key below a prefix, at one revision."""

    revision: int
    """Watch from the next one to miss nothing."""

    items: tuple[Item, ...]
    """In the order of their keys."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was granted."""

    id: int
    ttl: int
    """Seconds; etcd may give more than it was asked for."""


@dataclass(frozen=True, slots=True)
class Put:
    """A key has a new value."""

    key: bytes
    value: bytes = field(repr=False)
    mod_revision: int
    create_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Delete:
    """A key is gone: deleted, or its lease has ended."""

    key: bytes
    mod_revision: int


Event = Put | Delete


@dataclass(frozen=True, slots=True)
class Batch:
    """What one or more revisions changed, each of them whole."""

    revision: int
    """The last of them. To resume, watch from the next one."""

    events: tuple[Event, ...]
    """In order; none in the first batch, which says that the watch has begun."""


@dataclass(frozen=True, slots=True)
class WatchNews:
    """One message of a watch."""

    header: Header
    created: bool
    canceled: bool
    reason: str
    compact_revision: int
    events: tuple[Event, ...]


def header(document: Document) -> Header:
    """Read the header of an answer.

    Raises:
        BrokenDocument: It has none.
    """
    found = below(document, "header")
    read = Header(
        integer(found, "cluster_id"),
        integer(found, "raft_term"),
        integer(found, "revision"),
    )
    if read.cluster_id == 0:
        message = "no header"
        raise BrokenDocument(message)
    return read


def items(document: Document) -> tuple[Item, ...]:
    """Read the key-value pairs of a range.

    Raises:
        BrokenDocument: They are none.
    """
    return tuple(map(_item, each(document, "kvs")))


def _item(found: Document) -> Item:
    if integer(found, "mod_revision") <= 0:
        message = "an item without a revision"
        raise BrokenDocument(message)
    return Item(
        data(found, "key"),
        data(found, "value"),
        integer(found, "create_revision"),
        integer(found, "mod_revision"),
        integer(found, "version"),
        integer(found, "lease"),
    )


def watch_news(document: Document) -> WatchNews:
    """Read one message of a watch.

    Raises:
        BrokenDocument: It is none.
    """
    found = below(document, "result")
    return WatchNews(
        header(found),
        created=found.get("created") is True,
        canceled=found.get("canceled") is True,
        reason=text(found, "cancel_reason"),
        compact_revision=integer(found, "compact_revision"),
        events=tuple(map(_event, each(found, "events"))),
    )


def _event(found: Document) -> Event:
    item = _item(below(found, "kv"))
    match text(found, "type"):
        case "" | "PUT":
            return Put(
                item.key,
                item.value,
                item.mod_revision,
                item.create_revision,
                item.lease,
            )
        case "DELETE":
            return Delete(item.key, item.mod_revision)
        case other:
            message = f"an event of type {other[:20]!r}"
            raise BrokenDocument(message)
