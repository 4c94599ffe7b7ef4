"""The account of what waits: whatever happens to receivers, it is right in the end."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derpnode.plane.contract import Closed, PlaneLimits
from derpnode.wire.frames import FrameType, encode_frame
from tests.node.plane import frames
from tests.node.plane.scene import A, B, C, Scene


CAP = 12 << 20
BLOCKING = 6
"""Fillers for each receiver; the kernel takes some of them."""

receivers = st.sampled_from([B, C])
sizes = st.sampled_from([0, 100, 1000, 30_000, 65_536])
steps = st.one_of(
    st.tuples(st.just("packets"), receivers, st.integers(1, 60), sizes),
    st.tuples(st.just("disco"), receivers, st.integers(1, 60)),
    st.tuples(st.just("send"), receivers, sizes),
    st.tuples(
        st.sampled_from(
            ["ping", "read", "read_all", "close", "abort", "leave", "break"]
        ),
        receivers,
    ),
)


class Play:
    """Does one thing after another to two receivers that are blocked at first."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.unread = {B: BLOCKING, C: BLOCKING}

    async def begin(self, *, tls: bool) -> None:
        """Block the receivers."""
        self.sender = await self.scene.client(A)
        self.here = {key: await self.scene.client(key, tls=tls) for key in (B, C)}
        for peer in self.here.values():
            self.scene.block(peer, megabytes=BLOCKING)
        await self.sender.before_pong()

    async def step(self, what: str, key, *details) -> None:
        """Do one thing, if it can still be done; see that the account is possible."""
        if key in self.here:
            await getattr(self, f"_{what}")(self.here[key], key, *details)
        await self.sender.before_pong()
        assert 0 <= self.scene.counters.queued_bytes <= CAP

    async def _packets(self, _, key, count: int, size: int) -> None:
        await self.sender.send(frames.send(key, bytes(size)) * count)

    async def _disco(self, _, key, count: int) -> None:
        await self.sender.send(frames.send(key, frames.disco()) * count)

    async def _send(self, peer, _, size: int) -> None:
        self.scene.plane.send(peer.id, encode_frame(FrameType.HEALTH, bytes(size)))

    async def _ping(self, peer, _) -> None:
        await peer.send(frames.ping(b"and now?") * 3)

    async def _read(self, peer, key) -> None:
        if self.unread[key]:
            self.unread[key] -= 1
            await peer.frame()

    async def _read_all(self, peer, key) -> None:
        self.unread[key] = 0
        await peer.before_pong(b"all read")

    async def _close(self, peer, key) -> None:
        del self.here[key]
        self.scene.plane.close(peer.id, "drained")
        await peer.rest()
        peer.close()

    async def _abort(self, peer, key) -> None:
        del self.here[key]
        self.scene.plane.close(peer.id, "out", abort=True)

    async def _leave(self, peer, key) -> None:
        del self.here[key]
        peer.close()

    async def _break(self, peer, key) -> None:
        del self.here[key]
        peer.reset()

    async def end(self) -> None:
        """Let those that are left read all, and see that nothing is owed."""
        for peer in self.here.values():
            await peer.before_pong(b"all read")
        await self.scene.recorder.until(
            lambda: len(self.scene.recorder.of(Closed)) == 2 - len(self.here)
        )
        counters = self.scene.counters
        assert counters.queued_bytes == 0
        received = counters.packets_received_disco + counters.packets_received_other
        assert received == counters.packets_sent + counters.dropped_packets.total()


@pytest.mark.timeout(3600)  # for a deep look
@settings(
    max_examples=settings.default.max_examples // 4,  # each moves 12 MiB
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(steps, max_size=12), st.booleans())
async def test_account(plane, script, tls):
    """It is never below nothing nor above the cap, and in the end it is nothing."""
    async with Scene(plane, PlaneLimits(queued_bytes=CAP, write_timeout=30)) as scene:
        play = Play(scene)
        await play.begin(tls=tls)
        for step in script:
            await play.step(*step)
        await play.end()
