"""Probes one node, layer by layer, as a client would come to it."""

import asyncio
import contextlib
import ipaddress
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from derpctl.probe.checks import Result
from derpctl.probe.record import Draft, Record
from derpctl.probe.services import captive_portal, latency_check, stun_check
from derpctl.probe.target import Target
from derpnode.client import (
    DIAL_TIMEOUT,
    Client,
    Received,
    Relay,
    RelayFailed,
    ResolveFailed,
    ServerKeyFailed,
    Stream,
    connect,
    hello,
)
from derpnode.config import is_ip
from derpnode.wire.handshake import ClientInfo
from derpnode.wire.keys import (
    KEY_SIZE,
    MeshKey,
    NodeKey,
    PrivateKey,
    node_key_text,
)


_STABILITY = 5  # connections that must all show one server key
_PACKET_SIZE = 1_200  # bytes; about what tailscaled puts into one


@dataclass
class NodeProbe:
    """One probe of one node."""

    target: Target
    count: int
    """Pings, and packets."""
    timeout: float
    """Seconds for one step."""
    mesh_key: MeshKey | None = None
    """Proves the mesh right, for nodes that admit no strangers."""
    record: Record = field(default_factory=Record)

    async def run(self) -> Result:
        """Walk up the layers; what stands on a layer that failed is left out."""
        addresses = await self._resolve()
        reachable = await self._dial(addresses)
        if reachable is not None:
            relay = replace(self.target.relay, addresses=[reachable])
            stream = await self._secure(relay)
            if stream is not None:
                await self._climb(relay, stream)
                await latency_check(self.record, relay, self.timeout)
        await captive_portal(self.record, self.target, addresses[4], self.timeout)
        await stun_check(self.record, self.target, addresses, self.timeout)
        return Result(self.target.name, str(self.target.relay), self.record.checks)

    async def _resolve(self) -> dict[int, str | None]:
        """Find an address of each family, and compare DNS with the map."""
        relay = self.target.relay
        given, found = list(relay.addresses), list[str]()
        if is_ip(relay.host):
            self.record.skip("dns", "the host is an address")
            given = given or [relay.host]
        else:
            async with self.record.check("dns") as draft:
                found = await replace(relay, addresses=()).resolve(within=self.timeout)
                draft.detail = ", ".join(found)
                missing = sorted(set(given) - set(found))
                if missing:
                    reason = f"the map says {', '.join(missing)}, and DNS does not"
                    hint = f"DNS says {', '.join(found)}; correct one of them"
                    raise ResolveFailed(relay.host, reason, hint)
        first: dict[int, str | None] = {4: None, 6: None}
        for ip in [*found[::-1], *given[::-1]]:  # the last that is put there stays
            family = ipaddress.ip_address(ip).version
            if family in self.target.families:
                first[family] = ip
        return first

    async def _dial(self, addresses: dict[int, str | None]) -> str | None:
        """Dial each family; give the first address that answers."""
        reachable: list[str] = []
        for family, ip in addresses.items():
            if ip is None:
                self.record.skip(f"tcp{family}", f"no IPv{family} address")
                continue
            async with self.record.check(f"tcp{family}") as draft:
                sock = await self.target.relay.dial(ip, within=self._dial_timeout)
                sock.close()
                draft.detail = ip
                reachable.append(ip)
        if not reachable:
            dialled = [ip for ip in addresses.values() if ip is not None]
            nothing = "there is no address to dial"
            tried = f"nothing answers on port {self.target.relay.port}"
            self.record.fail("tcp", tried if dialled else nothing)
        return next(iter(reachable), None)

    async def _secure(self, relay: Relay) -> Stream | None:
        layer = "tls" if relay.tls is not None else "connect"
        async with self.record.check(layer) as draft:
            stream = await relay.open(within=self.timeout)
            _describe(draft, stream, datetime.now(UTC))
            return stream
        return None

    async def _climb(self, relay: Relay, stream: Stream) -> None:
        """Log in step by step, then try what only a client can."""
        try:
            logged_in = await self._log_in(stream)
        finally:
            await stream.close()
        if logged_in:
            await self._identity(relay)
            certificates = stream.certificates
            early = certificates is not None and certificates.fast_start_key is not None
            await self._relay(relay, "fast-start" if early else "login-again")

    async def _log_in(self, stream: Stream) -> bool:
        async with self.record.check("http") as draft:
            await stream.upgrade(within=self.timeout)
            draft.detail = "101 Switching Protocols"
        if draft.failed:
            return False
        key: NodeKey | None = None
        async with self.record.check("server-key") as draft:
            key = await stream.server_key(within=self.timeout)
            draft.detail = node_key_text(key)
            draft.values = {"server_key": draft.detail}
        if key is None:
            return False
        self._meta(stream)
        async with self.record.check("login") as draft:
            private, info = _private(), ClientInfo(self._secret, is_prober=True)
            said = hello(info, private, key)
            await stream.login(private, key, said, within=self.timeout)
            draft.detail = "as a throw-away key"
        return not draft.failed

    def _meta(self, stream: Stream) -> None:
        """Note it; that its key is the server's was checked with the server's."""
        if stream.certificates is None:
            self.record.skip("meta-certificate", "there is no TLS")
        elif stream.certificates.meta_key is None:
            lost = "none in the chain, so each login costs a round trip more"
            self.record.fail("meta-certificate", lost)
        else:
            self.record.note("meta-certificate", "has the server key")

    async def _identity(self, relay: Relay) -> None:
        """Check that one address leads to one node, the one that we mean."""
        async with self.record.check("identity") as draft:
            keys = {await self._look(relay) for _ in range(_STABILITY)}
            if len(keys) > 1:
                reason = f"{len(keys)} server keys on {_STABILITY} connections"
                hint = "one address must lead to one node, with no balancer"
                raise ServerKeyFailed(str(relay), reason, hint)
            expected = self.target.server_key
            if expected not in {None, *keys}:
                reason = f"its key is {', '.join(keys)}, the node's is {expected}"
                hint = "another node listens there"
                raise ServerKeyFailed(str(relay), reason, hint)
            draft.detail = f"one server key on {_STABILITY} connections"

    async def _look(self, relay: Relay) -> str:
        stream = await relay.open(within=self.timeout)
        try:
            await stream.upgrade(within=self.timeout)
            return node_key_text(await stream.server_key(within=self.timeout))
        finally:
            await stream.close()

    async def _relay(self, relay: Relay, layer: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            first: Client | None = None
            async with self.record.check(layer):
                first = await stack.enter_async_context(self._somebody(relay))
            if first is None:
                return
            async with self.record.check("ping") as draft:
                draft.trips(
                    [await first.ping(within=self.timeout) for _ in range(self.count)]
                )
            async with self.record.check("relay") as draft:
                second = await stack.enter_async_context(self._somebody(relay))
                draft.trips(
                    [await self._echo(first, second) for _ in range(self.count)]
                )

    def _somebody(self, relay: Relay) -> contextlib.AbstractAsyncContextManager[Client]:
        return connect(
            relay.host,
            relay.port,
            private=_private(),
            tls=relay.tls,
            addresses=relay.addresses,
            mesh_key=self.mesh_key,
            is_prober=True,
            timeout=self.timeout,
        )

    async def _echo(self, first: Client, second: Client) -> float:
        """Send a packet there and back; give the seconds it took."""
        clock = asyncio.get_running_loop().time
        packet, started = os.urandom(_PACKET_SIZE), clock()
        where = str(self.target.relay)
        try:
            async with asyncio.timeout(self.timeout):
                for sender, receiver in ((first, second), (second, first)):
                    await sender.send(receiver.key, packet)
                    await _expect(receiver, Received(sender.key, packet))
        except TimeoutError as exc:
            reason = f"a packet did not arrive in {self.timeout:g} s"
            raise RelayFailed(where, reason, "see the node's drop counters") from exc
        return clock() - started

    @property
    def _secret(self) -> bytes | None:
        return self.mesh_key.secret if self.mesh_key is not None else None

    @property
    def _dial_timeout(self) -> float:
        return min(self.timeout, DIAL_TIMEOUT)


async def _expect(client: Client, wanted: Received) -> None:
    while await client.recv() != wanted:
        pass  # keepalives, and what strangers send to a throw-away key


def _private() -> PrivateKey:
    return PrivateKey.from_seed(os.urandom(KEY_SIZE))


def _describe(draft: Draft, stream: Stream, now: datetime) -> None:
    found = stream.certificates
    if found is None:
        draft.detail = "plain HTTP, no TLS"
        return
    days = (found.not_after - now).days
    plural = "" if found.count == 1 else "s"
    draft.detail = (
        f"{found.tls_version}, {found.count} certificate{plural}, {days} days"
    )
    draft.values = {
        "tls_version": found.tls_version,
        "certificates": found.count,
        "not_after": found.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "pin": found.pin,
    }
