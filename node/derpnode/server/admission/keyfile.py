"""A watched file of node keys: who is in it may relay."""

import logging
from collections.abc import Callable
from pathlib import Path

from derpnode.errors import ConfigError
from derpnode.server.admission.verdict import Source, Verdict
from derpnode.server.watch import FileWatch, Sleep, follow, sleep_or_wake
from derpnode.wire.errors import BadKeyText
from derpnode.wire.keys import NodeKey, parse_node_key


logger = logging.getLogger(__name__)

WATCH_INTERVAL = 1.0
"""Seconds between looks at the file; a change is in force after two looks."""

_SETTING = "admission.key_file"

Removed = Callable[[frozenset[NodeKey]], None]
"""Told which keys have left the file."""


class KeyFile(Source):
    """One `nodekey:…` a line; `#` begins a comment; blank lines are nothing.

    A file that cannot be read, or has a broken line, changes nothing: the
    last good set stays in force, and the log says so. An empty file is good,
    and admits nobody.

    Args:
        path: The file.
        on_removed: Told of keys that left it. Their clients are to be
            disconnected, unless another source still allows them.

    Raises:
        ConfigError: The file cannot be used now, at the start.
    """

    def __init__(
        self, path: Path, *, on_removed: Removed = lambda removed: None
    ) -> None:
        super().__init__("key_file")
        self._path = path
        self._on_removed = on_removed
        self._watch = FileWatch(path)
        self._failure = ""  # why the file cannot be used, as we have said it
        self.keys = read_keys(path)
        self._yes = self.allow("in the file")
        self._no = self.deny("not in the file")

    def look(self, key: NodeKey) -> Verdict:
        """Say whether the key is in the file."""
        return self._yes if key in self.keys else self._no

    async def ask(self, key: NodeKey, ip: str) -> Verdict:
        """Say whether the key is in the file."""
        return self.look(key)

    async def watch(
        self, interval: float = WATCH_INTERVAL, sleep: Sleep = sleep_or_wake
    ) -> None:
        """Follow the file until cancelled.

        Args:
            interval: Seconds between two looks.
            sleep: Waits that long, or until the event is set.
        """
        await follow(
            lambda asked: self.check(asked=asked), self.reload, interval, sleep
        )

    def check(self, *, asked: bool = False) -> None:
        """Look at the file once.

        Args:
            asked: Read it even if it looks the same, and say again if it
                cannot be used.
        """
        if asked:
            self._failure = ""
        # One that failed is tried again each time: the failure may pass.
        if self._watch.changed() or asked or self._failure:
            self._read()

    def _read(self) -> None:
        try:
            found = read_keys(self._path)
        except ConfigError as exc:
            if str(exc) != self._failure:
                self._failure = str(exc)
                logger.warning("%s; the %d keys in use stay", exc, len(self.keys))
            return
        self._failure = ""
        removed, added = self.keys - found, found - self.keys
        self.keys = found
        if removed or added:
            logger.info("key file: %d keys added, %d removed", len(added), len(removed))
        if removed:
            self._on_removed(removed)


def read_keys(path: Path) -> frozenset[NodeKey]:
    """Read a file of keys, all or nothing.

    Raises:
        ConfigError: It cannot be read, or a line is broken: which, and why.
    """
    try:
        text = path.read_text("utf-8-sig")  # Windows editors write the mark
    except OSError as exc:
        reason = f"cannot be read: {(exc.strerror or 'no reason given').lower()}"
        hint = "check the path, and that the user that runs derpd may read it"
        raise ConfigError(_SETTING, str(path), reason, hint) from exc
    except UnicodeDecodeError as exc:
        reason, hint = "not UTF-8 text", "write one nodekey:… a line"
        raise ConfigError(_SETTING, str(path), reason, hint) from exc
    keys: set[NodeKey] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if entry:
            keys.add(_parse(path, number, entry))
    return frozenset(keys)


def _parse(path: Path, number: int, entry: str) -> NodeKey:
    try:
        return parse_node_key(entry)
    except BadKeyText as exc:
        # The line is not shown: somebody may have put a private key there.
        reason = f"line {number}: {exc}"
        hint = "write nodekey: and 64 hex digits, as `tailscale status --json` does"
        raise ConfigError(_SETTING, str(path), reason, hint) from None
