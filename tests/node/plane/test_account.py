"""The account of what waits: whatever happens to receivers, it is right in the end."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derpnode.plane.contract import Closed, PlaneLimits
from derpnode.wire.frames import FrameType, encode_frame
from tests.node.plane import frames
from tests.node.plane.scene import FILLER, A, B, C, Scene


CAP = 12 << 20

who = st.sampled_from([B, C])
sizes = st.sampled_from([0, 100, 1000, 30_000, 65_536])
steps = st.one_of(
    st.tuples(st.just("packets"), who, st.integers(1, 60), sizes),
    st.tuples(st.just("disco"), who, st.integers(1, 60)),
    st.tuples(st.just("send"), who, sizes),
    st.tuples(st.just("ping"), who),
    st.tuples(st.just("read"), who),
    st.tuples(st.just("read_all"), who),
    st.tuples(st.just("close"), who),
    st.tuples(st.just("abort"), who),
    st.tuples(st.just("leave"), who),
    st.tuples(st.just("break"), who),
)


class Play:
    """Does one thing after another to two receivers that are blocked at first."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def begin(self, *, tls: bool) -> None:
        """Block the receivers."""
        self.sender = await self.scene.client(A)
        self.filler = {B: 6, C: 6}  # frames that are surely there to be read
        self.here = {key: await self.scene.client(key, tls=tls) for key in (B, C)}
        for peer in self.here.values():
            self.scene.plane.send(peer.id, FILLER * 6)
        await self.sender.before_pong()

    async def step(self, what: str, key, *details) -> None:
        """Do one thing, if it can still be done; see that the account is possible."""
        peer = self.here.get(key)
        if peer is not None:
            await getattr(self, f"_{what}")(peer, key, *details)
        await self.sender.before_pong()
        assert 0 <= self.scene.counters.queued_bytes <= CAP

    async def _packets(self, _, key, count: int, size: int) -> None:
        await self.sender.send(frames.send(key, bytes(size)) * count)

    async def _disco(self, _, key, count: int) -> None:
        await self.sender.send(frames.send(key, frames.disco()) * count)

    async def _send(self, peer, _, size: int) -> None:
        data = encode_frame(FrameType.HEALTH, bytes(size))
        self.scene.plane.send(peer.id, data)

    async def _ping(self, peer, _) -> None:
        await peer.send(frames.ping(b"and now?") * 3)

    async def _read(self, peer, key) -> None:
        if self.filler[key]:
            await peer.frame()
            self.filler[key] -= 1

    async def _read_all(self, peer, key) -> None:
        await peer.before_pong(b"all read")

    async def _close(self, peer, key) -> None:
        self.scene.plane.close(peer.id, "drained")
        del self.here[key]
        await peer.rest()
        peer.close()
        await self.scene.recorder.next(Closed, peer.id)

    async def _abort(self, peer, key) -> None:
        self.scene.plane.close(peer.id, "out", abort=True)
        del self.here[key]

    async def _leave(self, peer, key) -> None:
        peer.close()
        del self.here[key]

    async def _break(self, peer, key) -> None:
        peer.reset()
        del self.here[key]

    async def end(self) -> None:
        """Let those that are left read all, and see that nothing is owed."""
        for peer in self.here.values():
            await peer.before_pong(b"all read")
        await self.scene.recorder.until(
            lambda: len(self.scene.recorder.of(Closed)) == 2 - len(self.here)
        )
        assert self.scene.counters.queued_bytes == 0
        counters = self.scene.counters
        received = counters.packets_received_disco + counters.packets_received_other
        assert received == counters.packets_sent + counters.dropped_packets.total()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=12), st.booleans())
async def test_account(plane, script, tls):
    """It is never below nothing nor above the cap, and in the end it is nothing."""
    async with Scene(plane, PlaneLimits(queued_bytes=CAP, write_timeout=30)) as scene:
        play = Play(scene)
        await play.begin(tls=tls)
        for step in script:
            await play.step(*step)
        await play.end()
