"""What must be true when a day is over: all agree, all are reached, nothing is left."""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from derpnode.wire.keys import node_key_text
from tests.load.day.citizens import Citizen
from tests.load.day.homes import LOOK, Footing, Home, linked_again
from tests.load.day.mail import SETTLED, Mail
from tests.load.day.town import Town, becomes, empty
from tests.mesh.region import ADMIN_PORT, REGION


AGREED = 60.0
"""Seconds from the last fault until `derpctl region check` finds no difference."""

AT_REST = 15.0
"""Seconds from the last move until nothing is left of where a client was, and from the
last goodbye until nobody is anywhere."""

REACHED = 10.0
"""Seconds that a packet may take when nothing else happens."""

SPARE = 5
"""Descriptors, threads and tasks by which a node may differ from the morning."""

GROWTH = 10 << 20
"""Bytes by which the memory of a process may have grown over a day."""


async def undo(town: Town) -> None:
    """Have every node serve, drained by nobody's wish, and in the region.

    All is well with etcd by now, so that nobody has anything to remark.
    """
    for home in town.homes:
        await town.registrar.undrain(home.name)
        await home.ask("/v1/undrain", "POST")
    for home in town.homes:
        await linked_again(home, town.homes)
    began = time.monotonic()
    while wrong := await _not_as_wanted(town.homes):
        text = f"not as wanted in {AGREED} s: {'; '.join(wrong)}"
        assert time.monotonic() - began < AGREED, text
        await asyncio.sleep(LOOK)


async def _not_as_wanted(homes: Sequence[Home]) -> list[str]:
    """Say which nodes have another region in force than that of all of them."""
    wanted = {
        "source": "etcd",
        "members": [home.name for home in homes],
        "live": [home.name for home in homes],
        "held": [],
        "drains": [],
        "struck": [],
    }
    found: list[str] = []
    for home in homes:
        _, said = await home.ask("/v1/membership")
        said["members"] = [member["name"] for member in said["members"]]
        said["live"] = sorted(said["live"])
        _, node = await home.ask("/v1/node")
        found += (
            f"{home.name} has {what} {said[what]}"
            for what, value in wanted.items()
            if said[what] != value
        )
        found += (f"{home.name} notes {note}" for note in node["notes"])
    return found


