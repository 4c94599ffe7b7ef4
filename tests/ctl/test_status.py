"""`derpctl status`: the whole screen, the whole document, and every exit code."""

import json
import re
import time
from dataclasses import replace

import pytest
from aiohttp import web

from derpctl.admin import NodeView, RegionView, StatusView
from derpctl.health import Health, judge
from derpctl.render import duration, size
from derpctl.reports import Report
from tests.ctl.standins import AdminStandIn, admin, link


HEALTHY = """\
region 900 Demo · healthy · serving 1/1 · home clients 2 · not ideal 1
NODE  STATE    ADDRESS          UP  HOME/ALL  NI       RX/TX  DROPS  STUN   CERT  VER
900a  serving  192.0.2.10:8443  2h       2/3   1  1.23M/1.2k      4    17  DAYSd  0.1.0
"""

DEGRADED = """\
region 900 Demo · degraded · serving 1/3 · mesh 2/6 · home clients 4 · not ideal 2
NODE  STATE     ADDRESS          UP  HOME/ALL  NI  MESH       RX/TX  DROPS  STUN   CERT  VER
900a  serving   192.0.2.10:8443  2h       2/3   1   1/2  1.23M/1.2k      4    17  DAYSd  0.1.0
900b  draining  192.0.2.10:8443  2h       2/3   1   1/2  1.23M/1.2k      4    17  DAYSd  0.1.0
900c  dead      -                 -         -   -     -           -      -     -      -  -
900b: draining: asked to
900c: unix:/none/900c.sock: no such file or directory; is the node running?
900a to 900c: waiting for 75 s: connection refused
900b to 900c: missing: not in the region as this node knows it
"""  # noqa: E501

MESHED = """\
region 900 Demo · healthy · serving 2/2 · mesh 2/2 · home clients 4 · not ideal 2
NODE  STATE    ADDRESS          UP  HOME/ALL  NI  MESH       RX/TX  DROPS  STUN   CERT  VER
900a  serving  192.0.2.10:8443  2h       2/3   1   1/1  1.23M/1.2k      4    17  DAYSd  0.1.0
900b  serving  192.0.2.10:8443  2h       2/3   1   1/1  1.23M/1.2k      4    17  DAYSd  0.1.0
"""  # noqa: E501


def masked(text: str) -> str:
    """Hide the number of days left, which are as many digits."""
    return re.sub(r"\d{4}d", "DAYSd", text)


def test_healthy(derpctl, beside, configured):
    """Every node serves: 0, though admission is open and all is on loopback."""
    url = beside.start(admin(AdminStandIn()))
    ended = derpctl("--config", configured(_900a=url), "status")
    assert (ended.code, masked(ended.out), ended.err) == (0, HEALTHY, "")


def test_degraded(derpctl, beside, configured):
    """One node is dead and one drains: 9, and why, links included."""
    down = link("900c", "waiting", "connection refused")
    url = beside.start(admin(AdminStandIn(links=[down, link("900b")])))
    standin = AdminStandIn("900b", state="draining", reasons=["asked to"])
    standin.links = [link("900a")]
    other = beside.start(admin(standin))
    path = configured(_900a=url, _900b=other, _900c="unix:/none/900c.sock")
    ended = derpctl("--config", path, "status")
    assert (ended.code, masked(ended.out), ended.err) == (9, DEGRADED, "")


def meshed(beside, configured):
    """Two nodes that are linked."""
    urls = [
        beside.start(admin(AdminStandIn("900a", links=[link("900b")]))),
        beside.start(admin(AdminStandIn("900b", links=[link("900a")]))),
    ]
    return configured(_900a=urls[0], _900b=urls[1])


def test_meshed(derpctl, beside, configured):
    """Every link is up: 0."""
    ended = derpctl("--config", meshed(beside, configured), "status")
    assert (ended.code, masked(ended.out), ended.err) == (0, MESHED, "")


