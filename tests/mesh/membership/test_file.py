"""What only a file does: it is edited by hand, by half, and by Kubernetes."""

import asyncio
import logging
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from derpmesh.membership.errors import RegistryInvalid, RegistryUnavailable
from derpmesh.membership.file import FileRegistry, _content
from derpmesh.membership.model import Region, Rule
from derpmesh.membership.regionfile import (
    MAX_SIZE,
    RegionText,
    dump_member,
    dump_region,
    parse_region,
    parse_region_text,
)
from derpmesh.membership.watcher import memberships
from derpnode.wire.keys import NodeKey
from tests.mesh.membership.registries import FileOperator, look, region_text
from tests.mesh.membership.scene import REGION, A, B, C, content, member


HINT = "see docs/reference/region-file.md"
PATIENCE = 5.0
RULES: tuple[Rule, ...] = ("allow", "deny", "none")
LOOKS = 8  # that many looks make sure of what does not happen

TWO = region_text(REGION, A, B)
THREE = region_text(REGION, A, B, C)


def parsed(path: Path) -> RegionText:
    """Judge a file."""
    return parse_region(_content(path), str(path))


@pytest.fixture
def operator(tmp_path):
    """Somebody who keeps a region file."""
    return FileOperator(tmp_path)


class Watched:
    """A stream of memberships, whose looks at the file a test can count."""

    def __init__(self, operator: FileOperator) -> None:
        self._looks = 0
        self._looking = asyncio.Event()
        self.registry = FileRegistry(operator.path, sleep=self._look)
        self._stream = memberships(
            self.registry, backoff=lambda: iter([0.5] * 10_000), sleep=self._look
        )
        self.news: asyncio.Queue = asyncio.Queue()

    async def _look(self, delay: float) -> None:
        self._looks += 1
        self._looking.set()
        await look(delay)

    async def follow(self) -> None:
        """Follow until cancelled."""
        async with aclosing(self._stream) as values:
            async for value in values:
                self.news.put_nowait(content(value))

    async def next(self):
        """Wait for the next membership."""
        async with asyncio.timeout(PATIENCE):
            return await self.news.get()

    async def look(self, count: int = 1) -> None:
        """Wait until so many looks were begun."""
        until = self._looks + count
        async with asyncio.timeout(PATIENCE):
            while self._looks < until:
                self._looking.clear()
                await self._looking.wait()

    async def quiet(self) -> None:
        """Wait until looks enough were taken, which brought nothing new."""
        await self.look(LOOKS)
        assert self.news.empty()


@pytest.fixture
async def watched(operator):
    """The memberships of a file, that was read once."""
    found = Watched(operator)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(found.follow())
        await found.next()
        yield found
        task.cancel()


# How files change.


async def test_atomic_replacement(operator, watched):
    """Another file is renamed over it."""
    operator.write(TWO)
    assert await watched.next() == (REGION, [A, B])


async def test_edit_in_place(operator, watched):
    """The same file is written anew."""
    operator.path.write_text(TWO)
    assert await watched.next() == (REGION, [A, B])


async def test_swap_of_a_symlink(operator, watched):
    """As Kubernetes changes what it mounts: a link to a folder moves."""
    for name, text in (("one", TWO), ("two", THREE)):
        folder = operator.path.parent / name
        folder.mkdir()
        (folder / "region.yaml").write_text(text)
    data = operator.path.parent / "data"
    data.symlink_to("one")
    operator.path.unlink()
    operator.path.symlink_to("data/region.yaml")
    assert await watched.next() == (REGION, [A, B])
    fresh = operator.path.parent / "fresh"
    fresh.symlink_to("two")
    fresh.replace(data)
    assert await watched.next() == (REGION, [A, B, C])


async def test_touched_file_is_no_change(operator, watched):
    """Nor is one with other comments, or its keys in another order."""
    operator.path.touch()
    await watched.quiet()
    operator.write(f"# tidied up\n{region_text(REGION, A)}\n\n")
    await watched.quiet()


async def test_half_written_file_is_not_read(operator, watched):
    """A file counts once two looks find it the same, though each half is valid."""
    whole = THREE.splitlines(keepends=True)
    with operator.path.open("w") as file:
        for line in whole:
            file.write(line)
            file.flush()
            await watched.look()
    assert await watched.next() == (REGION, [A, B, C])


async def test_file_deleted_and_restored(operator, watched, caplog):
    """Deleting it ends no link; it is said once."""
    text = operator.path.read_text()
    operator.path.unlink()
    await watched.quiet()
    assert caplog.messages == [
        f"registry: {operator.path}: No such file or directory; "
        "the last good one stays in force"
    ]
    operator.path.write_text(text)
    await watched.quiet()
    operator.write(TWO)
    assert await watched.next() == (REGION, [A, B])


