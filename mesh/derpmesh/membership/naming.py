"""A name for a node that was given none: the first free letter of its region.

Whoever creates the intent of a name first has it; etcd judges that. Names of nodes that
were taken out are not given again, as their clients may still have the old map.
"""

import asyncio
import itertools
import logging
import string
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from derpmesh.etcd.client import Etcd
from derpmesh.etcd.errors import EtcdError
from derpmesh.membership.edits import node_edit
from derpmesh.membership.keys import Keys
from derpmesh.membership.model import Member
from derpmesh.membership.records import BadRecord, NodeIntent, RegionIntent
from derpmesh.membership.store import stored
from derpnode.config import AUTO_NAME, NodeName
from derpnode.errors import ConfigError
from derpnode.server.identity import write_atomically


logger = logging.getLogger(__name__)

NAME_FILE = "node.name"

_NAME: TypeAdapter[str] = TypeAdapter(NodeName)

Entry = Callable[[str], Member]
"""Gives the node as others must know it, under a name."""


def candidates(region_id: int) -> Iterator[str]:
    """Yield names by custom: 900a to 900z, then 900aa and so on."""
    for size in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=size):
            yield f"{region_id}{''.join(letters)}"


def remembered_name(folder: Path) -> str | None:
    """Give the name that the node was given before; None if it was none."""
    try:
        text = (folder / NAME_FILE).read_text("ascii").strip()
        name = _NAME.validate_python(text)
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    return name if name != AUTO_NAME else None


class Naming:
    """Finds a name for a node.

    Args:
        etcd: Where names are taken.
        keys: Of the region.
        region_id: What names begin with.
        server_key: `nodekey:…` of the node: how it knows a name that it took already.
        entry: Describes the node under a name.
        backoff: Starts a fresh run of retry delays, in seconds.
        sleep: Waits that long.
    """

    def __init__(  # noqa: PLR0913 - what it needs, one by one
        self,
        etcd: Etcd,
        keys: Keys,
        region_id: int,
        *,
        server_key: str,
        entry: Entry,
        backoff: Callable[[], Iterator[float]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._region_id = region_id
        self._server_key = server_key
        self._entry = entry
        self._backoff = backoff
        self._sleep = sleep

    async def find(self, folder: Path) -> str:
        """Give the name of the node, for as long as that takes; it is remembered.

        Args:
            folder: The state directory.

        Raises:
            ConfigError: It is remembered by a name of another region.
        """
        name = remembered_name(folder)
        if name is not None and not self._is_of_this_region(name):
            value = str(folder / NAME_FILE)
            reason = f"it says {name}, a name of another region than {self._region_id}"
            hint = "set region.id back, or remove the file to have a new name"
            raise ConfigError("node.name", value, reason, hint)
        if name is not None:
            return name
        said = ""
        delays = self._backoff()
        while True:
            try:
                name = await self._take()
            except (EtcdError, BadRecord) as exc:
                if str(exc) != said:
                    said = str(exc)
                    logger.warning("etcd: waiting for a name: %s", exc)
            else:
                if name is not None:
                    write_atomically(
                        folder / NAME_FILE, f"{name}\n".encode(), mode=0o600
                    )
                    return name
                said = self._refused(said)
            await self._sleep(next(delays))

    def _is_of_this_region(self, name: str) -> bool:
        return name.rstrip(string.ascii_lowercase) == str(self._region_id)

    def _refused(self, said: str) -> str:
        reason = "the region takes listed nodes only; an operator may open it"
        if reason != said:
            logger.warning("etcd: waiting for a name: %s", reason)
        return reason

    async def _take(self) -> str | None:
        """Take the first free name; None if the region gives none."""
        listing = await self._etcd.range_prefix(self._keys.of("intent", ""))
        taken: set[str] = set()
        for item in listing.items:
            place = self._keys.read(item.key)
            if place is None:
                continue
            taken.add(place[1])
            if self._is_own(item.key, item.value):
                return place[1]
        region = await self._etcd.get(self._keys.region)
        if region is not None:
            join = RegionIntent.read(self._keys.region, region.value).join
            if join != "open":
                return None
        return await self._create(taken)

    def _is_own(self, key: bytes, value: bytes) -> bool:
        """Whether a name was taken by this node, which did not get to note it."""
        try:
            intent = NodeIntent.read(key, value)
        except BadRecord:
            return False
        return intent.server_key == self._server_key and not intent.removed

    async def _create(self, taken: Collection[str]) -> str:
        for name in candidates(self._region_id):
            if name in taken:
                continue
            intent = NodeIntent(
                node=self._entry(name), author=name, server_key=self._server_key
            )
            key = self._keys.of("intent", name)
            also = stored(self._keys, node_edit(None, intent, name))
            if await self._etcd.txn_put(key, intent.write(), 0, also=also) is not None:
                logger.info("etcd: this node is %s from now on", name)
                return name
        raise AssertionError  # there is no last name
