"""`derpctl map diff`: where both maps are from, what is printed, and how it ends."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.ctl.certs import issue, server_context
from tests.ctl.standins import AdminStandIn, admin


OLD = """\
{"Regions": {"900": {"RegionID": 900, "RegionCode": "demo", "RegionName": "Demo",
"Nodes": [
{"Name": "900a", "RegionID": 900, "HostName": "a.example.net", "IPv4": "8.8.8.8"},
{"Name": "900b", "RegionID": 900, "HostName": "b.example.net", "IPv4": "8.8.4.4"}
]}}}
"""

NEW = """\
// the policy
{"acls": [], "derpMap": {"Regions": {
  "900": {"RegionID": 900, "RegionCode": "demo", "RegionName": "Demo", "Nodes": [
    {"Name": "900b", "RegionID": 900, "HostName": "b.example.net", "IPv4": "8.8.4.4"},
    {"Name": "900a", "RegionID": 900, "HostName": "a.example.net", "IPv4": "8.8.8.8",
     "DERPPort": 8443},
  ]},
  "901": {"RegionID": 901, "RegionCode": "new", "RegionName": "New", "Nodes": []},
}}}
"""

YAML = """\
regions:
  900:
    regionid: 900
    regioncode: demo
    regionname: Demo
    nodes:
      - {name: 900b, regionid: 900, hostname: b.example.net, ipv4: 8.8.4.4}
      - {name: 900a, regionid: 900, hostname: a.example.net, ipv4: 8.8.8.8}