async def check(town: Town, folder: Path) -> tuple[int, str]:
    """Run `derpctl region check`; give its exit status and what it said."""
    config = folder / "derpctl.yaml"
    nodes = [
        {"name": home.name, "admin": f"http://{home.host}:{ADMIN_PORT}"}
        for home in town.homes
    ]
    config.write_text(yaml.safe_dump({"region": REGION.id, "nodes": nodes}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "derpctl", "--config", str(config)),
        *("region", "check", "--reveal"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def agree(town: Town, folder: Path) -> float:
    """Wait until the nodes agree on who is where; give the seconds it took."""
    began = time.monotonic()
    status, said = await check(town, folder)
    while status != 0:
        text = f"no agreement in {AGREED} s: {said}"
        assert time.monotonic() - began < AGREED, text
        status, said = await check(town, folder)
    return time.monotonic() - began


async def at_rest(town: Town) -> float:
    """Wait until each client is on one node, where it believes itself, and no other.

    Connections that clients left behind are to be ended by the nodes; those of clients
    that have left are theirs to keep, for nobody has come up elsewhere.
    """
    for citizen in town.departed:
        for ghost in list(citizen.ghosts):
            await ghost.close()
    town.departed.clear()
    took = await becomes(lambda: all(c.stay for c in town.citizens), AGREED)
    began = time.monotonic()
    while wrong := await _misplaced(town):
        text = f"not at rest in {AT_REST} s: {'; '.join(wrong)}"
        assert time.monotonic() - began < AT_REST, text
        await asyncio.sleep(LOOK)
    return took + time.monotonic() - began


async def _misplaced(town: Town) -> list[str]:
    there = {home.name: await home.local() for home in town.homes}
    found: list[str] = []
    for home in town.homes:
        expected = {
            node_key_text(citizen.key): citizen.name
            for citizen in town.citizens
            if citizen.stay is not None and citizen.stay.home is home
        }
        is_there = there[home.name]
        found += (f"{home.name} has {key} too many" for key in is_there - set(expected))
        found += (
            f"{home.name} lacks {name}"
            for key, name in expected.items()
            if key not in is_there
        )
    return found


async def gather_round(town: Town) -> None:
    """Have as many clients on each node; some nodes may have had none for long."""
    for citizen, home in zip(town.citizens, itertools.cycle(town.homes), strict=False):
        if citizen.stay is None or citizen.stay.home is not home:
            await citizen.move(closing=True, to=home)


async def all_reached(town: Town) -> int:
    """See that each client reaches one of each node; give how many packets came."""
    await asyncio.sleep(SETTLED)
    by_home: dict[str, list[Citizen]] = {home.name: [] for home in town.homes}
    for citizen in town.citizens:
        if citizen.stay is not None:
            by_home[citizen.stay.home.name].append(citizen)
    mail = town.mail = Mail()
    for citizen in town.citizens:
        citizen.read_by(mail)
    for number, sender in enumerate(town.citizens):
        for there in by_home.values():
            others = [one for one in there if one is not sender]
            await mail.send(sender, others[number % len(others)])
    expected = len(town.citizens) * len(town.homes)
    with contextlib.suppress(TimeoutError):
        await becomes(lambda: mail.undisturbed.arrived == expected, REACHED)
    mail.judge(older=0.0)
    assert mail.lost == [], f"not there after {REACHED} s: {'; '.join(mail.lost)}"
    assert mail.undisturbed.arrived == expected, (
        f"{mail.disturbed} of clients that left"
    )
    return expected


async def nobody_left(town: Town) -> float:
    """Have everybody leave; wait until no node knows of anybody."""
    await empty(town)
    began = time.monotonic()
    while known := await _known(town.homes):
        text = f"still known after {AT_REST} s: {known}"
        assert time.monotonic() - began < AT_REST, text
        await asyncio.sleep(LOOK)
    return time.monotonic() - began


async def _known(homes: Sequence[Home]) -> dict[str, list[str]]:
    """Give the clients that each node has, or believes elsewhere."""
    answers = [(await home.ask("/v1/presence"))[1] for home in homes]
    nodes = {answer["server_key"] for answer in answers}
    found: dict[str, list[str]] = {}
    for home, answer in zip(homes, answers, strict=True):
        keys = set(answer["local"]).union(*answer["links"].values()) - nodes
        if keys:
            found[home.name] = sorted(keys)
    return found


async def footings(homes: Sequence[Home]) -> dict[str, Footing]:
    """Look at what each node holds."""
    return {home.name: await home.footing() for home in homes}


async def as_before(
    homes: Sequence[Home], morning: Mapping[str, Footing]
) -> dict[str, Footing]:
    """Wait until each node holds what it did in the morning."""
    began = time.monotonic()
    while wrong := _grown(morning, evening := await footings(homes)):
        text = f"more than in the morning after {AT_REST} s: {'; '.join(wrong)}"
        assert time.monotonic() - began < AT_REST, text
        await asyncio.sleep(LOOK)
    return evening


def _grown(morning: Mapping[str, Footing], evening: Mapping[str, Footing]) -> list[str]:
    found: list[str] = []
    for name, now in evening.items():
        before = morning[name]
        for what in ("descriptors", "threads", "tasks"):
            was, is_now = getattr(before, what), getattr(now, what)
            if abs(is_now - was) > SPARE:
                found.append(f"{name}: {is_now} {what}, {was} before")
        if now.pid == before.pid and now.resident > before.resident + GROWTH:
            found.append(
                f"{name}: {now.resident >> 20} MiB, {before.resident >> 20} before"
            )
    return found
