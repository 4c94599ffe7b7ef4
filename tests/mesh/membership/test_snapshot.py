"""The last membership on disk, and what may have become of it."""

import dataclasses
import hashlib
import json
import stat

import pytest

from derpmesh.membership.model import Drain
from derpmesh.membership.snapshot import KEPT, Snapshots
from derpnode.wire.keys import NodeKey
from tests.mesh.membership.scene import REGION, A, B, C, member, membership


FULL = dataclasses.replace(
    membership(
        7,
        B,
        member(
            "a",
            ipv4="192.0.2.1",
            ipv6="none",
            derp_port=8443,
            stun_port=-1,
            can_port80=True,
            pin=f"sha256-raw:{'0123456789abcdef' * 4}",
            dial="10.0.0.1:4433",
            admin="https://10.0.0.1:9090",
        ),
    ),
    struck=frozenset({"901x"}),
    drains={"901b": Drain(grace=3, force=True), "901a": Drain()},
    clients={NodeKey(b"\x01" * 32): "deny", NodeKey(b"\x02" * 32): "none"},
    generation=3,
)


@pytest.fixture
def snapshots(tmp_path) -> Snapshots:
    """Those of one node."""
    return Snapshots(tmp_path, REGION.id)


def numbered(folder, number: int):
    """Give where one of them is."""
    return folder / f"membership.{number}.json"


def test_nothing_was_kept(snapshots, caplog):
    """As at the first start; that is no failure."""
    assert snapshots.load() is None
    assert caplog.messages == []


def test_it_is_as_it_was(snapshots):
    """Everything that is known of a region, and the order of its map."""
    snapshots.save(FULL)
    found = snapshots.load()
    assert found == FULL
    assert list(found.members) == ["901b", "901a"]


def test_nobody_else_reads_it(snapshots, tmp_path):
    """It says where the nodes are."""
    for number in range(KEPT + 1):
        snapshots.save(membership(number, A))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_three_are_kept(snapshots, tmp_path):
    """The newest is number 0; nothing else is left behind."""
    for revision in range(1, 6):
        snapshots.save(membership(revision, A))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "membership.0.json",
        "membership.1.json",
        "membership.2.json",
    ]
    revisions = []
    for number in range(KEPT):
        revisions.append(snapshots.load().revision)
        numbered(tmp_path, number).unlink()
    assert revisions == [5, 4, 3]


def spoil(path, how: str) -> None:
    """Do to a file what disks do."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut short": content[:-1],
            "a bit fell out": content[:middle]
            + bytes([content[middle] ^ 1])
            + content[middle + 1 :],
            "garbage": b"\xff\x00" * 99,
            "something follows": content + b" ",
        }[how]
    )


@pytest.mark.parametrize(
    "how", ["empty", "cut short", "a bit fell out", "garbage", "something follows"]
)
def test_file_that_is_not_whole(snapshots, tmp_path, caplog, how):
    """The one before it is used, and the file is named."""
    snapshots.save(membership(1, A))
    snapshots.save(membership(2, A, B))
    spoil(numbered(tmp_path, 0), how)
    assert snapshots.load() == membership(1, A)
    [message] = caplog.messages
    assert message == (
        f"snapshot: {numbered(tmp_path, 0)} cannot be used: its checksum is another"
    )


def test_every_file_is_broken(snapshots, tmp_path, caplog):
    """Then nothing is known; the node waits for its registry."""
    for number in range(KEPT):
        snapshots.save(membership(number, A))
    for number in range(KEPT):
        spoil(numbered(tmp_path, number), "cut short")
    assert snapshots.load() is None
    assert len(caplog.messages) == KEPT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        json.dumps({"members": 5}).encode(),
        json.dumps({"members": [{"name": "901a"}]}).encode(),
        json.dumps({"members": [], "revision": "x"}).encode(),
        json.dumps(
            {"members": [], "revision": 1, "region": {"id": 901}, "struck": None}
        ).encode(),
        json.dumps(
            {"members": [], "revision": 1, "region": {"id": 0}, "struck": []}
        ).encode(),
        *(
            json.dumps(
                {
                    "members": [],
                    "revision": 1,
                    "generation": 0,
                    "region": {"id": 901},
                    "struck": [],
                    **more,
                }
            ).encode()
            for more in (
                {"drains": []},
                {"drains": {"901a": 5}},
                {"clients": {"nodekey:12": "deny"}},
                {"clients": {f"nodekey:{'ab' * 32}": "perhaps"}},
            )
        ),
    ],
)
def test_file_that_is_whole_and_no_snapshot(snapshots, tmp_path, body):
    """Whoever wrote it: it is skipped."""
    snapshots.save(membership(1, A))
    snapshots.save(membership(2, A))
    checksum = hashlib.sha256(body).hexdigest().encode()
    numbered(tmp_path, 0).write_bytes(checksum + b"\n" + body)
    assert snapshots.load() == membership(1, A)


def test_snapshot_of_another_region(snapshots, tmp_path):
    """Of the node's life before; it is not meshed with that."""
    Snapshots(tmp_path, 950).save(membership(9, A, B, C))
    assert snapshots.load() == membership(9, A, B, C)
    assert Snapshots(tmp_path, 950).load() is None


def test_disk_that_is_full(snapshots, tmp_path, caplog):
    """What was kept stays, and the node goes on."""
    snapshots.save(membership(1, A))
    tmp_path.joinpath("membership.0.new").symlink_to("/dev/full")
    snapshots.save(membership(2, A, B))
    assert snapshots.load() == membership(1, A)
    assert caplog.messages == [
        f"snapshot: {numbered(tmp_path, 0)}: No space left on device"
    ]


def test_folder_that_is_none(tmp_path, caplog):
    """Neither to write to nor to read from."""
    tmp_path.joinpath("file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        snapshots = Snapshots(folder, REGION.id)
        snapshots.save(membership(1, A))
        assert snapshots.load() is None
    assert any("No such file or directory" in one for one in caplog.messages)
    assert any("Not a directory" in one for one in caplog.messages)


def test_power_that_fails_between_two_steps(snapshots, tmp_path):
    """The newest is away while the others are renamed."""
    snapshots.save(membership(1, A))
    snapshots.save(membership(2, A))
    numbered(tmp_path, 0).unlink()
    tmp_path.joinpath("membership.0.new").write_bytes(b"half")
    assert snapshots.load() == membership(1, A)
    snapshots.save(membership(3, A))
    assert snapshots.load() == membership(3, A)
