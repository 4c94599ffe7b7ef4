"""A way to a relay that can go dead without the relay's noticing."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.interop.region import LOOPBACK


class Passage:
    """One connection through a front."""

    def __init__(self, client: socket.socket, relay: socket.socket) -> None:
        self._client = client
        self._relay = relay
        self._silent = False
        self._threads = [
            threading.Thread(target=self._copy, args=ends)
            for ends in ((client, relay), (relay, client))
        ]
        for thread in self._threads:
            thread.start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._silent:
                    return
                target.sendall(data)
        if not self._silent:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def fall_silent(self) -> None:
        """Cut the client off; the relay's side stays open, and nobody is there."""
        self._silent = True
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End both sides."""
        for end in (self._client, self._relay):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._relay.close()


class Front:
    """Passes connections on to a port of loopback; `front` opens one."""

    def __init__(self, listener: socket.socket, relay_port: int) -> None:
        self._listener = listener
        self._relay_port = relay_port
        self.passages: list[Passage] = []
        """All that there ever were, the oldest first."""

        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where clients find it."""
        port: int = self._listener.getsockname()[1]
        return port

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it was shut down
                return
            try:
                relay = socket.create_connection((LOOPBACK, self._relay_port))
            except OSError:
                client.close()
                continue
            self.passages.append(Passage(client, relay))

    def shut(self) -> None:
        """Refuse new connections from now on; those that are open stay."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def front(relay_port: int) -> Iterator[Front]:
    """Open a front until the block ends."""
    made = Front(socket.create_server((LOOPBACK, 0)), relay_port)
    try:
        yield made
    finally:
        made.shut()
        for passage in made.passages:
            passage.close()
