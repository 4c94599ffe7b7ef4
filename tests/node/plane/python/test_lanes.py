"""The two lanes of a blocked receiver, without a receiver."""

from hypothesis import given
from hypothesis import strategies as st

from derpnode.plane.python.lanes import (
    DATA_AGE,
    DATA_BYTES,
    LANE_PACKETS,
    LINK_BYTES,
    Lanes,
)


def put(lanes: Lanes, frames: list[bytes], *, disco: bool = False) -> list[bytes]:
    """Add frames; give those that had to go."""
    return [old for frame in frames for old in lanes.put(frame, 0.0, disco=disco)]


def taken(lanes: Lanes, limit: int = 1 << 30) -> list[bytes]:
    """Remove frames."""
    return [waiting.frame for waiting in lanes.take(limit)]


def numbered(count: int, size: int) -> list[bytes]:
    """Frames of a size, that differ."""
    return [n.to_bytes(4).ljust(size, b".") for n in range(count)]


def test_empty():
    """Nothing is in it, and nothing comes out."""
    lanes = Lanes()
    assert (len(lanes), lanes.size) == (0, 0)
    assert lanes.take(100) == []
    assert lanes.drop_head() is None
    assert lanes.expire(1e9) == []
    assert list(lanes.clear()) == []


def test_packets_beside_bytes():
    """32 of any size fit, and then as many as fill 256 KiB."""
    large, small = numbered(32, 65_536), numbered(256, 1024)
    assert put(Lanes(), large) == []
    assert put(Lanes(), small) == []


def test_beyond_both():
    """The oldest go, until it is within one of the two again."""
    frames = numbered(40, 65_536)
    assert put(Lanes(), frames) == frames[:8]
    frames = numbered(300, 1024)
    assert put(Lanes(), frames) == frames[:44]


def test_more_room_for_a_link():
    """Many clients share it."""
    frames = numbered(1024, 1024)
    assert LINK_BYTES >= DATA_BYTES
    assert put(Lanes(LINK_BYTES), frames) == []


def test_disco_by_packets():
    """32, whatever their size."""
    frames = numbered(40, 62)
    assert put(Lanes(), frames, disco=True) == frames[:8]


def test_lanes_are_apart():
    """What one holds is no burden to the other."""
    lanes = Lanes()
    assert put(lanes, numbered(32, 65_536), disco=True) == []
    assert put(lanes, numbered(200, 1024)) == []
    assert len(lanes) == 232


def test_take_disco_first():
    """Then data, oldest first."""
    lanes = Lanes()
    put(lanes, [b"data 1", b"data 2"])
    put(lanes, [b"disco"], disco=True)
    assert taken(lanes) == [b"disco", b"data 1", b"data 2"]


def test_take_up_to_a_limit():
    """The frame that passes the limit is the last."""
    lanes = Lanes()
    put(lanes, [b"12345", b"67890", b"abcde"])
    assert taken(lanes, 6) == [b"12345", b"67890"]
    assert lanes.size == 5
    assert taken(lanes, 6) == [b"abcde"]


def test_take_says_since_when():
    """So that the wait can be measured."""
    lanes = Lanes()
    lanes.put(b"early", 1.0, disco=False)
    lanes.put(b"late", 2.5, disco=False)
    assert lanes.take(100) == [(b"early", 1.0), (b"late", 2.5)]


def test_drop_head():
    """Data before disco, oldest first."""
    lanes = Lanes()
    put(lanes, [b"disco"], disco=True)
    put(lanes, [b"data 1", b"data 2"])
    dropped = [lanes.drop_head() for _ in range(4)]
    assert dropped == [(b"data 1", False), (b"data 2", False), (b"disco", True), None]


def test_age():
    """Data that waited longer than it is worth goes; disco stays."""
    lanes = Lanes()
    lanes.put(b"disco", 0.0, disco=True)
    lanes.put(b"old", 0.0, disco=False)
    lanes.put(b"new", 1.0, disco=False)
    assert lanes.expire(DATA_AGE) == []
    assert lanes.expire(DATA_AGE + 0.1) == [b"old"]
    assert taken(lanes) == [b"disco", b"new"]


def test_clear():
    """Everything comes out, and which is disco."""
    lanes = Lanes()
    put(lanes, [b"data"])
    put(lanes, [b"disco"], disco=True)
    assert sorted(lanes.clear()) == [(b"data", False), (b"disco", True)]
    assert (len(lanes), lanes.size) == (0, 0)


class Inside:
    """What should be in the lanes: sizes, and whether they are disco."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.frames: list[tuple[int, bool]] = []

    def put(self, now: float, size: int, disco: bool) -> None:
        self.frames.append((size, disco))
        for old in self.lanes.put(bytes(size), now, disco=disco):
            self.frames.remove((len(old), disco))

    def take(self, _: float, limit: int) -> None:
        for frame, _since in self.lanes.take(limit):
            size = len(frame)
            self.frames.remove((size, (size, True) in self.frames))

    def drop(self, _: float) -> None:
        if (dropped := self.lanes.drop_head()) is not None:
            self.frames.remove((len(dropped[0]), dropped[1]))

    def expire(self, now: float) -> None:
        for old in self.lanes.expire(now):
            self.frames.remove((len(old), False))


steps = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 70_000), st.booleans()),
    st.tuples(st.just("take"), st.integers(1, 300_000)),
    st.tuples(st.sampled_from(["drop", "expire"])),
)


@given(st.lists(steps, max_size=150))
def test_account(script):
    """However they are used: the size is right, and no lane is beyond both limits."""
    inside = Inside()
    for n, (what, *details) in enumerate(script):
        getattr(inside, what)(n * 0.05, *details)
        data = [size for size, disco in inside.frames if not disco]
        assert inside.lanes.size == sum(size for size, _ in inside.frames)
        assert len(inside.lanes) == len(inside.frames)
        assert len(data) <= LANE_PACKETS or sum(data) <= DATA_BYTES
        assert len(inside.frames) - len(data) <= LANE_PACKETS
