"""The TCP listeners of a node: opened together, closed for clients, opened again."""

from collections.abc import Callable, MutableMapping, Sequence

from derpnode.config import Address, NodeConfig
from derpnode.errors import ConfigError
from derpnode.plane.contract import (
    AcceptLimits,
    Endpoint,
    ListenerId,
    Plane,
    ServerTls,
)
from derpnode.server.front import Role


class Listeners:
    """Opens and closes what a node listens on.

    Args:
        plane: Accepts.
        config: Addresses and caps.
        roles: Told what each listener is for.
        tls: Gives what handshakes prove now; None serves in the clear.
    """

    def __init__(
        self,
        plane: Plane,
        config: NodeConfig,
        roles: MutableMapping[ListenerId, Role],
        tls: Callable[[], ServerTls | None],
    ) -> None:
        self._plane = plane
        self._config = config
        self._roles = roles
        self._tls = tls
        self._open: dict[ListenerId, Endpoint] = {}
        self._ports: dict[tuple[Role, Address], int] = {}
        self.internal = Endpoint("", 0)
        """Where the node asks itself whether it relays."""

    def start(self, *, public: bool = True) -> None:
        """Open everything.

        Args:
            public: Whether to take clients at once.

        Raises:
            ConfigError: An address cannot be bound.
        """
        loopback = Endpoint("127.0.0.1", 0)
        listener, self.internal = self._plane.listen(
            loopback, self._tls(), AcceptLimits()
        )
        self._roles[listener] = Role.INTERNAL
        if public:
            self.open_public()
        if self._config.has_http_port:
            self._listen(self._config.http.listen, Role.HTTP, "http.listen")

    def open_public(self) -> None:
        """Take clients, on the ports that were had before if there were any.

        Raises:
            ConfigError: An address cannot be bound. None is, then.
        """
        if self.is_public:
            return
        try:
            self._listen(self._config.derp.listen, Role.RELAY, "derp.listen")
        except ConfigError:
            self.close_public()
            raise

    def close_public(self) -> None:
        """Take what is in the backlog, then refuse: clients go to the next node."""
        for listener in self._of(Role.RELAY):
            self._plane.stop(listener)
            del self._roles[listener], self._open[listener]

    @property
    def is_public(self) -> bool:
        """Whether clients can connect."""
        return bool(self._of(Role.RELAY))

    def use(self, tls: ServerTls) -> None:
        """Prove this in handshakes that begin from now on."""
        for listener, role in self._roles.items():
            if role is not Role.HTTP:
                self._plane.set_tls(listener, tls)

    def addresses(self, role: Role) -> list[str]:
        """Addresses in use for one role."""
        return [str(Address(*self._open[found])) for found in self._of(role)]

    @property
    def derp_port(self) -> int:
        """The relay's port, as bound; also while it is closed."""
        first = self._config.derp.listen[0]
        return self._ports.get((Role.RELAY, first), first.port)

    def _of(self, role: Role) -> list[ListenerId]:
        return [found for found in self._open if self._roles[found] is role]

    def _listen(self, addresses: Sequence[Address], role: Role, setting: str) -> None:
        tls = self._tls() if role is Role.RELAY else None
        limits = _accept_limits(self._config)
        for address in addresses:
            # A port that the kernel chose stays ours when we open it again.
            port = self._ports.get((role, address), address.port)
            try:
                listener, bound = self._plane.listen(
                    Endpoint(address.host, port), tls, limits
                )
            except OSError as exc:
                raise ConfigError(
                    setting,
                    str(address),
                    reason=f"cannot listen: {exc.strerror}",
                    hint="free the port, choose another, or allow low ports "
                    "(CAP_NET_BIND_SERVICE)",
                ) from exc
            self._ports[role, address] = bound.port
            self._open[listener] = Endpoint(address.host, bound.port)
            self._roles[listener] = role


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
