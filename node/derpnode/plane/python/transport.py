"""One socket as a byte stream, in the clear or over TLS. Never blocks.

`read` fills a buffer that all connections share; `write` encrypts and sends at once,
and keeps what the kernel did not take in `unsent`.
"""

import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast


READ_SIZE = 128 * 1024
"""Bytes asked of the kernel in one read."""

_RECORD = 16 * 1024
"""Bytes of the largest record, and of what is put into OpenSSL's buffers at a time.
These never shrink: a client keeps, as long as it stays, room for the most that it ever
had in them."""

_UNANSWERED = 16 * 1024  # bytes of answers to key updates, with nothing else to write
_SHARED = bytearray(READ_SIZE)
_SHARED_VIEW = memoryview(_SHARED)
_ReadInto = Callable[[int, memoryview], int]
_Write = Callable[[bytes | bytearray | memoryview], int]


class PeerClosed(Exception):
    """The peer ended the stream in good order."""


class Transport(Protocol):
    """What a connection reads from and writes to."""

    @property
    def unsent(self) -> memoryview | bytes:
        """Bytes, encrypted where they must be, that the kernel did not take yet."""

    def read(self, view: memoryview, limit: int = READ_SIZE) -> int:
        """Fill `view`, at least `READ_SIZE` and a record long, with what there is.

        Raises:
            PeerClosed: Nothing more will come.
            OSError: The connection broke; `ssl.SSLError` is one.
        """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, or keep the rest in `unsent`, which must be empty now."""

    def push(self) -> int:
        """Send from `unsent`; return how many bytes went."""

    def finish(self) -> None:
        """Say that nothing more will be written. Never fails."""


class Plain:
    """A stream in the clear."""

    __slots__ = ("_recv_into", "_send", "_sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        self.unsent: memoryview | bytes = b""

    def read(self, view: memoryview, limit: int = READ_SIZE) -> int:
        """See `Transport`."""
        try:
            count = self._recv_into(view, limit)
        except BlockingIOError:
            return 0
        if count == 0:
            raise PeerClosed
        return count

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `Transport`."""
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.unsent = memoryview(data)[sent:]

    def push(self) -> int:
        """See `Transport`."""
        try:
            sent = self._send(self.unsent)
        except BlockingIOError:
            return 0
        self.unsent = self.unsent[sent:] if sent < len(self.unsent) else b""
        return sent

    def finish(self) -> None:
        """See `Transport`."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)


class Tls(Plain):
    """A stream over TLS; the server's side unless a name is given."""

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_incoming",
        "_outgoing",
        "_session",
        "established",
    )

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        server_name: str | None = None,
    ) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        # What `ssl` wraps, without the wrapping: two calls less for every packet.
        raw = getattr(self._session, "_sslobj", self._session)
        self._decrypt = cast("_ReadInto", raw.read)
        self._encrypt = cast("_Write", raw.write)
        self.established = False

    @property
    def version(self) -> str:
        """The version agreed on, as derper writes it: `1.2` or `1.3`."""
        return (self._session.version() or "unknown").removeprefix("TLSv")

    @property
    def certificate(self) -> bytes:
        """The leaf that the peer showed, DER; empty if it showed none."""
        return self._session.getpeercert(binary_form=True) or b""

    def handshake(self, data: bytes | memoryview) -> bool:
        """Take bytes of the peer, answer them, and say whether it is done.

        Raises:
            OSError: The handshake failed; an alert was sent where there is one.
        """
        self._incoming.write(data)
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._emit()
            raise
        else:
            self.established = True
        self._emit()
        return self.established

    def receive(self) -> memoryview:
        """Take raw bytes from the kernel; valid until the next read of anybody.

        Raises:
            PeerClosed: Nothing more will come.
        """
        return _SHARED_VIEW[: super().read(_SHARED_VIEW, _RECORD)]

    def read(self, view: memoryview, limit: int = READ_SIZE) -> int:
        """See `Transport`."""
        try:
            count = self._recv_into(_SHARED_VIEW, limit)
        except BlockingIOError:
            return 0
        if count == 0:
            raise PeerClosed
        if count <= _RECORD:
            self._incoming.write(_SHARED_VIEW[:count])
            return self.decrypt(view)
        filled = 0
        for at in range(0, count, _RECORD):
            self._incoming.write(_SHARED_VIEW[at : min(at + _RECORD, count)])
            try:
                filled += self.decrypt(view[filled:])
            except PeerClosed:
                if not filled:
                    raise
                break
        return filled

    def decrypt(self, view: memoryview) -> int:
        """Fill `view` from what was received before."""
        incoming = self._incoming
        read = self._decrypt
        filled = 0
        ended = False
        try:
            # One record a call. Asking once more when nothing is left would cost
            # an exception for every packet of a quiet client.
            while incoming.pending and not ended:
                count = read(_RECORD, view[filled:])
                filled += count
                ended = count == 0
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        if ended and not filled:
            raise PeerClosed
        # An answer to a key update is due before our next record, and goes with it.
        if self._outgoing.pending > _UNANSWERED:
            raise ConnectionError(errno.ENOBUFS, "asks for new keys and reads nothing")
        return filled

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `Transport`."""
        if len(data) > _RECORD:
            self._write_records(memoryview(data))
            return
        self._encrypt(data)
        out = self._outgoing.read()
        if self.unsent:  # a part of the handshake, at the most
            out = bytes(self.unsent) + out
            self.unsent = b""
        try:
            sent = self._send(out)
        except BlockingIOError:
            sent = 0
        if sent < len(out):
            self.unsent = memoryview(out)[sent:]

    def _write_records(self, data: memoryview) -> None:
        """Encrypt record by record; send all of them in one piece."""
        records = [bytes(self.unsent)]
        self.unsent = b""
        for at in range(0, len(data), _RECORD):
            self._encrypt(data[at : at + _RECORD])
            records.append(self._outgoing.read())
        try:
            sent = self._sock.sendmsg(records)
        except BlockingIOError:
            sent = 0
        if sent < sum(map(len, records)):
            self.unsent = memoryview(b"".join(records))[sent:]

    def finish(self) -> None:
        """See `Transport`."""
        if self.established and not self.unsent:
            with suppress(OSError):
                self._session.unwrap()
            with suppress(OSError):
                self._emit()
        super().finish()

    def _emit(self) -> None:
        """Send what TLS has to say for itself, after what is unsent."""
        out = self._outgoing.read()
        if self.unsent:
            self.unsent = bytes(self.unsent) + out
        elif out:
            super().write(out)