"""

CHANGES = """\
region 900, node 900a: DERPPort added: 8443
region 900: order of Nodes changed from 900a, 900b to 900b, 900a
region 901: added: RegionID 901, RegionCode "new", RegionName "New", Nodes none
all clients of region 900 reconnect
"""

NONE = (0, "no difference\n", "")


@pytest.fixture
def written(tmp_path):
    """Write a text into a file of this name; give its path."""

    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def old(written):
    """A file with the old map."""
    return written("old.json", OLD)


@contextlib.asynccontextmanager
async def serving(status: int = 200, **pages: str | bytes) -> AsyncIterator[str]:
    """Serve pages by their names; give the URL."""

    async def answer(request: web.BaseRequest) -> web.Response:
        page = pages[request.path.strip("/")]
        body = page if isinstance(page, bytes) else page.encode()
        return web.Response(status=status, body=body)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_changes(derpctl, old, written):
    """A policy beside plain JSON; 0, or 8 for who asks."""
    new = written("new.hujson", NEW)
    assert derpctl("map", "diff", old, new) == (0, CHANGES, "")
    assert derpctl("map", "diff", old, new, "--exit-code") == (8, CHANGES, "")


def test_no_difference(derpctl, old):
    """The same bytes, and 0 either way."""
    assert derpctl("map", "diff", old, old) == NONE
    assert derpctl("map", "diff", old, old, "--exit-code") == NONE


def test_order(derpctl, old, written):
    """What headscale hands out is in another order, which may be minded or not."""
    yaml = written("map.yaml", YAML)
    ended = derpctl("map", "diff", old, yaml, "--exit-code")
    assert ended == (
        8,
        "region 900: order of Nodes changed from 900a, 900b to 900b, 900a\n"
        "all clients of region 900 reconnect\n",
        "",
    )
    ended = derpctl("map", "diff", old, yaml, "--ignore-order", "--exit-code")
    assert ended == NONE


def test_document(derpctl, old, written):
    """The same for programs; its values are those of the maps."""
    new = written("new.hujson", NEW)
    ended = derpctl("map", "diff", old, new, "--exit-code", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, ended.err) == (8, "")
    added = found["items"].pop()
    assert (added["region"], added["change"]) == (901, "added")
    assert found == {
        "apiVersion": "derpctl/v1",
        "kind": "MapDiff",
        "before": str(old),
        "after": str(new),
        "reconnecting": [900],
        "clients": None,
        "items": [
            {
                "region": 900,
                "node": "900a",
                "field": "DERPPort",
                "change": "added",
                "before": None,
                "after": 8443,
            },
            {
                "region": 900,
                "node": None,
                "field": "Nodes",
                "change": "order changed",
                "before": ["900a", "900b"],
                "after": ["900b", "900a"],
            },
        ],
    }
    ended = derpctl("map", "diff", old, old, "-o", "json")
    assert (json.loads(ended.out)["items"], ended.code) == ([], 0)


def test_standard_input(derpctl, old, monkeypatch):
    """It is one of both, not both."""
    piped = io.TextIOWrapper(io.BytesIO(NEW.encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    assert derpctl("map", "diff", old, "-").out == CHANGES
    ended = derpctl("map", "diff", "-", "-")
    assert (ended.code, ended.out) == (2, "")
    assert "only one of the two can be standard input" in ended.err


def test_url(derpctl, beside, old):
    """It is the map that a server answers with; who asks is not shown."""
    url = beside.start(serving(map=OLD, new=NEW))
    assert derpctl("map", "diff", f"{url}/map", old) == NONE
    assert derpctl("map", "diff", old, f"{url}/new").out == CHANGES
    with_password = url.replace("://", "://me:secret@")
    ended = derpctl("map", "diff", f"{with_password}/map", old, "-o", "json")
    assert json.loads(ended.out)["before"] == f"{url}/map"


def test_cluster(derpctl, beside, configured, written):
    """It is what `map export` prints, in whatever form."""
    found = {}
    for name, address in (("900b", "8.8.4.4"), ("900a", "8.8.8.8")):
        entry = {"HostName": address, "IPv4": address}
        found[f"_{name}"] = beside.start(admin(AdminStandIn(name, entry=entry)))
    config = configured(**found)
    for form in ("acl", "derpmap", "headscale"):
        text = derpctl("--config", config, "map", "export", "-f", form).out
        path = written(f"{form}.txt", text)
        assert derpctl("--config", config, "map", "diff", path, "cluster") == NONE
    changed = written("changed", text.replace("8443", "8444"))
    ended = derpctl("--config", config, "map", "diff", changed, "cluster")
    assert ended.out == (
        "region 900, node 900b: DERPPort changed from 8444 to 8443\n"
        "region 900, node 900a: DERPPort changed from 8444 to 8443\n"
        "all clients of region 900 reconnect\n"
        "clients of region 900: 6 now\n"
    )


def test_a_cluster_without_a_map(derpctl, beside, configured, old):
    """What `map export` refuses is not compared, for the same reason."""
    url = beside.start(admin(AdminStandIn(entry={"HostName": "a:1"})))
    ended = derpctl("--config", configured(_900a=url), "map", "diff", old, "cluster")
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.startswith("derpctl: DM007: Regions.900.Nodes[0].HostName: 'a:1'")
    assert derpctl("map", "diff", old, "cluster").code == 3
    dead = configured(_900a="unix:/none/a.sock")
    ended = derpctl("--config", dead, "map", "diff", old, "cluster")
    assert (ended.code, ended.out) == (4, "")


JUNK = "give DERPMap JSON, a policy, or headscale's YAML\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{\xff}", "not text: byte 1; give a text file, in UTF-8\n"),
        ("{\n]", f"line 2 = ']': expected a key in quotes, or }}; {JUNK}"),
        (
            '{"detail": "not found"}',
            "map = {'detail': 'not found'}: there is no map in it: neither Regions nor"
            f" derpMap; {JUNK}",
        ),
        ("Regions: {}", "map = {}: there is no map in it: neither Regions nor"),
        ("", "map = None: there is nothing in it; give the file with the map; "),
        (
            '{"Regions": {"1": {"Nodes": [{"DERPPort": "x"}]}}}',
            f"Regions.1.Nodes[0].DERPPort = 'x': not a whole number, written without a"
            f" point; {JUNK}",
        ),
        (
            "#" * ((1 << 20) + 1),
            "map = '####################': 1048577 bytes, and clients read no more than"
            f" 1048576; {JUNK}",
        ),
    ],
)
def test_junk(derpctl, beside, old, written, text, message):
    """7: in a file and at a URL alike, what is there, why not, and what would."""
    path = written("junk", text)
    url = beside.start(serving(junk=text))
    for junk in (path, f"{url}/junk"):
        for pair in ((junk, old), (old, junk)):
            ended = derpctl("map", "diff", *pair)
            assert (ended.code, ended.out) == (7, "")
            assert ended.err.startswith(f"derpctl: {junk}: {message}")


def test_a_certificate_of_nobody(derpctl, beside, old, tmp_path):
    """4: what an unknown server says is no map."""
    context = server_context(tmp_path, issue("127.0.0.1"))
    url = beside.start(admin(AdminStandIn(), context=context))
    ended = derpctl("map", "diff", old, f"{url}/map")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith(f"derpctl: {url}/map: ")
    hint = "give a URL whose certificate this machine trusts\n"
    assert ended.err.endswith(f"; {hint}")


def test_no_file(derpctl, old, tmp_path):
    """3, as everywhere."""
    missing = tmp_path / "none"
    assert derpctl("map", "diff", old, missing) == (
        3,
        "",
        f"derpctl: {missing}: no such file or directory; check path and mode\n",
    )


@pytest.mark.parametrize(("status", "code"), [(404, 5), (410, 5), (403, 4), (503, 4)])
def test_other_answers(derpctl, beside, old, status, code):
    """5 where there is nothing, 4 where it is not to be had; no word of what was sent.

    A body may look like a map, or be a JSON object that reads as an empty one.
    """
    url = beside.start(serving(status, map=OLD))
    secret = url.replace("://", "://me:secret@")
    assert derpctl("map", "diff", old, f"{secret}/map") == (
        code,
        "",
        f"derpctl: {url}/map: answered {status}; give a URL that answers with the map"
        " itself\n",
    )


def test_nobody_answers(derpctl, beside, old):
    """4, with why."""

    async def port_of_nobody() -> int:
        async with serving() as url:
            return int(url.rpartition(":")[2])

    port = beside.run(port_of_nobody())
    assert derpctl("map", "diff", f"http://127.0.0.1:{port}/map", old) == (
        4,
        "",
        f"derpctl: http://127.0.0.1:{port}/map: connection refused; is the server"
        " running?\n",
    )


@contextlib.asynccontextmanager
async def mumbling() -> AsyncIterator[str]:
    """Answer everybody with what is no HTTP; give the URL."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.net\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_no_web_server(derpctl, beside, old):
    """4, and none of what it said."""
    url = beside.start(mumbling())
    assert derpctl("map", "diff", old, url) == (
        4,
        "",
        f"derpctl: {url}: no HTTP answer that can be read; is it a web server?\n",
    )