def test_a_link_is_down(derpctl, beside, configured):
    """9, though every node serves."""
    down = link("900b", "waiting", "wrong mesh key")
    urls = [
        beside.start(admin(AdminStandIn("900a", links=[down]))),
        beside.start(admin(AdminStandIn("900b", links=[link("900a")]))),
    ]
    path = configured(_900a=urls[0], _900b=urls[1])
    ended = derpctl("--config", path, "status", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["health"], found["serving"]) == (9, "degraded", 2)
    assert found["mesh"] == {"up": 1, "expected": 2}
    assert found["problems"] == ["900a to 900b: waiting for 75 s: wrong mesh key"]


def test_notes(derpctl, beside, configured):
    """What a node would have somebody look at is shown, and is no fault: 0."""
    standin = AdminStandIn(notes=["registry: region.yaml: not YAML"])
    path = configured(_900a=beside.start(admin(standin)))
    ended = derpctl("--config", path, "status")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("\n900a: registry: region.yaml: not YAML\n")
    found = json.loads(derpctl("--config", path, "status", "-o", "json").out)
    assert found["notes"] == ["900a: registry: region.yaml: not YAML"]
    shown = derpctl("--config", path, "node", "show", "900a")
    assert "note         registry: region.yaml: not YAML\n" in shown.out


def test_a_node_that_tells_no_links(derpctl, beside, configured):
    """An older node says nothing of them: not known is not wrong."""
    urls = [beside.start(admin(AdminStandIn(name))) for name in ("900a", "900b")]
    ended = derpctl("--config", configured(_900a=urls[0], _900b=urls[1]), "status")
    assert ended.code == 0
    assert "mesh 0/2" in ended.out


