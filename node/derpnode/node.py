"""One node: built from its parts, run, and brought to an orderly end."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from derpnode import __version__
from derpnode.config import Address, NodeConfig
from derpnode.document import Document
from derpnode.errors import ConfigError, LastServingNode
from derpnode.kinds import Kind
from derpnode.plane.contract import (
    ConnectionId,
    Plane,
    PlaneLimits,
    ReceiveLimit,
    ServerTls,
)
from derpnode.plane.python.plane import PythonPlane
from derpnode.relay.relay import Relay
from derpnode.server.admin import AdminServer
from derpnode.server.admission.sources import make_admission
from derpnode.server.answers import Site
from derpnode.server.bootstrap import BootstrapNames
from derpnode.server.certificates import (
    Certificates,
    TlsIdentity,
    certificate_files,
)
from derpnode.server.front import Front, Role
from derpnode.server.goodbye import say_goodbye
from derpnode.server.identity import load_identity
from derpnode.server.journal import Journal
from derpnode.server.listeners import Listeners
from derpnode.server.logins import Logins
from derpnode.server.mapentry import map_entry, ready_node_line
from derpnode.server.meshkeys import MeshKeys, proves_nothing
from derpnode.server.readiness import Readiness
from derpnode.server.region import Alone, RegionPort
from derpnode.server.selfcheck import check_itself
from derpnode.server.servicemanager import ServiceManager
from derpnode.server.stun import StunServer
from derpnode.server.switchboard import Switchboard
from derpnode.wire.frames import MAX_SEND
from derpnode.wire.keys import NodeKey, node_key_text, short_key
from derpnode.wire.metacert import meta_certificate
from derpnode.wire.payloads import restarting


logger = logging.getLogger(__name__)

MOVE_TRY = 10.0
"""Seconds for which a client that is moved should try to connect again."""

_FRONT_TICK = 0.25  # seconds between looks at the deadlines of guests


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """A relay and STUN server. Build it in a running loop, then `run` it.

    Args:
        config: Its settings.
        manager: Told how it fares; None: nobody is.

    Raises:
        ConfigError: Something it needs cannot be used; nothing was started.
    """

    starts_drained = False
    """Whether it takes no clients from the start; set before `run`."""

    _trouble = ""  # why it is not ready, as was told; empty: it was told to be

    def __init__(
        self, config: NodeConfig, manager: ServiceManager | None = None
    ) -> None:
        self.config = config
        self._manager = manager or ServiceManager({})
        self.version = __version__
        self.started_at = _now()
        self._started = time.monotonic()
        self.journal = Journal(_now)
        """What happened to it; others add to it what they have to tell."""

        self.identity = load_identity(config.state_dir)
        self.server_key = self.identity.public
        mesh_file = config.mesh.key_file
        self.mesh_keys = MeshKeys(mesh_file, self.journal) if mesh_file else None
        self.certificates = self._certificates()
        self._meta = meta_certificate(
            self.server_key, now=_now(), signer=Ed25519PrivateKey.generate()
        )
        self.admission = make_admission(config.admission, on_removed=self._removed)
        self.switchboard = Switchboard(time.monotonic, _receive_limit(config))
        self.plane: Plane = PythonPlane(
            self.switchboard.events, _plane_limits(config), asyncio.get_running_loop()
        )
        self.relay = Relay(self.switchboard, self.server_key)
        self.logins = Logins(
            self.identity,
            self.mesh_keys.accepts if self.mesh_keys is not None else proves_nothing,
            self.admission,
            disallowed=config.derp.disallow_app_names,
            clock=time.monotonic,
            spawn=self.spawn,
        )
        self.front = Front(
            self.plane,
            self._site(),
            self.server_key,
            self.logins,
            admitted=self.switchboard.admitted,
            session=self.switchboard.session,
            clock=time.monotonic,
            wall=lambda: _now().timestamp(),
        )
        self.switchboard.join(self.plane, self.relay, self.front, self.logins)
        self.readiness = Readiness(self._check, self._ready_changed)
        self.stun = (
            StunServer(config.stun.listen, serving=self._answers_stun)
            if config.stun.enabled
            else None
        )
        self._admin = AdminServer(self)
        self._ports = Listeners(self.plane, config, self.front.roles, self._server_tls)
        self.region: RegionPort = Alone()
        """The other nodes; set before `run`."""

        self._draining: asyncio.Task[None] | None = None
        self._stopping, self._at_once = asyncio.Event(), asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._spawned: set[asyncio.Task[None]] = set()

    # What it says of itself.

    @property
    def state(self) -> str:
        """One of `starting`, `serving`, `unready`, `draining`, `drained`."""
        if self._stopping.is_set():
            return "draining"
        if self._draining is not None:
            return "drained" if self._draining.done() else "draining"
        if self.readiness.ready:
            return "serving"
        return "starting" if self.readiness.failure == "starting" else "unready"

    @property
    def reasons(self) -> list[str]:
        """Why the node is not serving; empty while it is."""
        if self._stopping.is_set():
            return ["stopping"]
        if self._draining is not None:
            return ["an operator asked for a drain"]
        return [self.readiness.failure] if self.readiness.failure is not None else []

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def listeners(self) -> dict[str, list[str]]:
        """Addresses in use, by kind."""
        stun = zip(
            self.config.stun.listen, self.stun.ports if self.stun else (), strict=False
        )
        return {
            "derp": self._ports.addresses(Role.RELAY),
            "http": self._ports.addresses(Role.HTTP),
            "stun": [str(Address(listen.host, port)) for listen, port in stun],
            "admin": self._admin.addresses,
        }

    def map_entry(self) -> dict[str, object]:
        """This node as a `DERPNode`."""
        return map_entry(
            self.config, self._identity, self._ports.derp_port, self._stun_port
        )

    @property
    def _identity(self) -> TlsIdentity | None:
        return self.certificates.current if self.certificates is not None else None

    @property
    def _stun_port(self) -> int | None:
        return self.stun.ports[0] if self.stun is not None else None

    # Running.

    async def run(self) -> None:
        """Serve until `stop`, then send the clients elsewhere.

        Raises:
            ConfigError: An address cannot be bound; nothing is left behind.
        """
        try:
            self._ports.start(public=not self.starts_drained)
            if self.stun is not None:
                self.stun.start()
            await self._admin.start()
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                if self.starts_drained:
                    self._draining = tasks.create_task(self._goodbye("", 0.0))
                background = [tasks.create_task(job) for job in self._jobs()]
                self._announce()
                if self.starts_drained:
                    self.journal.add(Kind.DRAINED, text="it is to take no clients")
                await self._stopping.wait()
                self.journal.add(Kind.STOPPING, text="it is told to stop")
                self._ports.close_public()
                self.region.changed()
                await self._goodbye("this relay is restarting", self.config.drain_grace)
                for task in (*background, *self._spawned):
                    task.cancel()
                if self._draining is not None:
                    self._draining.cancel()
        finally:
            self._tasks = None
            await self._close()

    def stop(self) -> None:
        """Begin an orderly end; the second call ends at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    def reload(self) -> None:
        """Read certificate and key files again, now."""
        self._manager.reloading()
        if self.certificates is not None:
            self.certificates.reload.set()
        if self.mesh_keys is not None:
            self.mesh_keys.reload.set()
        self.admission.reload()
        self._admin.reload()
        self._manager.reloaded()

    def _jobs(self) -> list[Coroutine[None, None, None]]:
        jobs = [
            self.readiness.run(asyncio.sleep),
            self._front_ticks(),
            BootstrapNames(self.config.bootstrap_dns.names, self._publish).run(
                asyncio.sleep
            ),
            self.admission.watch(),
            self._manager.run(self.journal),
        ]
        if self.certificates is not None:
            jobs.append(self.certificates.watch())
        if self.mesh_keys is not None:
            jobs.append(self.mesh_keys.watch())
        return [*jobs, *self.region.jobs()]

    async def _front_ticks(self) -> None:
        while True:
            await asyncio.sleep(_FRONT_TICK)
            self.front.tick()
            self.switchboard.tick()

    def _announce(self) -> None:
        line = ready_node_line(
            self.config, self._identity, self._ports.derp_port, self._stun_port
        )
        logger.info("node %s: for the DERP map: %s", self.config.node.name, line)
        logger.info("node key %s", node_key_text(self.server_key))
        self.journal.add(
            Kind.STARTED, text=f"derpd {self.version}", version=self.version
        )
        if self.config.admission.mode == "open":
            logger.warning("admission is open: whoever can reach this node may relay")
        elif not self.config.admission.sources:
            logger.warning(
                "admission has no source: only clients that the region's list lets in "
                "may relay"
            )

    # Sending clients elsewhere.

    def drain(self, *, grace: float, force: bool = False) -> None:
        """Refuse new clients and send those that are here to the other nodes.

        Args:
            grace: Seconds that it may take.
            force: Also when no other node takes clients.

        Raises:
            LastServingNode: No other node takes clients.
        """
        if self._draining is not None or self._tasks is None:
            return
        if self.region.siblings_serving == 0 and not force:
            raise LastServingNode(self.config.node.name)
        logger.warning("node %s: draining", self.config.node.name)
        text = f"clients are sent elsewhere, within {grace:g} s"
        self.journal.add(Kind.DRAINING, text=text, grace=grace, force=force)
        self._ports.close_public()
        self._draining = self._tasks.create_task(self._empty(grace))
        self.region.changed()

    def undrain(self) -> None:
        """Take clients again."""
        if self._draining is None:
            return
        logger.warning("node %s: taking clients again", self.config.node.name)
        self.journal.add(Kind.UNDRAINED, text="it takes clients again")
        self._draining.cancel()
        self._draining = None
        if self.readiness.ready and not self._stopping.is_set():
            self._open_public()
        self.region.changed()

    async def _empty(self, grace: float) -> None:
        await self._goodbye("this relay is in maintenance", grace)
        self.journal.add(Kind.DRAINED, text="its clients were sent elsewhere")

    async def _goodbye(self, text: str, grace: float) -> None:
        await say_goodbye(
            self.relay,
            self.plane,
            text=text,
            grace=grace,
            siblings=self.region.siblings_serving,
            send=self.switchboard.send,
            sleep=self._pause,
        )

    def _answers_stun(self) -> bool:
        """Whether clients may measure this node: it, or a sibling, takes them."""
        if self.state == "serving":
            return self.readiness.well
        is_leaving = self._stopping.is_set() or self._draining is not None
        return is_leaving and self.region.siblings_serving > 0

    async def _pause(self, delay: float) -> None:
        """Wait, unless the end is to come at once."""
        try:
            async with asyncio.timeout(delay):
                await self._at_once.wait()
        except TimeoutError:
            pass

    async def _close(self) -> None:
        self.region.close()
        await self._admin.close()
        self.plane.shutdown()
        if self.stun is not None:
            self.stun.close()
        await self.admission.close()
        logger.info("node %s: stopped", self.config.node.name)

    def _site(self) -> Site:
        derp = self.config.derp
        derp_map = self._derp_map if derp.serve_map else None
        return Site(derp.enabled, derp.home, derp_map=derp_map)

    def _derp_map(self) -> Document | None:
        return self.region.derp_map()  # which comes later than the front

    # Listeners and certificates.

    def _certificates(self) -> Certificates | None:
        files = certificate_files(self.config)
        if files is None:
            return None
        return Certificates(files, now=_now, on_change=self._new_certificate)

    def _server_tls(self) -> ServerTls | None:
        identity = self._identity
        return identity.server_tls(self._meta) if identity is not None else None

    def _new_certificate(self, identity: TlsIdentity) -> None:
        self._ports.use(identity.server_tls(self._meta))

    # Readiness.

    async def _check(self) -> str | None:
        key = self.server_key if self.config.derp.enabled else None
        name = self.config.node.host if self.certificates is not None else None
        return await check_itself(self._ports.internal, key, server_name=name)

    def _ready_changed(self, ready: bool) -> None:
        if self._stopping.is_set() or self._draining is not None:
            return
        if not ready:
            self._ports.close_public()
            self._unready(self.readiness.failure or "")
        elif self._ports.is_public:
            logger.info("node %s: serving", self.config.node.name)
            self._serves()
        else:
            logger.info("readiness: well again; opening the public listeners")
            self._open_public()

    def _open_public(self) -> None:
        try:
            self._ports.open_public()
        except ConfigError as exc:  # somebody took the port meanwhile
            logger.warning("%s; trying again", exc)
            self.readiness.failed(str(exc))
            self._unready(str(exc))
        else:
            self._serves()

    def _unready(self, trouble: str) -> None:
        if trouble != self._trouble:  # or each attempt would be an event
            self.journal.add(Kind.UNREADY, text=trouble)
        self._trouble = trouble

    def _serves(self) -> None:
        self._trouble = ""
        self.journal.add(Kind.SERVING, text="it takes clients")

    # Small events.

    def _publish(self, names: dict[str, list[str]]) -> None:
        self.front.site = replace(self.front.site, bootstrap=names)

    def spawn(self, job: Coroutine[None, None, None]) -> None:
        """Run something in the background, for as long as the node runs."""
        if self._tasks is None:
            job.close()
            return
        task = self._tasks.create_task(job)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)

    def move(self, connections: Iterable[int], *, to: str) -> None:
        """Close connections, so that their clients go to the node they prefer.

        Args:
            connections: Those of clients.
            to: Name of that node.
        """
        for connection in connections:
            farewell = restarting(reconnect_in=0.0, try_for=MOVE_TRY)
            self.switchboard.send(connection, farewell)
            self.plane.close(ConnectionId(connection), f"its map prefers {to}")

    def rule_clients(self, rules: Mapping[NodeKey, bool]) -> None:
        """Let some clients in and keep others out, whatever admission says of them.

        Those that are here and may not be any more are disconnected.

        Args:
            rules: True lets a key in; these replace all former ones.
        """
        doubted = self.admission.rule(rules)
        if doubted:
            self.spawn(self._reconsider(doubted))

    def _removed(self, keys: Set[NodeKey]) -> None:
        """Ask again about clients whose key left the file."""
        self.admission.forget(keys)
        self.spawn(self._reconsider(keys))

    async def _reconsider(self, keys: Set[NodeKey]) -> None:
        """Close those that no other source allows."""
        for key in keys:
            for connection in self.relay.connections_of(key):
                client = self.relay.client(connection)
                if client is None or client.mesh:
                    continue
                verdict = await self.admission.decide(key, client.host)
                if not verdict.allowed:
                    logger.info("%s: removed; closing", short_key(key))
                    self.plane.close(ConnectionId(connection), "removed", abort=True)


def _receive_limit(config: NodeConfig) -> ReceiveLimit:
    """Source of the least burst: protocol.md 5.11, one frame at least."""
    limits = config.limits
    return ReceiveLimit(limits.receive_rate, max(limits.receive_burst, MAX_SEND))


def _plane_limits(config: NodeConfig) -> PlaneLimits:
    limits = config.limits
    return PlaneLimits(
        queued_bytes=limits.queued_bytes,
        write_timeout=limits.write_timeout,
        tcp_user_timeout=limits.tcp_user_timeout,
        tcp_keepalive=limits.tcp_keepalive,
    )
