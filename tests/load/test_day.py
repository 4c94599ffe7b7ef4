"""A day of life: clients, nodes and etcd come, go and fail; at its end all agree.

`DERPMESH_SEED` draws a day again. With `DERPMESH_SOAK=1` it has twenty minutes, else
two; `DERPMESH_DAY` gives it other seconds, as full.
"""

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.day import evening
from tests.load.day.diary import Diary
from tests.load.day.plan import EtcdFault, Life, NodeFault, Size, plan
from tests.load.day.town import Town, becomes, town
from tests.load.scale import WHOLE
from tests.mesh.stewards import running_etcd
from tests.support.etcd import Server


WHOLE_DAY = Size(seconds=1_200, joins=5_000, node_faults=200, etcd_faults=30)

SECONDS = float(os.environ.get("DERPMESH_DAY", "0")) or (1_200 if WHOLE else 120)

WARM = 40
"""Clients that come and go before the morning."""

LOST = 0.5
"""Part of the packets that may be lost while their nodes or clients are in trouble."""

CUT = 0.01
"""Part of the connections that a node may end though nothing was done to it: a client
of this process that has no turn for a second is a ghost."""

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.timeout(2 * SECONDS + 240),
]


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """Give a folder for nodes; what they said is kept with the test."""
    found = Path(tempfile.mkdtemp(prefix="day-"))  # pytest's own is too deep
    try:
        yield found
    finally:
        for log in found.glob("*/derpd.log"):
            shutil.copy(log, tmp_path / f"{log.parent.name}.log")
        shutil.rmtree(found)


@pytest.fixture
def etcd(tmp_path) -> Iterator[Server]:
    """An etcd that may be killed."""
    with running_etcd(tmp_path) as server:
        yield server


def test_plan_is_of_its_seed():
    """The same seed draws the same day, another one another day; counts are exact."""
    size = WHOLE_DAY.scaled(120)
    drawn = plan(7, size)
    assert drawn == plan(7, size)
    assert drawn != plan(8, size)
    kinds = Counter(type(step.kind) for step in drawn)
    assert (kinds[NodeFault], kinds[EtcdFault]) == (20, 3)
    assert sum(step.kind is Life.JOIN for step in drawn) == 500
    assert [step.at for step in drawn] == sorted(step.at for step in drawn)
    assert all(0 <= step.at <= size.seconds for step in drawn)


async def test_a_day_of_life(folder, etcd, say, tmp_path):
    """Whatever happened: everybody is where all believe him, and nothing has grown."""
    seed = int(os.environ.get("DERPMESH_SEED") or random.getrandbits(31))
    size = WHOLE_DAY.scaled(SECONDS)
    diary = Diary(seed, tmp_path / "diary")
    with diary.open(say):
        async with town(folder, etcd, diary) as found:
            await warm(found)
            morning = await evening.footings(found.homes)
            lasted = await found.live(plan(seed, size))
            tell(found, lasted, say)
            assert_full(diary.counts, size)
            assert_unharmed(found)
            await agree_at_last(found, folder, say)
            held = await evening.as_before(found.homes, morning)
        for name, now in held.items():
            lived = "all day" if now.pid == morning[name].pid else "not all day"
            say(f"{name}, there {lived}: {now}; in the morning {morning[name]}")
        assert [said for home in found.homes for said in home.complaints()] == []


def assert_full(counts: Counter[str], size: Size) -> None:
    """See that as much has happened as was to."""
    assert counts["joins"] >= size.joins
    assert counts["node faults"] >= size.node_faults
    assert counts["etcd faults"] >= size.etcd_faults


def assert_unharmed(found: Town) -> None:
    """See that faults cost nothing where they were not, and not all where they were."""
    counts, mail = found.diary.counts, found.mail
    assert mail.lost == []
    assert mail.undisturbed.arrived > 0
    assert mail.disturbed.share <= LOST
    logins = counts["joins"] + counts["returns"]
    assert counts["cut by a node that is well"] <= CUT * logins


async def agree_at_last(found: Town, folder: Path, say) -> None:
    """End all trouble: all agree, each reaches each, and those who leave are gone."""
    await evening.undo(found)
    rest = await evening.at_rest(found)
    agreed = await evening.agree(found, folder)
    await evening.gather_round(found)
    await evening.at_rest(found)
    reached = await evening.all_reached(found)
    left = await evening.nobody_left(found)
    empty = await evening.agree(found, folder)
    say(
        f"at rest {rest:.1f} s after the last packet was due, agreed {agreed:.1f} s"
        f" after that, all of {reached} packets between all nodes arrived, nobody"
        f" known {left:.1f} s after all had left, agreed {empty:.1f} s later"
    )


async def warm(found: Town) -> None:
    """Have clients come and go, so that every node has seen some."""
    source = random.Random(0)  # noqa: S311 - any will do
    for _ in range(WARM):
        found.join(source)
    await becomes(lambda: all(one.stay for one in found.citizens), evening.AT_REST)
    await evening.nobody_left(found)
    found.diary.counts.clear()


def tell(found: Town, lasted: float, say) -> None:
    """Say what happened."""
    counts, mail = found.diary.counts, found.mail
    say(
        f"{counts['joins']} joins, {counts['node faults']} node faults,"
        f" {counts['etcd faults']} etcd faults in {lasted:.0f} s;"
        f" {len(found.citizens)} clients in the evening"
    )
    say(
        f"packets: {mail.undisturbed} where nothing was done to either side (0), the"
        f" slowest took {mail.slowest:.2f} s; {mail.disturbed} beside faults (half)"
    )
    say(", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
