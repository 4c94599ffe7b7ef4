"""Random sessions: what a plane delivers is what a small model says."""

from collections import Counter, defaultdict
from itertools import pairwise, zip_longest

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derpnode.plane.contract import (
    Closed,
    CloseReason,
    DropReason,
    FirstFrom,
    Flags,
    Frame,
    Packet,
    PlaneLimits,
)
from derpnode.wire.frames import FrameType, encode_frame, looks_like_disco
from derpnode.wire.keys import NodeKey
from tests.node.plane import frames
from tests.node.plane.peer import turn
from tests.node.plane.scene import ZERO, A, B, M, Scene
from tests.node.wire.strategies import damaged, packets


ABOVE = NodeKey(b"\xab" * 32)  # a client that is framed above
AWAY = NodeKey(b"\xaa" * 32)  # a client of the node behind our link
GUEST = NodeKey(b"\x67" * 32)  # a client of the node that has dialled us
NOWHERE = NodeKey(b"\xee" * 32)

HERE = {A, B, ABOVE}


# What is said: a type, and its payload as the sender writes it.

data = st.one_of(
    packets, st.binary(max_size=40).map(frames.disco), st.integers(0, 5000).map(bytes)
)
destinations = st.sampled_from([A, B, ABOVE, AWAY, NOWHERE])
sends = st.tuples(
    st.just(FrameType.SEND_PACKET), st.builds(bytes.__add__, destinations, data)
)
forwards = st.tuples(
    st.just(FrameType.FORWARD_PACKET),
    st.builds(
        lambda *parts: b"".join(parts),
        st.sampled_from([GUEST, ZERO]),
        destinations,
        data,
    ),
)
others = st.one_of(
    st.just((FrameType.NOTE_PREFERRED, b"\x01")),
    st.tuples(st.just(FrameType.PING), st.binary(min_size=8, max_size=20)),
    st.tuples(st.sampled_from([0x00, 0x03, 0xFE]), st.binary(max_size=100)),
    st.tuples(st.sampled_from([FrameType.KEEP_ALIVE, FrameType.PONG]), packets),
)
sessions = st.fixed_dictionaries(
    {
        A: st.lists(sends | others, max_size=15),
        B: st.lists(sends | others, max_size=15),
        M: st.lists(forwards | sends | others, max_size=15),
        ABOVE: st.lists(sends, max_size=5),
    }
)
cuts = st.fixed_dictionaries(
    {key: st.lists(st.floats(0, 1), max_size=8) for key in (A, B, M)}
)


# What comes of it.


class Model:
    """The rules, and nothing of sockets, turns and buffers."""

    def __init__(self) -> None:
        self.read = defaultdict(list)
        """Frames by who reads them; the order holds for those from one source."""

        self.passed_up = defaultdict(list)
        self.contacts = set()
        self.counters = Counter()
        self.dropped = Counter()

    def say(self, speaker: NodeKey, kind: int, payload: bytes) -> None:
        """Note what one frame leads to."""
        count = self.counters
        match kind:
            case FrameType.SEND_PACKET:
                to, packet = NodeKey(payload[:32]), payload[32:]
                disco = looks_like_disco(packet)
                count[f"packets_received_{'disco' if disco else 'other'}"] += 1
                count["bytes_received"] += len(packet)
                self._route(speaker, to, packet, forwarded=False)
            case FrameType.FORWARD_PACKET:
                source, to = NodeKey(payload[:32]), NodeKey(payload[32:64])
                count["forwarded_in"] += 1
                self._route(source, to, payload[64:], forwarded=True)
            case FrameType.NOTE_PREFERRED:
                self.passed_up[speaker].append((kind, payload))
            case FrameType.PING | FrameType.PONG | FrameType.KEEP_ALIVE:
                pass
            case _:
                count["unknown_frames"] += 1

    def _route(self, source, to, packet: bytes, *, forwarded: bool) -> None:
        if to in HERE:
            self.counters["packets_sent"] += 1
            self.counters["bytes_sent"] += len(packet)
            self.contacts.add((to, source))
            v1 = source == ZERO and to != ABOVE
            payload = packet if v1 else source + packet
            self.read[to].append((FrameType.RECV_PACKET, payload))
        elif to == AWAY and not forwarded:
            self.counters["forwarded_out"] += 1
            self.read[to].append(frames.forwarded(source, to, packet))
        else:
            why = (
                DropReason.UNKNOWN_DEST_ON_FWD if forwarded else DropReason.UNKNOWN_DEST
            )
            self.dropped[why, looks_like_disco(packet)] += 1