def test_a_slow_server(derpctl, beside, old):
    """4, after the time that was given."""
    url = beside.start(admin(AdminStandIn(hang=True)))
    assert derpctl("map", "diff", old, f"{url}/map", "--timeout", "0.2") == (
        4,
        "",
        f"derpctl: {url}/map: no answer in 0.2 s; try again, or give a longer"
        " --timeout\n",
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://", "it has no host"),
        ("http://me:secret@/map", "it has no host"),
        ("https://me:secret@host:99999/map", "port out of range 0-65535"),
        ("http://[::1/map", "invalid ipv6 url"),
    ],
)
def test_no_url(derpctl, old, url, reason):
    """2, with no word of a password."""
    ended = derpctl("map", "diff", old, url)
    assert (ended.code, ended.out) == (2, "")
    hint = "give http://HOST[:PORT]/PATH, or https://"
    assert ended.err == f"derpctl: the URL: {reason}; {hint}\n"


def test_hostile_names(derpctl, old, written):
    """A name that steers terminals is shown in another way."""
    new = written("new.json", OLD.replace("900b", r"\u001b[31m"))
    ended = derpctl("map", "diff", old, new)
    assert (ended.code, "\x1b" in ended.out) == (0, False)
    assert r"node \x1b[31m: added" in ended.out