def test_document(derpctl, beside, configured):
    """The document has everything, whatever the exit code."""
    standin = AdminStandIn(state="unready", reasons=["no certificate"])
    url = beside.start(admin(standin))
    path = configured(_900a=url, _900b="unix:/none/900b.sock")
    ended = derpctl("--config", path, "status", "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, ended.err) == (10, "")
    heads = (
        "apiVersion",
        "kind",
        "region",
        "health",
        "serving",
        "expected",
        "problems",
    )
    assert [found[key] for key in heads] == [
        "derpctl/v1",
        "Status",
        900,
        "critical",
        0,
        2,
        [
            "900a: unready: no certificate",
            "900b: unix:/none/900b.sock: no such file or directory; "
            "is the node running?",
        ],
    ]
    alive, dead = found["items"]
    assert (alive["name"], alive["alive"], alive["state"]) == ("900a", True, "unready")
    assert alive["traffic"]["dropped"] == {"queue_head": 3, "unknown_dest": 1}
    assert alive["node"]["server_key"] == standin.server_key
    assert dead == {
        "name": "900b",
        "admin": "unix:/none/900b.sock",
        "alive": False,
        "state": "dead",
        "error": "unix:/none/900b.sock: no such file or directory; "
        "is the node running?",
        "seconds": None,
        "links": [
            {
                "from": "900b",
                "to": "900a",
                "state": "unknown",
                "error": "unix:/none/900b.sock: no such file or directory; "
                "is the node running?",
            }
        ],
    }


def test_global_output(derpctl, beside, configured, monkeypatch):
    """`-o` before the command, the configuration from the environment."""
    url = beside.start(admin(AdminStandIn()))
    monkeypatch.setenv("DERPCTL_CONFIG", str(configured(_900a=url)))
    assert json.loads(derpctl("-o", "json", "status").out)["health"] == "healthy"


def test_hanging_node_costs_a_second(derpctl, beside, configured):
    """All are asked at once; whoever is silent may be well, so nothing is known."""
    urls = [beside.start(admin(AdminStandIn(hang=True))) for _ in range(2)]
    started = time.monotonic()
    ended = derpctl("--config", configured(_900a=urls[0], _900b=urls[1]), "status")
    assert time.monotonic() - started < 2.5
    assert ended.code == 4
    assert "region 900 · unknown · serving 0/2" in ended.out
    assert "900b  silent" in ended.out


def test_no_configuration(derpctl, tmp_path):
    """3, and how to get one."""
    ended = derpctl("status")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == (
        f"derpctl: {tmp_path}/home/.config/derpctl/config.yaml: no such file; "
        "name one by --config, or bring a region up: derpctl demo --hold\n"
    )


def test_no_color(derpctl, beside, configured, monkeypatch):
    """Colours are for terminals, and only for who wants them."""
    url = beside.start(admin(AdminStandIn()))
    monkeypatch.setattr("derpctl.settings.sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    path = configured(_900a=url)
    assert "\x1b[" in derpctl("--config", path, "status").out
    assert "\x1b[" not in derpctl("--config", path, "--no-color", "status").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in derpctl("--config", path, "status").out


NODE = NodeView(name="900a", region=RegionView(id=900), state="serving", ready=True)
SERVING = Report("900a", "x", StatusView(node=NODE))
DEAD = Report("900b", "x", error="gone", dead=True)
SILENT = Report("900c", "x", error="no answer")
UNREADY = replace(
    SERVING, view=StatusView(node=NODE.model_copy(update={"state": "unready"}))
)


@pytest.mark.parametrize(
    ("reports", "health"),
    [
        ([SERVING], Health.HEALTHY),
        ([SERVING, DEAD], Health.DEGRADED),
        ([SERVING, SILENT], Health.DEGRADED),
        ([UNREADY], Health.CRITICAL),
        ([UNREADY, SILENT], Health.CRITICAL),
        ([DEAD, DEAD], Health.CRITICAL),
        ([DEAD, SILENT], Health.UNKNOWN),
        ([SILENT], Health.UNKNOWN),
    ],
)
def test_judgement(reports: list[Report], health: Health):
    """Dead is known, silent is not; one that serves makes it at most degraded."""
    assert judge(900, reports).health is health


def test_the_wrong_node():
    """An admin URL that leads elsewhere is a problem, though all serve."""
    verdict = judge(901, [replace(SERVING, name="900b")])
    assert verdict.health is Health.DEGRADED
    assert verdict.problems == [
        "900b: the node there calls itself 900a",
        "900b: it is in region 900, not 901",
    ]


def test_odd_nodes(derpctl, beside, configured):
    """No STUN, an IPv6 host on the default port, no date: dashes, no crash."""
    standin = AdminStandIn(entry={"HostName": "2001:db8::1", "DERPPort": 0})
    status = standin.status()
    status["stun"] = None
    dates = iter([None, "junk", "2036-11-21T00:00:00"])
    rows = []
    for date in dates:
        status["node"]["certificate"]["not_after"] = date
        standin.raw = {"/v1/status": web.Response(text=json.dumps(status))}
        url = beside.start(admin(standin))
        ended = derpctl("--config", configured(_900a=url), "status")
        rows.append(masked(ended.out.splitlines()[2]).split())
    assert [row[2] for row in rows] == ["[2001:db8::1]"] * 3
    assert [row[-2] for row in rows] == ["-", "-", "DAYSd"]
    assert [row[-3] for row in rows] == ["-"] * 3
    status["node"]["certificate"] = None
    standin.raw = {"/v1/status": web.Response(text=json.dumps(status))}
    url = beside.start(admin(standin))
    ended = derpctl("--config", configured(_900a=url), "status")
    assert ended.out.splitlines()[2].split()[-2] == "-"


def test_narrow_terminal(derpctl, beside, configured, monkeypatch):
    """At 80 columns the table still has one line a node, with links too."""
    monkeypatch.setenv("COLUMNS", "80")
    url = beside.start(admin(AdminStandIn()))
    ended = derpctl("--config", configured(_900a=url), "status")
    assert len(ended.out.splitlines()) == 3
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    ended = derpctl("--config", meshed(beside, configured), "status")
    rows = [row for row in ended.out.splitlines() if row[:2] in {"NO", "90"}]
    assert len(rows) == 3
    assert all(len(row) <= 80 for row in rows)


def test_units():
    """Times and sizes in their largest unit."""
    spans = [duration(seconds) for seconds in (0.4, 59, 60, 3_600, 86_400 * 12)]
    assert spans == ["0s", "59s", "1m", "1h", "12d"]
    sizes = [size(count) for count in (0, 999, 1_000, 1_234_567, 5 * 10**9, 10**13)]
    assert sizes == ["0", "999", "1k", "1.23M", "5G", "10T"]