def by_source(read):
    """Keep frames apart that may come in any order; pongs may be left out."""
    found = defaultdict(list)
    for kind, payload in read:
        if kind != FrameType.PONG:
            found[kind, payload[:32]].append(payload)
    return found


def pieces(stream: bytes, where: list[float]) -> list[bytes]:
    """Cut a stream at parts of its length."""
    edges = [0, *sorted(int(at * len(stream)) for at in where), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


async def play(scene: Scene, session, where, *, tls: bool):
    """Act a session out; give what everybody read, and the ids of the peers."""
    peers = {
        A: await scene.client(A, tls=tls),
        B: await scene.client(B, tls=tls),
        M: await scene.client(M, Flags.MESH),
        AWAY: await scene.link(AWAY),
    }
    above = await scene.above(ABOVE)
    scripts = [
        [
            (peers[key], piece)
            for piece in pieces(b"".join(encode_frame(*f) for f in session[key]), cut)
        ]
        for key, cut in where.items()
    ]
    for pieces_of_all in zip_longest(*scripts):
        for peer, piece in filter(None, pieces_of_all):
            await peer.send(piece)
            await turn()
    for _, payload in session[ABOVE]:
        scene.plane.deliver(above.id, NodeKey(payload[:32]), payload[32:])
    read = defaultdict(list)
    for _ in range(2):  # first all of them are done, then all of it has come
        for key, peer in peers.items():
            read[key] += await peer.before_pong()
    for packet in scene.recorder.of(Packet, above.id):
        read[ABOVE].append(frames.received(packet.source, packet.data))
    return read, {peer.id: key for key, peer in peers.items()} | {above.id: ABOVE}


@pytest.mark.timeout(3600)  # for a deep look
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions, cuts, st.booleans())
async def test_random_sessions(plane, session, where, tls):
    """Whoever says what, however it is cut: the same is read, told and counted."""
    model = Model()
    for speaker, said in session.items():
        for frame in said:
            model.say(speaker, *frame)
    async with Scene(plane, PlaneLimits()) as scene:
        read, keys = await play(scene, session, where, tls=tls)
        for key in (A, B, AWAY, ABOVE):
            assert by_source(read[key]) == by_source(model.read[key])
        for connection, key in keys.items():
            told = scene.recorder.of(Frame, connection)
            assert [frame[1:] for frame in told] == model.passed_up[key]
        contacts = [(keys[e.id], e.source) for e in scene.recorder.of(FirstFrom)]
        assert sorted(contacts) == sorted(model.contacts)
        assert scene.recorder.of(Closed) == []
        counters = scene.counters
        for name, value in model.counters.items():
            assert (name, getattr(counters, name)) == (name, value)
        assert counters.dropped_packets == model.dropped


good = st.lists(sends | forwards | others, min_size=1, max_size=8).map(
    lambda said: b"".join(encode_frame(*frame) for frame in said)
)


@pytest.mark.timeout(3600)  # for a deep look
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged(good) | st.binary(min_size=1, max_size=300), st.booleans())
async def test_damaged_sessions(plane, stream, tls):
    """Whatever comes instead of frames, at most its sender loses its connection."""
    async with Scene(plane, PlaneLimits()) as scene:
        bystander = await scene.client(A)
        peer = await scene.client(B, Flags.MESH, tls=tls)
        peer.push(stream)
        peer.push(bytes(70_000))  # whole by now, whatever the last header said
        read = await bystander.before_pong()
        assert {kind for kind, _ in read} <= {FrameType.RECV_PACKET}
        for closed in scene.recorder.of(Closed):
            assert (closed.id, closed.reason) == (peer.id, CloseReason.PROTOCOL)
