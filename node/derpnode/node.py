"""One node: built from its parts, run, and brought to an orderly end."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Set
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from derpnode import __version__
from derpnode.config import Address, NodeConfig
from derpnode.errors import ConfigError
from derpnode.plane.contract import (
    AcceptLimits,
    ConnectionId,
    Endpoint,
    ListenerId,
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
    self_signed_files,
)
from derpnode.server.front import Front, Role
from derpnode.server.goodbye import say_goodbye
from derpnode.server.identity import load_identity, load_mesh_key
from derpnode.server.logins import Logins
from derpnode.server.mapentry import map_entry, ready_node_line
from derpnode.server.readiness import Readiness
from derpnode.server.selfcheck import check_itself
from derpnode.server.stun import StunServer
from derpnode.server.switchboard import Switchboard
from derpnode.wire.frames import MAX_SEND
from derpnode.wire.keys import NodeKey, node_key_text
from derpnode.wire.metacert import meta_certificate


logger = logging.getLogger(__name__)

_FRONT_TICK = 0.25  # seconds between looks at the deadlines of guests


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """A relay and STUN server. Build it in a running loop, then `run` it.

    Args:
        config: Its settings.

    Raises:
        ConfigError: Something it needs cannot be used; nothing was started.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.version = __version__
        self.started_at = _now()
        self._started = time.monotonic()
        identity = load_identity(config.state_dir)
        self.server_key = identity.public
        mesh_file = config.mesh.key_file
        mesh_key = load_mesh_key(mesh_file) if mesh_file is not None else None
        self.has_mesh_key = mesh_key is not None
        self.certificates = self._certificates()
        self._meta = meta_certificate(
            self.server_key, now=_now(), signer=Ed25519PrivateKey.generate()
        )
        self.admission = make_admission(config.admission, on_removed=self._removed)
        self.switchboard = Switchboard(time.monotonic, _receive_limit(config))
        self.plane = PythonPlane(
            self.switchboard.events, _plane_limits(config), asyncio.get_running_loop()
        )
        self.relay = Relay(self.switchboard, self.server_key)
        self.logins = Logins(
            identity,
            mesh_key,
            self.admission,
            disallowed=config.derp.disallow_app_names,
            clock=time.monotonic,
            spawn=self._spawn,
        )
        self.front = Front(
            self.plane,
            Site(config.derp.enabled, config.derp.home),
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
            StunServer(config.stun.listen, serving=lambda: self.state == "serving")
            if config.stun.enabled
            else None
        )
        self._admin = AdminServer(self)
        self._public: dict[ListenerId, Endpoint] = {}
        self._http: dict[ListenerId, Endpoint] = {}
        self._ports: dict[Address, int] = {}
        self._internal: Endpoint | None = None
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # What it says of itself.

    @property
    def state(self) -> str:
        """One of `starting`, `serving`, `unready`, `draining`."""
        if self._stopping.is_set():
            return "draining"
        if self.readiness.ready:
            return "serving"
        return "starting" if self.readiness.failure == "starting" else "unready"

    @property
    def reasons(self) -> list[str]:
        """Why the node is not serving; empty while it is."""
        if self._stopping.is_set():
            return ["stopping"]
        return [self.readiness.failure] if self.readiness.failure is not None else []

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def listeners(self) -> dict[str, list[str]]:
        """Addresses in use, by kind."""
        stun = zip(self.config.stun.listen, self.stun.ports if self.stun else ())
        return {
            "derp": [str(Address(*found)) for found in self._public.values()],
            "http": [str(Address(*found)) for found in self._http.values()],
            "stun": [str(Address(listen.host, port)) for listen, port in stun],
            "admin": self._admin.addresses,
        }

    def map_entry(self) -> dict[str, object]:
        """This node as a `DERPNode`."""
        return map_entry(self.config, self._identity, self._derp_port, self._stun_port)

    @property
    def _identity(self) -> TlsIdentity | None:
        return self.certificates.current if self.certificates is not None else None

    @property
    def _derp_port(self) -> int:
        first = self.config.derp.listen[0]
        return self._ports.get(first, first.port)

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
            self._listen()
            await self._admin.start()
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                background = [tasks.create_task(job) for job in self._jobs()]
                self._announce()
                await self._stopping.wait()
                await self._drain()
                for task in background:
                    task.cancel()
        finally:
            await self._close()

    def stop(self) -> None:
        """Begin an orderly end; the second call ends at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    def reload(self) -> None:
        """Read certificate and key files again, now."""
        if self.certificates is not None:
            self.certificates.reload.set()
        self.admission.reload()

    def _jobs(self) -> list[Coroutine[None, None, None]]:
        jobs = [
            self.readiness.run(asyncio.sleep),
            self._front_ticks(),
            BootstrapNames(self.config.bootstrap_dns.names, self._publish).run(
                asyncio.sleep
            ),
            self.admission.watch(),
        ]
        if self.certificates is not None:
            jobs.append(self.certificates.watch())
        return jobs

    async def _front_ticks(self) -> None:
        while True:
            await asyncio.sleep(_FRONT_TICK)
            self.front.tick()

    def _announce(self) -> None:
        line = ready_node_line(
            self.config, self._identity, self._derp_port, self._stun_port
        )
        logger.info("node %s: for the DERP map: %s", self.config.node.name, line)
        logger.info("node key %s", node_key_text(self.server_key))
        if self.config.admission.mode == "open":
            logger.warning("admission is open: whoever can reach this node may relay")

    async def _drain(self) -> None:
        self._close_public()
        goodbye = say_goodbye(
            self.relay,
            self.plane,
            grace=self.config.drain_grace,
            send=self.switchboard.send,
            sleep=self._pause,
        )
        await goodbye

    async def _pause(self, delay: float) -> None:
        """Wait, unless the end is to come at once."""
        try:
            async with asyncio.timeout(delay):
                await self._at_once.wait()
        except TimeoutError:
            pass

    async def _close(self) -> None:
        self.plane.shutdown()
        if self.stun is not None:
            self.stun.close()
        await self._admin.close()
        await self.admission.close()
        logger.info("node %s: stopped", self.config.node.name)

    # Listeners and certificates.

    def _certificates(self) -> Certificates | None:
        if self.config.tls_mode == "off":
            return None
        files = certificate_files(self.config) or self_signed_files(
            self.config.state_dir, self.config.node.host
        )
        return Certificates(files, now=_now, on_change=self._new_certificate)

    def _server_tls(self) -> ServerTls | None:
        identity = self._identity
        return identity.server_tls(self._meta) if identity is not None else None

    def _new_certificate(self, identity: TlsIdentity) -> None:
        for listener, role in self.front.roles.items():
            if role is not Role.HTTP:
                self.plane.set_tls(listener, identity.server_tls(self._meta))

    def _listen(self) -> None:
        """Open everything, or nothing."""
        loopback = Endpoint("127.0.0.1", 0)
        listener, self._internal = self.plane.listen(
            loopback, self._server_tls(), AcceptLimits()
        )
        self.front.roles[listener] = Role.INTERNAL
        self._open_public()
        if self.config.http.enabled and self.config.tls_mode != "off":
            self._open(self.config.http.listen, Role.HTTP, "http.listen")
        if self.stun is not None:
            self.stun.start()

    def _open_public(self) -> None:
        self._open(self.config.derp.listen, Role.RELAY, "derp.listen")

    def _open(self, addresses: list[Address], role: Role, setting: str) -> None:
        opened = self._http if role is Role.HTTP else self._public
        tls = self._server_tls() if role is Role.RELAY else None
        for address in addresses:
            # A port that the kernel chose stays ours when we open it again.
            port = self._ports.get(address, address.port)
            try:
                listener, bound = self.plane.listen(
                    Endpoint(address.host, port), tls, _accept_limits(self.config)
                )
            except OSError as exc:
                raise ConfigError(
                    setting,
                    str(address),
                    reason=f"cannot listen: {exc.strerror}",
                    hint="free the port, choose another, or allow low ports "
                    "(CAP_NET_BIND_SERVICE)",
                ) from exc
            self._ports[address] = bound.port
            opened[listener] = Endpoint(address.host, bound.port)
            self.front.roles[listener] = role

    def _close_public(self) -> None:
        for listener in self._public:
            self.plane.stop(listener)
            del self.front.roles[listener]
        self._public.clear()

    # Readiness.

    async def _check(self) -> str | None:
        if self._internal is None:
            return "not listening"
        key = self.server_key if self.config.derp.enabled else None
        return await check_itself(
            self._internal, key, tls=self.certificates is not None
        )

    def _ready_changed(self, ready: bool) -> None:
        if self._stopping.is_set():
            return
        if not ready:
            self._close_public()
        elif not self._public:
            logger.info("readiness: well again; opening the public listeners")
            self._open_public()

    # Small events.

    def _publish(self, names: dict[str, list[str]]) -> None:
        site = self.front.site
        self.front.site = Site(site.derp_enabled, site.home, names)

    def _spawn(self, job: Coroutine[None, None, None]) -> None:
        if self._tasks is None:
            job.close()
        else:
            self._tasks.create_task(job)

    def _removed(self, keys: Set[NodeKey]) -> None:
        """Ask again about clients whose key left the file."""
        self.admission.forget(keys)
        self._spawn(self._reconsider(keys))

    async def _reconsider(self, keys: Set[NodeKey]) -> None:
        """Close those that no other source allows."""
        for key in keys:
            for connection in self.relay.connections_of(key):
                client = self.relay.client(connection)
                if client is None or client.mesh:
                    continue
                verdict = await self.admission.decide(key, client.host)
                if not verdict.allowed:
                    logger.info("%s: removed; closing", node_key_text(key))
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


def _accept_limits(config: NodeConfig) -> AcceptLimits:
    limits = config.limits
    return AcceptLimits(
        rate=limits.accept_rate,
        burst=limits.accept_burst,
        handshakes=limits.handshakes,
        source_handshakes=limits.source_handshakes,
        source_connections=limits.source_connections,
        connections=limits.connections,
    )
