"""Where a node has its region from, as its settings say."""

import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import repeat
from typing import Protocol

from derpmesh.config import DaemonConfig, EtcdSection
from derpmesh.etcd.client import Etcd
from derpmesh.link.backoff import delays
from derpmesh.membership.command import Command
from derpmesh.membership.enrol import Enrolment
from derpmesh.membership.etcd import EtcdRegistry
from derpmesh.membership.file import INTERVAL, FileRegistry
from derpmesh.membership.hold import Hold
from derpmesh.membership.keys import Keys
from derpmesh.membership.leader import Leadership
from derpmesh.membership.model import Member, Region
from derpmesh.membership.naming import Naming
from derpmesh.membership.operator import client_of
from derpmesh.membership.ports import Registry
from derpmesh.membership.records import LiveMember, LiveStatus, RegionIntent
from derpmesh.membership.status import Reporter
from derpnode.config import Address, parse_address
from derpnode.relay.relay import Relay
from derpnode.server.certificates import load_current
from derpnode.server.identity import load_identity
from derpnode.server.journal import Journal
from derpnode.server.mapentry import map_entry
from derpnode.server.meshkeys import MeshKeys
from derpnode.server.region import RegionPort
from derpnode.wire.keys import NodeKey, node_key_text


class Self(Protocol):
    """The node, as far as it is recorded."""

    version: str
    server_key: NodeKey
    journal: Journal
    mesh_keys: MeshKeys | None

    @property
    def state(self) -> str:
        """One of `starting`, `serving`, `unready`, `draining`, `drained`."""

    def map_entry(self) -> dict[str, object]:
        """This node as a `DERPNode`."""

    @property
    def relay(self) -> Relay:
        """Who is connected to it."""

    @property
    def region(self) -> RegionPort:
        """Its links."""


@dataclass(frozen=True)
class Source:
    """A registry, and what goes with it."""

    name: str
    """`file` or `etcd`."""

    registry: Registry
    backoff: Callable[[], Iterator[float]]
    """Starts the delays between two attempts to read it."""

    hold: Hold | None = None
    """What doubts it; None: what it says is the operator's own word."""

    etcd: EtcdRegistry | None = None
    enrolment: Enrolment | None = None
    """Records this node."""

    reporter: Reporter | None = None
    command: Command | None = None
    """What the leader says."""

    client: Etcd | None = None

    def jobs(self) -> list[Coroutine[None, None, None]]:
        """What runs beside the node until it ends."""
        found = [] if self.enrolment is None else [self._enrol(self.enrolment)]
        return [*found, *([] if self.reporter is None else [self.reporter.run()])]

    async def _enrol(self, enrolment: Enrolment) -> None:
        try:
            await enrolment.run()
        finally:
            if self.client is not None:
                await self.client.close()

    def notes(self, *, is_lost: bool) -> list[str]:
        """Say what an operator should look at, a line each.

        Args:
            is_lost: Whether the registry is away, which explains a part of it.
        """
        found: list[str] = []
        if self.enrolment is not None and self.enrolment.problem and not is_lost:
            found.append(f"etcd: this node is not recorded: {self.enrolment.problem}")
        if self.etcd is not None:
            found += [f"etcd: {key} is no record of ours" for key in self.etcd.bad]
        if self.hold is not None:
            what = [*self.hold.held]
            if self.hold.held_clients:
                what.append(f"rules for {self.hold.held_clients} clients")
            if what:
                found.append(
                    f"held: {', '.join(what)} vanished from the registry and stay in"
                    " force; if that is meant: derpctl region confirm"
                )
        return found


def source_of(config: DaemonConfig, node: Self) -> Source | None:
    """Make what the settings ask for; None if the region is recorded nowhere.

    Raises:
        ConfigError: A file for etcd cannot be used.
    """
    registry = config.registry
    if registry.file is not None:
        # A look at a broken file costs nothing, so it is looked at all the time.
        return Source("file", FileRegistry(registry.file), lambda: repeat(INTERVAL))
    if registry.etcd is not None:
        return _etcd(config, registry.etcd, node)
    return None


