"""A TCP proxy that does to connections what networks do."""

import asyncio
from contextlib import suppress
from typing import Self


CHUNK = 1 << 16


class Proxy:
    """Stands before a port of loopback. An asynchronous context manager.

    Args:
        target: The port that it stands before.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.piece = CHUNK
        """Bytes of what comes back that are sent at a time."""

        self.delay = 0.0
        """Seconds by which whatever comes back is late."""

        self.accepted = 0
        """Connections so far."""

        self.idle = asyncio.Event()
        """Set while there is no connection."""

        self.idle.set()
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._frozen: list[asyncio.Event] = []

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for flowing in (self._flowing, *self._frozen):
            flowing.set()

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Hold back every byte, of old and new connections; nothing is closed."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let held bytes go."""
        self._flowing.set()

    def freeze(self) -> None:
        """Hold back every byte of the connections there are; new ones are let through.

        They stay so: half open, as after a router forgot them.
        """
        self._flowing.clear()
        self._frozen.append(self._flowing)
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def refuse(self) -> None:
        """Reset every connection, and let none in."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None

    async def accept(self) -> None:
        """Let connections in again, at the same port."""
        await self.__aenter__()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._server is None:  # accepted just before it was to refuse
            writer.transport.abort()
            return
        self.accepted += 1
        self.idle.clear()
        self._writers.add(writer)
        back: asyncio.StreamWriter | None = None
        flowing = self._flowing
        try:
            answers, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back, flowing, CHUNK))
                group.create_task(self._pump(answers, writer, flowing))
        except OSError:
            pass
        finally:
            for one in (writer, back):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()
            if not self._writers:
                self.idle.set()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
        piece: int | None = None,
    ) -> None:
        """Move bytes one way until one side ends; then end the other one.

        Args:
            reader: Where they come from.
            writer: Where they go.
            flowing: Set while they may.
            piece: Bytes at a time; None: what comes back, as the proxy is told.
        """
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                size = piece or self.piece
                if piece is None and self.delay:
                    await asyncio.sleep(self.delay)
                for start in range(0, len(data), size):
                    await flowing.wait()
                    writer.write(data[start : start + size])
                    await writer.drain()
                    if size == 1:
                        await asyncio.sleep(0)
        writer.transport.abort()
