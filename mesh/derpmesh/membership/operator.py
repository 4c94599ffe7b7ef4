"""What operators do to a region in etcd: read intents, write them, take them out."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from derpmesh.config import EtcdSection
from derpmesh.etcd.client import Etcd
from derpmesh.etcd.endpoint import load_transport
from derpmesh.etcd.errors import ClientMissing, EtcdError, FileUnusable
from derpmesh.etcd.login import Credentials
from derpmesh.etcd.tls import client_context
from derpmesh.membership.errors import RegistryUnavailable
from derpmesh.membership.keys import Keys
from derpmesh.membership.records import NodeIntent
from derpnode.errors import ConfigError


@dataclass(frozen=True)
class Found:
    """An intent, and the revision at which it was written."""

    intent: NodeIntent
    revision: int


class Operator:
    """Writes the intents of one region; see `operating`."""

    def __init__(self, client: Etcd, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def nodes(self) -> Mapping[str, Found]:
        """Give every intent, by name.

        Raises:
            RegistryUnavailable: etcd does not answer.
            BadRecord: One is none.
        """
        prefix = self._keys.of("intent", "")
        try:
            listing = await self._client.range_prefix(prefix)
        except EtcdError as exc:
            raise RegistryUnavailable("etcd", str(exc)) from exc
        found: dict[str, Found] = {}
        for item in listing.items:
            place = self._keys.read(item.key)
            if place is not None:
                intent = NodeIntent.read(item.key, item.value)
                found[place[1]] = Found(intent, item.mod_revision)
        return found

    async def put(self, intent: NodeIntent, revision: int) -> bool:
        """Write an intent, if it is as it was read; say whether.

        Args:
            intent: What is wanted.
            revision: That of the intent that was read; 0: there was none.

        Raises:
            RegistryUnavailable: etcd does not answer, or that cannot be known.
        """
        key = self._keys.of("intent", intent.owner)
        try:
            done = await self._client.txn_put(key, intent.write(), revision)
        except EtcdError as exc:
            raise RegistryUnavailable("etcd", str(exc)) from exc
        return done is not None


@asynccontextmanager
async def operating(settings: EtcdSection, region_id: int) -> AsyncGenerator[Operator]:
    """Be an operator of a region until the block ends.

    Raises:
        ConfigError: A file for etcd cannot be used.
    """
    client = client_of(settings)
    try:
        yield Operator(client, Keys(settings.prefix, region_id))
    finally:
        await client.close()


def client_of(settings: EtcdSection) -> Etcd:
    """Make a client; it asks nothing before it is asked.

    Raises:
        ConfigError: A file for etcd cannot be used, or what speaks to etcd is missing.
    """
    try:
        load_transport()
    except ClientMissing as exc:
        endpoints = ", ".join(settings.endpoints)
        raise ConfigError("registry.etcd", endpoints, exc.reason, exc.hint) from exc
    credentials = None
    if settings.user is not None and settings.password_file is not None:
        credentials = Credentials(settings.user, settings.password_file)
    try:
        tls = client_context(settings.ca_file, settings.certificate, settings.key)
    except FileUnusable as exc:
        raise ConfigError("registry.etcd", exc.path, exc.reason, exc.hint) from exc
    return Etcd(settings.endpoints, credentials=credentials, tls=tls)
