"""`derpctl map lint` of a URL and of the cluster; it ends as `map diff` does."""

import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.ctl.certs import issue, server_context
from tests.ctl.standins import AdminStandIn, admin
from tests.ctl.test_lint import SOUND


YAML = """\
regions:
  900:
    regionid: 900
    regioncode: demo
    regionname: Demo
    nodes: [{name: 900a, regionid: 900, hostname: "a:1", ipv4: 8.8.8.8}]
"""


@contextlib.asynccontextmanager
async def serving(status: int = 200, **pages: str) -> AsyncIterator[str]:
    """Serve pages by their names; give the URL."""

    async def answer(request: web.BaseRequest) -> web.Response:
        name = request.path.strip("/").replace(".", "_")
        return web.Response(status=status, body=pages[name].encode())

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_url(derpctl, beside):
    """What a server answers with is judged as a file; who asks is not shown."""
    url = beside.start(serving(map=SOUND, broken=SOUND.replace('"a"', '"a:1"')))
    with_password = url.replace("://", "://me:secret@")
    assert derpctl("map", "lint", f"{with_password}/map") == (
        0,
        "",
        f"derpctl: {url}/map: nothing is wrong\n",
    )
    ended = derpctl("map", "lint", f"{with_password}/broken", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["file"], found["format"]) == (
        7,
        f"{url}/broken",
        "derpmap",
    )
    assert [(one["rule"], one["line"]) for one in found["items"]] == [("DM007", 2)]


def test_yaml_at_a_url(derpctl, beside):
    """The name in the URL says so, whatever is asked for behind it."""
    url = beside.start(serving(map_yaml=YAML, json_yml=SOUND))
    ended = derpctl("map", "lint", f"{url}/map.yaml?token=1", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["format"]) == (7, "headscale")
    assert [(one["rule"], one["line"]) for one in found["items"]] == [("DM007", 6)]
    ended = derpctl("map", "lint", f"{url}/json.yml", "-o", "json")
    assert json.loads(ended.out)["format"] == "headscale"


@pytest.mark.parametrize(("status", "code"), [(404, 5), (410, 5), (503, 4)])
def test_other_answers(derpctl, beside, status, code):
    """5 where there is nothing, 4 where it is not to be had."""
    url = beside.start(serving(status, map=SOUND))
    assert derpctl("map", "lint", f"{url}/map") == (
        code,
        "",
        f"derpctl: {url}/map: answered {status}; give a URL that answers with the map"
        " itself\n",
    )


def test_urls_that_do_not_answer(derpctl, beside, tmp_path):
    """4, with why; 2 for what is no URL."""
    context = server_context(tmp_path, issue("127.0.0.1"))
    nobody = beside.start(admin(AdminStandIn(), context=context))
    ended = derpctl("map", "lint", f"{nobody}/map")
    assert (ended.code, ended.out) == (4, "")
    assert "give a URL whose certificate this machine trusts" in ended.err
    slow = beside.start(admin(AdminStandIn(hang=True)))
    ended = derpctl("map", "lint", f"{slow}/map", "--timeout", "0.2")
    assert (ended.code, "no answer in 0.2 s" in ended.err) == (4, True)
    ended = derpctl("map", "lint", "http://me:secret@/map")
    assert (ended.code, "secret" in ended.err) == (2, False)


def test_cluster(derpctl, beside, configured):
    """What the nodes publish is judged, without lines; 7 where clients would fail."""
    entry = {"HostName": "8.8.8.8", "IPv4": "8.8.8.8"}
    url = beside.start(admin(AdminStandIn(entry=entry)))
    config = configured(_900a=url)
    ended = derpctl("--config", config, "map", "lint", "cluster")
    assert ended == (0, "", "derpctl: cluster: nothing is wrong\n")
    broken = beside.start(admin(AdminStandIn(entry={**entry, "HostName": "a:1"})))
    config = configured(_900a=broken)
    ended = derpctl("--config", config, "map", "lint", "cluster", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["file"], found["format"]) == (7, "cluster", "derpmap")
    (item,) = found["items"]
    assert (item["rule"], item["line"]) == ("DM007", None)
    assert item["path"] == "Regions.900.Nodes[0].HostName"


def test_cluster_of_headscale(derpctl, beside, configured):
    """Who hands it out is a question of the command line."""
    urls = {}
    for name, address in (("900a", "8.8.8.8"), ("900b", "8.8.4.4")):
        entry = {"HostName": address, "IPv4": address}
        urls[f"_{name}"] = beside.start(admin(AdminStandIn(name, entry=entry)))
    words = ("--config", configured(**urls), "map", "lint", "cluster")
    assert "DM023" not in derpctl(*words).out
    assert "DM023" in derpctl(*words, "--target", "headscale").out


def test_no_cluster(derpctl, configured):
    """3 without a configuration, 4 where no node answers."""
    assert derpctl("map", "lint", "cluster").code == 3
    config = configured(_900a="unix:/none/a.sock")
    ended = derpctl("--config", config, "map", "lint", "cluster")
    assert (ended.code, ended.out) == (4, "")


def test_a_file_called_cluster(derpctl, tmp_path, monkeypatch):
    """It is ./cluster."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster").write_text(SOUND)
    assert derpctl("map", "lint", "./cluster").code == 0
    assert derpctl("map", "lint", "cluster").code == 3
