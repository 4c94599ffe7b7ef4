"""JSON as etcd's gateway writes it: one document after the other, cut anywhere.

Bytes go in, documents come out; nothing here touches a socket. Bytes that etcd holds
are base64 in JSON, and its 64-bit integers are text: both are undone here.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import cast


Document = Mapping[str, object]

MAX_SIZE = 16 << 20
"""Bytes of a document that is still read: ten times what one transaction may hold.

Source: etcd ``server/embed/config.go``, ``DefaultMaxRequestBytes``.
"""

_BYTES = frozenset({"key", "value", "range_end"})
_INTEGERS = frozenset(
    {
        *("cluster_id", "member_id", "raft_term", "revision"),
        *("create_revision", "mod_revision", "version", "lease"),
        *("compact_revision", "watch_id", "count", "deleted", "ID", "TTL"),
    }
)
"""Source: etcd ``api/etcdserverpb/rpc.proto`` and ``api/mvccpb/kv.proto``."""

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_OUTSIDE = re.compile(rb'["{}]')  # what matters outside of a string
_INSIDE = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"


class BrokenDocument(Exception):
    """Not what etcd would say. A stream cannot go on after it."""


class Documents:
    """Cut a byte stream into documents, wherever the network split it.

    Etcd's gateway parts them by newlines, by nothing (etcd issue 11372), or by
    several; a chunk may end within one, even within a character.

    Args:
        max_size: Largest document to accept, in bytes.
    """

    def __init__(self, *, max_size: int = MAX_SIZE) -> None:
        self._max_size = max_size
        self._buffer = bytearray()
        self._next = 0  # offset of the first byte not looked at; may lie beyond
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> None:
        """Append bytes received; then iterate to get documents."""
        self._buffer += data

    def __iter__(self) -> Iterator[Document]:
        """Yield each complete document, oldest first.

        Raises:
            BrokenDocument: What comes is no document, or too large a one. Those
                before it have been yielded.
        """
        while (text := self._cut()) is not None:
            yield decode(text)

    def _cut(self) -> bytes | None:
        if self._depth == 0:
            self._buffer = self._buffer.lstrip(_SPACE)
            if self._buffer and self._buffer[:1] != b"{":
                start = bytes(self._buffer[:20])
                message = f"no JSON object: {start!r}"
                raise BrokenDocument(message)
        end = self._end()
        size = len(self._buffer) if end is None else end
        if size > self._max_size:
            message = f"{size} bytes, limit is {self._max_size}"
            raise BrokenDocument(message)
        if end is None:
            return None
        text = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._next = 0
        return text

    def _end(self) -> int | None:
        """Find where the first document ends; remember how far it was looked at."""
        while True:
            marks = _INSIDE if self._in_string else _OUTSIDE
            found = marks.search(self._buffer, self._next)
            if found is None:
                self._next = max(self._next, len(self._buffer))
                return None
            self._next = found.end()
            mark = found[0]
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark == b"\\":
                self._next += 1  # the byte after it means nothing, once it is here
            else:
                self._depth += 1 if mark == b"{" else -1
                if self._depth == 0:
                    return self._next


def decode(text: bytes) -> Document:
    """Read one document.

    Raises:
        BrokenDocument: It is no JSON object, or none of etcd's.
    """
    try:
        found: object = json.loads(text, object_hook=_native)
    except (ValueError, RecursionError) as exc:
        message = f"not JSON as etcd writes it: {exc}"
        raise BrokenDocument(message) from None
    if not isinstance(found, dict):
        message = "no JSON object"
        raise BrokenDocument(message)
    return cast("Document", found)


def _native(found: dict[str, object]) -> dict[str, object]:
    """Turn what JSON has as text into what it stands for.

    Raises:
        ValueError: It is no base64, or no integer.
    """
    for name, value in found.items():
        if not isinstance(value, str):
            continue
        if name in _BYTES:
            found[name] = base64.b64decode(value, validate=True)
        elif name in _INTEGERS:
            if not _INTEGER.fullmatch(value):
                message = f"{name} is no integer"
                raise ValueError(message)
            found[name] = int(value)
    return found


def integer(document: Document, name: str) -> int:
    """Give a field; 0 is left out of JSON.

    Raises:
        BrokenDocument: It is something else.
    """
    value = document.get(name, 0)
    if type(value) is not int:
        message = f"{name} is no integer"
        raise BrokenDocument(message)
    return value


def data(document: Document, name: str) -> bytes:
    """Give a field; no bytes are left out of JSON.

    Raises:
        BrokenDocument: It is something else.
    """
    value = document.get(name, b"")
    if not isinstance(value, bytes):
        message = f"{name} is no base64"
        raise BrokenDocument(message)
    return value


def text(document: Document, name: str) -> str:
    """Give a field; an empty one is left out of JSON.

    Raises:
        BrokenDocument: It is something else.
    """
    value = document.get(name, "")
    if not isinstance(value, str):
        message = f"{name} is no text"
        raise BrokenDocument(message)
    return value


def below(document: Document, name: str) -> Document:
    """Give an object within; one of defaults alone is left out of JSON.

    Raises:
        BrokenDocument: It is something else.
    """
    return _object(document.get(name, {}), name)


def each(document: Document, name: str) -> list[Document]:
    """Give the objects of a list; an empty one is left out of JSON.

    Raises:
        BrokenDocument: It is something else.
    """
    found = document.get(name, [])
    if not isinstance(found, list):
        message = f"{name} is no list"
        raise BrokenDocument(message)
    return [_object(one, name) for one in cast("list[object]", found)]


def _object(value: object, name: str) -> Document:
    if not isinstance(value, dict):
        message = f"{name} is no object"
        raise BrokenDocument(message)
    return cast("Document", value)
