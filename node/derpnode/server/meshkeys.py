"""The mesh keys of a node as files, followed; and how one key takes another's place."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from derpnode.errors import ConfigError, NodeError
from derpnode.kinds import Kind
from derpnode.server.identity import find_mesh_key, load_mesh_key, write_atomically
from derpnode.server.journal import Journal
from derpnode.server.watch import FileWatch, Sleep, follow, sleep_or_wake
from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing, Phase


logger = logging.getLogger(__name__)

WATCH_INTERVAL = 1.0
"""Seconds between looks at the files; a change is in force after two looks."""

_MODE = 0o600
_READINGS = 5  # at most, to find two that are alike
_GOES_ON = "then `derpctl key mesh rotate` goes on"
_STAGE_FIRST = "stage one: `derpctl key mesh rotate`"


@dataclass(eq=False)
class MeshKeyRefused(NodeError):
    """A step of a rotation is not taken; the keys are what they were."""

    value: str
    """What the step is about: a file, or a key by its fingerprint."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.value}: {self.reason}; {self.remedy}"


class MeshKeys:
    """The key that links prove, in a file, and beside it `.next` and `.previous`.

    Files that cannot be used change nothing: the last good ones stay in force, and
    the log and the notes say so. A step changes one file after the other, each at
    once, in an order that leaves usable keys wherever it ends.

    Args:
        path: The file of the key that is sent.
        journal: Told of each change; None: nobody is.

    Raises:
        ConfigError: It cannot be used now, at the start.
    """

    def __init__(self, path: Path, journal: Journal | None = None) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.next")
        self._previous = path.with_name(f"{path.name}.previous")
        self._watch = FileWatch(path, self._next, self._previous)
        self._journal = journal
        self._one_step = asyncio.Lock()
        self._failure = ""  # why the files cannot be used, as we have said it
        self.ring = self._start()
        self.reload = asyncio.Event()
        """Set it, and the files are read."""

        self.changed: Callable[[], None] = lambda: None
        """Called when the keys are others."""

    def accepts(self, candidate: bytes | None) -> bool:
        """Tell whether a peer proved one of the keys, in constant time."""
        return self.ring.accepts(candidate)

    def fingerprints(self) -> dict[str, str | None]:
        """Name the keys, for JSON."""
        return self.ring.fingerprints()

    def notes(self) -> list[str]:
        """Say what an operator should look at, a line each."""
        found = []
        if self._failure:
            found.append(f"{self._failure}; the mesh keys in use stay")
        if self.ring.phase is not Phase.STEADY:
            found.append(
                f"mesh key: a rotation is under way, and {self.ring.phase.value} here;"
                " `derpctl key mesh rotate` goes on with it"
            )
        return found

    # Steps.

    async def stage(self, key: MeshKey) -> None:
        """Take another key from now on; go on sending the one that is.

        Raises:
            MeshKeyRefused: Another rotation is under way, or the key cannot be kept.
        """
        async with self._as_is() as ring:
            if key in (ring.current, ring.next):
                return
            other = ring.next or ring.previous
            if other is not None:
                reason = "another rotation is under way"
                remedy = "finish it, or take it back: `derpctl key mesh rotate --abort`"
                raise MeshKeyRefused(other.fingerprint(), reason, remedy)
            remedy = f"put the key into {self._next} yourself"
            await self._change(self._next, remedy, partial(_write, self._next, key))

    async def switch(self) -> None:
        """Send the next key; go on taking the one that was sent.

        Raises:
            MeshKeyRefused: There is no next key, or the files cannot be written.
        """
        async with self._as_is() as ring:
            if ring.next is None and ring.previous is not None:
                return
            if ring.next is None:
                value = ring.current.fingerprint()
                raise MeshKeyRefused(value, "there is no next key", _STAGE_FIRST)
            if ring.previous is not None:
                value = ring.previous.fingerprint()
                remedy = f"remove {self._previous} if no node has that key any more"
                raise MeshKeyRefused(value, "the previous key is still here", remedy)
            await self._swap(ring, self._previous, self._next)

    async def retire(self) -> None:
        """Take the previous key no more.

        Raises:
            MeshKeyRefused: The next key is not sent yet, or the file cannot be removed.
        """
        async with self._as_is() as ring:
            if ring.previous is None and ring.next is not None:
                value, reason = ring.next.fingerprint(), "the next key is not sent yet"
                raise MeshKeyRefused(value, reason, "switch first, or abort")
            # What a crash may have left: a file whose key is in another one, too.
            spare = [self._next] if ring.next is None else []
            await self._drop(self._previous, *spare)

    async def back(self) -> None:
        """Send the previous key again; go on taking the one that was sent.

        Raises:
            MeshKeyRefused: The files cannot be written.
        """
        async with self._as_is() as ring:
            if ring.next is None and ring.previous is not None:
                await self._swap(ring, self._next, self._previous)

    async def abort(self) -> None:
        """Take the next key no more, before it was ever sent.

        Raises:
            MeshKeyRefused: It is sent already, or the file cannot be removed.
        """
        async with self._as_is() as ring:
            if ring.next is None and ring.previous is not None:
                value, reason = (
                    ring.current.fingerprint(),
                    "the next key is sent already",
                )
                raise MeshKeyRefused(value, reason, "go back first, or retire")
            spare = [self._previous] if ring.previous is None else []
            await self._drop(self._next, *spare)

    @asynccontextmanager
    async def _as_is(self) -> AsyncGenerator[MeshRing, None]:
        """Read the files, as an operator may just have changed them; one step a time.

        Raises:
            MeshKeyRefused: They cannot be used.
        """
        async with self._one_step:
            self.check(asked=True)
            if self._failure:
                raise MeshKeyRefused(str(self._path), self._failure, _GOES_ON)
            yield self.ring

    async def _swap(self, ring: MeshRing, kept: Path, used: Path) -> None:
        """Keep the key that is sent in one file, and send that of another.

        Raises:
            MeshKeyRefused: The files cannot be written.
        """
        await self._change(
            self._path,
            f"copy {self._path} to {kept}, and move {used} over it, yourself",
            # Between the two, one key is in two files: no harm.
            partial(_write, kept, ring.current),
            partial(_move, used, self._path),
        )

    async def _drop(self, path: Path, *spare: Path) -> None:
        """Remove a file, and those that nobody needs.

        Raises:
            MeshKeyRefused: They cannot be removed.
        """
        removals = [partial(_remove, one) for one in (path, *spare)]
        await self._change(path, f"remove {path} yourself", *removals)

    async def _change(
        self, path: Path, remedy: str, *changes: Callable[[], None]
    ) -> None:
        """Change files, off the loop as disks may be slow; what is there is in force.

        Raises:
            MeshKeyRefused: They cannot be written.
        """
        try:
            for change in changes:
                await asyncio.to_thread(change)
        except OSError as exc:
            reason = f"cannot be written: {(exc.strerror or 'no reason given').lower()}"
            hint = f"{remedy}, {_GOES_ON}"
            raise MeshKeyRefused(str(path), reason, hint) from exc
        finally:
            self.check(asked=True)

    # Following the files.

    async def watch(
        self, interval: float = WATCH_INTERVAL, sleep: Sleep = sleep_or_wake
    ) -> None:
        """Follow the files until cancelled.

        Args:
            interval: Seconds between two looks.
            sleep: Waits that long, or until the event is set.
        """
        await follow(
            lambda asked: self.check(asked=asked), self.reload, interval, sleep
        )

    def check(self, *, asked: bool = False) -> None:
        """Look at the files once.

        Args:
            asked: Read them even if they look the same, and say again if they
                cannot be used.
        """
        if asked:
            self._failure = ""
        # What failed is tried again each time: the failure may pass.
        if self._watch.changed() or asked or self._failure:
            self._follow()

    def _follow(self) -> None:
        try:
            found = self._read()
        except ConfigError as exc:
            self._failed(exc)
            return
        self._failure = ""
        if found != self.ring:
            self.ring = found
            self._tell()
            self.changed()

    def _tell(self) -> None:
        phase, text = self.ring.phase.value, str(self.ring)
        logger.info("mesh keys: %s: %s", phase, text)
        if self._journal is not None:
            named = self.ring.fingerprints().items()
            keys = {name: value for name, value in named if value is not None}
            text = f"{phase}: {text}"
            self._journal.add(Kind.KEY_PHASE, text=text, phase=phase, **keys)

    def _start(self) -> MeshRing:
        """Read the files; without the other two a node can do, for the moment.

        Raises:
            ConfigError: The key that is sent cannot be used.
        """
        current = load_mesh_key(self._path)
        try:
            return self._read()
        except ConfigError as exc:
            self._failed(exc)
            return MeshRing(current)

    def _read(self) -> MeshRing:
        """Read the files until two readings are alike: somebody may be changing them.

        Raises:
            ConfigError: One of them cannot be used.
        """
        found = self._read_once()
        for _ in range(_READINGS):
            again = self._read_once()
            if again == found:
                break
            found = again
        return found

    def _read_once(self) -> MeshRing:
        current = load_mesh_key(self._path)
        return MeshRing.of(
            current, find_mesh_key(self._next), find_mesh_key(self._previous)
        )

    def _failed(self, exc: ConfigError) -> None:
        if str(exc) != self._failure:
            self._failure = str(exc)
            logger.warning("%s; the mesh keys in use stay", exc)


def proves_nothing(candidate: bytes | None) -> bool:
    """Tell that a peer has no mesh right, where there is no mesh key."""
    del candidate
    return False


def _write(path: Path, key: MeshKey) -> None:
    write_atomically(path, f"{key.text()}\n".encode(), mode=_MODE)
    _sync(path.parent)


def _move(path: Path, to: Path) -> None:
    path.replace(to)
    _sync(to.parent)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """See that a change of names outlives a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