async def test_regression_half_written_file_after_a_broken_one(operator, watched):
    """What replaces a broken file is not read by half either.

    Retries read whatever stood there: of a file that was written line by line, a
    region with its first members alone, and the links to the others were closed.
    """
    operator.path.write_text("")
    await watched.quiet()
    half, name, rest = THREE.partition("- name: 901c")
    assert rest
    with operator.path.open("w") as file:
        file.write(half)
        file.flush()
        await watched.look()
        file.write(name + rest)
    assert await watched.next() == (REGION, [A, B, C])


async def test_permission_lost_and_given_back(operator, watched, monkeypatch, caplog):
    """`chmod` is how operators break files, and mend them."""
    text = operator.path.read_bytes()
    denied = PermissionError(13, "Permission denied")

    def read_bytes(path):
        if path.stat().st_mode & 0o400:
            return text
        raise denied

    monkeypatch.setattr("pathlib.Path.read_bytes", read_bytes)
    operator.path.chmod(0o000)
    await watched.quiet()
    assert caplog.messages == [
        f"registry: {operator.path}: Permission denied; "
        "the last good one stays in force"
    ]
    text = TWO.encode()
    operator.path.chmod(0o600)
    assert await watched.next() == (REGION, [A, B])


async def test_broken_edit_is_said_once(operator, watched, caplog):
    """And again when it is broken in another way, or anew after it was right."""
    broken = "nodes: []"
    for text in (broken, broken + "\n", "region: 7\nnodes: []"):
        operator.write(text)
        await watched.quiet()
    operator.write(TWO)
    assert await watched.next() == (REGION, [A, B])
    operator.write(broken)
    await watched.quiet()
    missing, wrong, again = caplog.messages
    assert "region = " in missing
    assert "region = 7" in wrong
    assert again == missing


async def test_broken_edit_that_is_taken_back(operator, watched, caplog):
    """The region is what it was, and a membership is not told twice."""
    operator.write("nodes: [")
    await watched.quiet()
    operator.write(region_text(REGION, A))
    await watched.quiet()
    operator.write(TWO)
    assert await watched.next() == (REGION, [A, B])
    assert len(caplog.messages) == 1


async def test_unchanged_broken_file_is_judged_once(operator, monkeypatch):
    """Judging a megabyte twice a second would cost a core."""
    judged = []
    judge = parse_region_text

    def count(text, where):
        judged.append(where)
        return judge(text, where)

    monkeypatch.setattr("derpmesh.membership.regionfile.parse_region_text", count)
    operator.write("nodes: []")
    for _ in range(4):
        with pytest.raises(RegistryInvalid):
            await operator.registry.read()
    assert len(judged) == 1


async def test_large_file_does_not_stop_the_loop(operator):
    """YAML takes seconds for a megabyte, and packets must not wait for it."""
    many = [member(f"x{number}") for number in range(600)]
    operator.write(region_text(REGION, *many))
    loop = asyncio.get_running_loop()
    gaps, last = [], loop.time()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(operator.registry.read())
        while not reading.done():
            await asyncio.sleep(0.001)
            gaps.append(loop.time() - last)
            last = loop.time()
    assert len(reading.result().members) == len(many)
    assert len(gaps) > 10


# What is no region file.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file = None: "),
        ("[]", "the file = []: "),
        ("region: {}", "nodes = "),
        ("nodes: []", "region = "),
        ("region: {}\nnodes: [", "not YAML: "),
        ("region: {}\nnodes: []\nnode: 7", "node = 7: Extra inputs"),
        ("region: {nmae: x}\nnodes: []", "region.nmae = 'x': Extra inputs"),
        ("region: {}\nnodes: [{name: a, hots: b}]", "nodes.0.host = "),
        (
            "region: {}\nnodes: [{name: a, host: b, weight: 1}]",
            "nodes.0.weight = 1: Extra inputs",
        ),
        ("region: {id: 0}\nnodes: []", "region.id = 0: "),
        ("region: {}\nnodes: {}", "nodes = {}: "),
        ("region: {}\nnodes: [a]", "nodes.0 = 'a': "),
        (
            "region: {}\nnodes: [{name: a, host: b, pin: c}]",
            "nodes.0.pin = 'c': Value error, not sha256-raw:",
        ),
        (
            "region: {}\nnodes: [{name: a, host: b}, {name: a, host: c}]",
            "nodes: a stands there twice",
        ),
        ("region: {}\nnodes: [\x00]", "not YAML: "),
        ("region: {}\nregion: {}", "nodes = "),
    ],
)
def test_what_is_no_region_file(text, reason):
    """It is said where, what stands there, and why not."""
    with pytest.raises(RegistryInvalid) as caught:
        parse_region_text(text, "region.yaml")
    assert str(caught.value).startswith(f"region.yaml: {reason}")
    assert str(caught.value).endswith(f"; {HINT}")


