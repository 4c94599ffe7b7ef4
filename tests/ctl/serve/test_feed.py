"""What of the region gets served: a map that is good, and that for as long as it is."""

import asyncio
import json
import stat

import pytest

from derpctl.cluster import Published
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.canonical import canonical_json
from derpctl.map.model import DerpMap, Node, Region
from derpctl.serve.cache import Cache
from derpctl.serve.feed import Feed
from derpctl.serve.shelf import Shelf
from derpnode.document import Document


def a_map(*hosts, region=900, stun_port=0):
    """A region with a node for each host."""
    nodes = tuple(
        Node(
            name=f"{region}{letter}",
            region_id=region,
            host_name=host,
            ipv4=host,
            ipv6="none",
            stun_port=stun_port,
        )
        for letter, host in zip("abc", hosts, strict=False)
    )
    code = "demo"
    found = Region(region_id=region, region_code=code, region_name=code, nodes=nodes)
    return DerpMap(regions={region: found})


ONE = a_map("8.8.8.8")
TWO = a_map("8.8.8.8", "8.8.4.4")
AWAY = CtlError("registry", "it does not answer", "start it", Exit.UNREACHABLE)


def body(derp_map):
    """What is served of a map."""
    return canonical_json(derp_map).encode()


class Scene:
    """A feed, what it is told, and what it says."""

    def __init__(self, path=None):
        self.shelf = Shelf()
        self.said = []
        cache = Cache(path, 900) if path is not None else None
        self.feed = Feed(self.shelf, self._look, cache, self.said.append)

    async def _look(self):
        if isinstance(self._next, CtlError):
            raise self._next
        return self._next

    def sees(self, found, stale=""):
        """Look once; give what is served then."""
        if isinstance(found, DerpMap):
            found = Published(found, "900a", stale=stale)
        self._next = found
        asyncio.run(self.feed.step())
        return self.served

    @property
    def served(self):
        """The document, as bytes."""
        return self.shelf.document.body if self.shelf.document is not None else None


def test_maps_follow_each_other():
    """Each new one is served, and told once."""
    scene = Scene()
    assert scene.sees(ONE) == body(ONE)
    assert scene.sees(ONE) == body(ONE)
    assert scene.sees(TWO) == body(TWO)
    first, second = (f"serving revision {r}, from 900a" for r in REVISIONS)
    assert scene.said == [first, second]


REVISIONS = tuple(Document.of(body(one)).etag[1:13] for one in (ONE, TWO))


BAD = [
    AWAY,
    DerpMap(),
    a_map(),
    a_map("8.8.8.8", stun_port=-1),
    a_map("8.8.8.8", region=70_000),
]


@pytest.mark.parametrize("bad", BAD)
def test_doubt_keeps_the_last_good_one(bad):
    """Whatever is wrong; it is told once, and its end as well."""
    scene = Scene()
    scene.sees(ONE)
    assert scene.sees(bad) == scene.sees(bad) == body(ONE)
    assert scene.sees(ONE) == body(ONE)
    assert scene.said[1].endswith("; the last good map is served")
    assert scene.said[2:] == ["the region can be read again"]


@pytest.mark.parametrize("bad", BAD)
def test_nothing_is_made_of_doubt(bad):
    """Where there was no good map, there is none."""
    scene = Scene()
    assert scene.sees(bad) is None
    assert scene.said[0].endswith("; there is no map to serve")


def test_hearsay_does_not_replace_what_was_read():
    """Nodes that cannot read the registry may know an older map than was served."""
    scene = Scene()
    scene.sees(TWO)
    assert scene.sees(ONE, stale="the registry is away") == body(TWO)
    assert scene.said[1] == "the registry is away; the last good map is served"
    assert scene.sees(ONE) == body(ONE)


def test_hearsay_is_better_than_nothing():
    """It is what nodes go by, and it may change."""
    scene = Scene()
    assert scene.sees(ONE, stale="the registry is away") == body(ONE)
    assert scene.sees(TWO, stale="the registry is away") == body(TWO)


def test_kept_over_a_restart(tmp_path):
    """What was served last is served at once, though nobody answers."""
    path = tmp_path / "map.json"
    Scene(path).sees(TWO)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [found.name for found in tmp_path.iterdir()] == ["map.json"]
    scene = Scene(path)
    scene.feed.remember()
    assert scene.sees(AWAY) == body(TWO)
    assert scene.said[0] == f"serving revision {REVISIONS[1]}, as it was kept"
    assert scene.sees(ONE, stale="the registry is away") == body(ONE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (body(ONE)[:-9], "not JSON"),
        (b"\xff", "can't decode byte"),
        (b'{"detail": "Not Found"}', "there is no relay in it"),
        (b"[" * 100_000, "recursion"),
        (body(a_map("8.8.8.8", region=901)), "it is not of region 900"),
        (body(a_map()), "there is no relay in it"),
        (body(a_map("8.8.8.8", stun_port=-1)), "no node has STUN"),
        (body(ONE) + b" " * (1 << 20), "more than 1048576 bytes"),
    ],
    ids=["empty", "cut", "binary", "error", "deep", "other", "bare", "mute", "long"],
)
def test_what_was_kept_is_checked(tmp_path, content, reason):
    """A file that is no good map is told, and not served; the next map replaces it."""
    path = tmp_path / "map.json"
    path.write_bytes(content)
    scene = Scene(path)
    scene.feed.remember()
    assert scene.served is None
    assert reason in scene.said[0]
    scene.sees(ONE)
    assert path.read_bytes() == body(ONE)


def test_nothing_was_kept(tmp_path):
    """That is how it begins, and not worth a word."""
    scene = Scene(tmp_path / "map.json")
    scene.feed.remember()
    assert (scene.served, scene.said) == (None, [])


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """The map is served all the same."""
    path = tmp_path / "none" / "map.json"
    scene = Scene(path)
    scene.feed.remember()
    assert scene.sees(ONE) == body(ONE)
    assert scene.said[0] == (
        f"{path}: there is no directory {path.parent}; make it, or give another"
        " --cache; nothing is kept"
    )
    assert scene.said[2] == (
        f"{path}: cannot be written: no such file or directory; "
        "the map is served all the same, but not after a restart"
    )


def test_a_path_that_is_no_file(tmp_path):
    """It is told what is the matter with it."""
    scene = Scene(tmp_path)
    scene.feed.remember()
    assert scene.said == [
        f"{tmp_path}: is a directory; it is written anew with the next map"
    ]


def test_looking_again():
    """After each look it waits, and goes on whatever it saw."""
    scene = Scene()
    waits = []

    async def sleep(delay):
        waits.append(delay)
        scene._next = Published([ONE, TWO][len(waits) - 1], "900a")
        if len(waits) == 2:
            raise asyncio.CancelledError

    scene._next = AWAY
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scene.feed.run(2.0, sleep=sleep))
    assert (waits, scene.served) == ([2.0, 2.0], body(ONE))


def test_etag_names_the_content():
    """The same bytes have the same name; weak ones that proxies made are known too."""
    document = Document.of(body(ONE))
    assert document == Document.of(body(ONE)) != Document.of(body(TWO))
    assert json.loads(document.etag)  # quoted
    for header in (document.etag, f"W/{document.etag}", f'"x", {document.etag}', "*"):
        assert document.is_known(header)
    for header in ("", '"x"', document.etag.strip('"'), f"{document.etag}x"):
        assert not document.is_known(header)
