"""From ClientInfo to yes or no: the proof, the mesh right, and admission."""

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol

from derpnode.errors import ProtocolError
from derpnode.plane.contract import Endpoint
from derpnode.server.admission.chain import Admission
from derpnode.server.replay import ReplayGuard
from derpnode.wire.handshake import Login, open_client_info
from derpnode.wire.keys import KEY_SIZE, PrivateKey, short_key


logger = logging.getLogger(__name__)

_ALL_ONES = b"\xff" * KEY_SIZE

Spawn = Callable[[Coroutine[None, None, None]], None]


class Visitor(Protocol):
    """Somebody who wants to log in. A call for one who left does nothing."""

    @property
    def peer(self) -> Endpoint:
        """Where it comes from."""

    def admit(self, login: Login, *, mesh: bool) -> None:
        """Let it in."""

    def refuse(self, reason: str) -> None:
        """Close it."""


class Logins:
    """Decides who gets in.

    Args:
        identity: The node's key.
        is_mesh_key: Tells whether a peer proved a key that gives the mesh right.
        admission: Asked for everybody else.
        disallowed: App names that are refused. Self-declared, so advisory.
        clock: Seconds, monotonic.
        spawn: Runs a question to admission in the background.
    """

    def __init__(
        self,
        identity: PrivateKey,
        is_mesh_key: Callable[[bytes | None], bool],
        admission: Admission,
        *,
        disallowed: Iterable[str],
        clock: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        self._identity = identity
        self._is_mesh_key = is_mesh_key
        self._admission = admission
        self._disallowed = frozenset(name.strip() for name in disallowed) - {""}
        self._clock = clock
        self._spawn = spawn
        self.replays = ReplayGuard()
        self.outcomes: Counter[str] = Counter()
        """Logins by how they ended: `ok`, `mesh`, or why they were refused."""

    def begin(self, payload: bytes, visitor: Visitor) -> None:
        """Judge the payload of a ClientInfo frame; answers now or later."""
        try:
            login = open_client_info(payload, self._identity)
        except ProtocolError as exc:
            self._refuse(visitor, "handshake", str(exc))
            return
        mesh = self._is_mesh_key(login.info.mesh_key)
        flaw = self._flaw(login, mesh=mesh)
        if flaw is not None:
            self._refuse(visitor, *flaw)
        elif mesh:
            self.outcomes["mesh"] += 1
            visitor.admit(login, mesh=True)
        else:
            self._ask(login, visitor)

    def _flaw(self, login: Login, *, mesh: bool) -> tuple[str, str] | None:
        """Say what is wrong with a login before anybody is asked."""
        if login.key == _ALL_ONES:
            return "key", "the key is no point"
        if login.key == self._identity.public and not mesh:
            return "key", "the key is this node's own"
        if not self.replays.is_new(login.key, login.nonce, self._clock()):
            return "replay", "this login was seen before"
        if not mesh and login.info.app_name in self._disallowed:
            return "app_name", f"app name {login.info.app_name!r} is not allowed"
        return None

    def _ask(self, login: Login, visitor: Visitor) -> None:
        verdict = self._admission.known(login.key, visitor.peer.host)
        if verdict is None:
            self._spawn(self._decide(login, visitor))
        elif verdict.allowed:
            self.outcomes["ok"] += 1
            visitor.admit(login, mesh=False)
        else:
            self._refuse(visitor, "admission", verdict.reason)

    async def _decide(self, login: Login, visitor: Visitor) -> None:
        verdict = await self._admission.decide(login.key, visitor.peer.host)
        if verdict.allowed:
            self.outcomes["ok"] += 1
            visitor.admit(login, mesh=False)
        else:
            self._refuse(visitor, "admission", verdict.reason)

    def _refuse(self, visitor: Visitor, outcome: str, reason: str) -> None:
        self.outcomes[outcome] += 1
        logger.debug("%s: %s; closing", visitor.peer.host, reason)
        visitor.refuse(reason)


def who(login: Login) -> str:
    """Name a login in a log."""
    return short_key(login.key)