@pytest.mark.parametrize(
    "value",
    [
        "2026-02-31",
        "9" * 5000,
        "!!int x",
        "!!float x",
        "!!timestamp x",
        "!!binary é",
        "[" * 600,
    ],
)
def test_regression_yaml_that_the_library_cannot_make(value):
    """Its own errors are not YAML's; they ended the node."""
    with pytest.raises(RegistryInvalid, match=r"^region\.yaml: not YAML: "):
        parse_region_text(f"region: {value}", "region.yaml")


def test_regression_value_without_end_is_shown_in_short():
    """Aliases of aliases make a value whose text would fill any memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 12):
        ten = ", ".join([f"*a{number - 1}"] * 10)
        lines.append(f"a{number}: &a{number} [{ten}]")
    text = "\n".join([*lines, "region: *a11", "nodes: []"])
    with pytest.raises(RegistryInvalid) as caught:
        parse_region_text(text, "region.yaml")
    assert len(str(caught.value)) < 1000


def test_value_is_shown_in_short():
    """A log line is no place for a page of text."""
    with pytest.raises(RegistryInvalid) as caught:
        parse_region_text(f"region: {'x' * 10_000}\nnodes: []", "region.yaml")
    assert len(str(caught.value)) < 300


def test_duplicates_in_a_long_file_are_found_in_time():
    """Each name is not compared with each."""
    nodes = [f"{{name: n{number}, host: h}}" for number in range(1000)]
    text = f"region: {{}}\nnodes: [{', '.join([*nodes, nodes[0]])}]"
    started = time.process_time()
    with pytest.raises(RegistryInvalid, match="nodes: n0 stands there twice"):
        parse_region_text(text, "region.yaml")
    assert time.process_time() - started < 10


def test_file_of_the_largest_size(tmp_path):
    """The limit is itself allowed."""
    path = tmp_path / "region.yaml"
    text = region_text(REGION, A)
    path.write_text(text + "#" * (MAX_SIZE - len(text)))
    assert parsed(path).members == (A,)
    path.write_text(text + "#" * (MAX_SIZE - len(text) + 1))
    with pytest.raises(RegistryInvalid, match="1048577 bytes, limit is 1048576"):
        parsed(path)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda _path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
)
def test_file_that_cannot_be_read(tmp_path, prepare, reason):
    """It is named, and why."""
    path = tmp_path / "region.yaml"
    prepare(path)
    with pytest.raises(RegistryUnavailable) as caught:
        parsed(path)
    assert str(caught.value) == f"{path}: {reason}"


def test_bytes_that_are_no_text(tmp_path):
    """They are no reason to end either."""
    path = tmp_path / "region.yaml"
    path.write_bytes(b"\xff\xfe\x00region")
    with pytest.raises(RegistryInvalid):
        parsed(path)


def test_text_may_begin_with_a_mark(tmp_path):
    """As some editors put it."""
    path = tmp_path / "region.yaml"
    path.write_text(f"\ufeff{TWO}", "utf-8")
    assert parsed(path).members == (A, B)


def test_least_region_file():
    """A region has defaults, and a node needs a name and a host."""
    found = parse_region_text("region: {}\nnodes: [{name: a, host: b}]", "x")
    assert found.region == Region()
    assert [member.name for member in found.members] == ["a"]


# What `derpd --print-node` prints.


@pytest.mark.parametrize(
    "about",
    [
        {},
        {
            "ipv4": "192.0.2.1",
            "ipv6": "none",
            "derp_port": 8443,
            "stun_port": -1,
            "can_port80": True,
            "pin": f"sha256-raw:{'0' * 64}",
            "admin": "unix:/run/admin.sock",
        },
        {"ipv4": "none", "ipv6": "2001:db8::1"},
        {"dial": "10.0.0.1:8443"},
        {"dial": "[2001:db8::1]:8443"},
        {"name": "1", "host": "1e3"},
    ],
)
def test_printed_entry_is_read_again(about):
    """It is pasted below `nodes`, as it is, and means the same."""
    found = member("a", **about)
    text = f"region: {{}}\nnodes:\n{dump_member(found)}"
    assert parse_region_text(text, "x").members == (found,)


def test_printed_entry():
    """What goes without saying is not said."""
    assert dump_member(member("a", derp_port=8443)) == (
        "- name: 901a\n  host: a.example.com\n  derp_port: 8443\n"
    )


async def test_log_of_a_broken_file_is_a_warning(operator, watched, caplog):
    """An operator should look."""
    operator.write("nodes: []")
    await watched.quiet()
    assert [found.levelno for found in caplog.records] == [logging.WARNING]


def test_file_that_was_written_is_read():
    """All of it: members in their order, and clients that are let in or kept out."""
    clients = {NodeKey(bytes([n]) * 32): rule for n, rule in enumerate(RULES)}
    text = dump_region(REGION, [B, A], clients)
    found = parse_region_text(text, "x")
    assert (found.region, found.members) == (REGION, (B, A))
    kept = {key: rule for key, rule in clients.items() if rule != "none"}
    assert found.clients == kept
    assert "clients" not in dump_region(REGION, [A], {})