def _etcd(config: DaemonConfig, settings: EtcdSection, node: Self) -> Source:
    client = client_of(settings)
    keys = Keys(settings.prefix, config.region.id)
    region = Region(**config.region.model_dump(include={"id", "code", "name"}))
    instance = secrets.token_hex(8)
    admin = admin_url(config)

    def about(epoch: int) -> LiveMember:
        entry = node.map_entry()
        return LiveMember(
            name=config.node.name,
            server_key=node_key_text(node.server_key),
            instance=instance,
            epoch=epoch,
            version=node.version,
            state=node.state,
            pin=str(entry["CertName"]) if "CertName" in entry else None,
            admin=admin,
            mesh_keys=node.mesh_keys.fingerprints() if node.mesh_keys else None,
        )

    found = EtcdRegistry(client, keys, region)
    enrolment = Enrolment(
        client,
        keys,
        RegionIntent(**region.model_dump(), author=config.node.name),
        entry=lambda: Member.of(node.map_entry(), admin=admin),
        about=about,
        ttl=settings.ttl,
        backoff=delays,
        journal=node.journal,
        lost=found.lost,
    )
    reporter = Reporter(
        client,
        keys,
        lease=lambda: enrolment.lease,
        about=lambda count: _status(config.node.name, node, count),
    )
    name = config.node.name

    def heard(record: LiveStatus) -> None:
        if record.name == name:
            reporter.heard(record)

    found.heard = heard
    leadership = Leadership(client, keys, name, instance, lambda: enrolment.lease)
    return Source(
        "etcd",
        found,
        delays,
        Hold(time.monotonic),
        found,
        enrolment,
        reporter,
        Command(name, keys, found, leadership),
        client,
    )


def member_of(config: DaemonConfig) -> Member:
    """Describe a node by its settings; makes its certificate if need be.

    Raises:
        ConfigError: Its certificate cannot be used, or made.
    """
    entry = map_entry(
        config,
        load_current(config),
        config.derp.listen[0].port,
        config.stun.listen[0].port if config.stun.enabled else None,
    )
    return Member.of(entry, admin=admin_url(config))


async def named(config: DaemonConfig) -> DaemonConfig:
    """Give the settings of a node with the name that etcd gives it.

    Raises:
        ConfigError: A file cannot be used.
    """
    settings = config.registry.etcd
    if settings is None:
        return config
    identity = load_identity(config.state_dir)
    client = client_of(settings)
    naming = Naming(
        client,
        Keys(settings.prefix, config.region.id),
        config.region.id,
        server_key=node_key_text(identity.public),
        entry=lambda name: member_of(called(config, name)),
        backoff=delays,
    )
    try:
        return called(config, await naming.find(config.state_dir))
    finally:
        await client.close()


def called(config: DaemonConfig, name: str) -> DaemonConfig:
    """Give the settings of a node under another name."""
    node = config.node.model_copy(update={"name": name})
    return config.model_copy(update={"node": node})


def _status(name: str, node: Self, count: int) -> LiveStatus:
    links = {str(link["peer"]): str(link["state"]) for link in node.region.links()}
    clients = sum(not client.mesh for client in node.relay.clients())
    strays = dict(node.region.strays())
    return LiveStatus(
        name=name, count=count, clients=clients, links=links, strays=strays
    )


def admin_url(config: DaemonConfig) -> str | None:
    """Give where other machines reach the admin listener, if they can.

    One that listens to every address is where clients find the node. Off loopback
    there is always TLS. A node whose clients are all on its machine is asked there.
    """
    for address in map(parse_address, config.admin.listen):
        if address.is_loopback and address.port and config.is_loopback:
            return f"http://{address}"
        if not address.is_loopback:
            host = address.host
            if not host or ip_address(host).is_unspecified:
                host = config.node.host
            host = config.admin.host or host
            return f"https://{Address(host, address.port)}"
    return None
