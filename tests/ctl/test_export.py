"""`derpctl map export`: from the nodes' own words to what an operator pastes."""

import json

import pytest
from aiohttp import web

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.export import render
from derpctl.map.model import DerpMap, HomeParams
from tests.ctl.standins import AdminStandIn, admin


PIN = f"sha256-raw:{'ab' * 32}"

ACL = f"""\
// DERP map of region 900, revision 7b3472df76ba.
// The member below belongs at the top level of the policy file.
{{
	"derpMap": {{
		"OmitDefaultRegions": false,
		"Regions": {{
			"900": {{
				"RegionID":   900,
				"RegionCode": "demo",
				"RegionName": "Demo",
				"Nodes": [
					// pinned: another certificate needs another map
					{{"Name": "900b", "RegionID": 900, "HostName": "8.8.4.4", \
"CertName": "{PIN}", "IPv4": "8.8.4.4", "IPv6": "none", "DERPPort": 8443}},
					{{"Name": "900a", "RegionID": 900, "HostName": \
"a.example.net", "IPv4": "8.8.8.8", "IPv6": "none", "DERPPort": 8443}},
				],
			}},
		}},
	}},
}}
"""


@pytest.fixture
def config(beside, configured):
    """Two nodes; the second comes first in the map."""
    name = {"HostName": "a.example.net", "IPv4": "8.8.8.8"}
    address = {"HostName": "8.8.4.4", "IPv4": "8.8.4.4"}
    url = beside.start(admin(AdminStandIn(pinned=False, entry=name)))
    other = beside.start(admin(AdminStandIn("900b", entry=address)))
    return configured(_900b=other, _900a=url)


def test_acl(derpctl, config):
    """The order is that of the configuration; twice gives the same bytes."""
    ended = derpctl("--config", config, "map", "export")
    assert ended == (0, ACL, "")
    assert derpctl("--config", config, "map", "export", "-f", "acl").out == ACL


def test_fragment(derpctl, config):
    """The member alone."""
    ended = derpctl("--config", config, "map", "export", "--fragment")
    lines = ended.out.splitlines()
    assert (lines[0], lines[-1]) == ('"derpMap": {', "},")


def test_derpmap_and_headscale(derpctl, config):
    """The other two consumers."""
    ended = derpctl("--config", config, "map", "export", "-f", "derpmap")
    nodes = json.loads(ended.out)["Regions"]["900"]["Nodes"]
    assert [node["Name"] for node in nodes] == ["900b", "900a"]
    ended = derpctl("--config", config, "map", "export", "-f", "headscale")
    assert ended.out.splitlines()[1:3] == ["regions:", "  900:"]


def test_headscale_has_rules_of_its_own(derpctl, config):
    """What it does to an order is said to who exports for it, and to nobody else."""
    ended = derpctl("--config", config, "map", "export", "-f", "headscale")
    assert ended.code == 0
    assert ended.err == (
        "derpctl: DM023: Regions.900.Nodes: 2 nodes, which headscale shuffles each time"
        " that it reads its map, so that every client of the region reconnects; turn"
        " derp.auto_update_enabled off there, or keep to one node\n"
    )
    assert derpctl("--config", config, "map", "export", "-f", "derpmap").err == ""


def test_a_trial_is_quiet(derpctl, beside, configured):
    """Nodes on loopback share an address of no interest, and are meant to be there."""
    found = {}
    for port, name in enumerate(("900a", "900b", "900c"), 8443):
        here = {"HostName": "127.0.0.1", "IPv4": "127.0.0.1", "DERPPort": port}
        standin = AdminStandIn(name, entry=here | {"STUNPort": port})
        found[f"_{name}"] = beside.start(admin(standin))
    ended = derpctl("--config", configured(**found), "map", "export")
    assert (ended.code, ended.out.count("127.0.0.1"), ended.err) == (0, 6, "")


def test_a_dead_node_makes_no_map(derpctl, beside, configured):
    """A map without it would take it from every client: nothing is printed."""
    url = beside.start(admin(AdminStandIn()))
    path = configured(_900a=url, _900b="unix:/none/b.sock")
    assert derpctl("--config", path, "map", "export") == (
        4,
        "",
        "derpctl: unix:/none/b.sock: no such file or directory; "
        "a map without this node would take it from every client; start it\n",
    )


@pytest.mark.parametrize(
    ("standin", "code", "message"),
    [
        (AdminStandIn(region=901), 3, "region = 900: 900a is in region 901; correct"),
        (
            AdminStandIn("900b", code="x"),
            7,
            "the map: region.code: 900z says 'demo', 900b says 'x'; correct the nodes'",
        ),
        (
            AdminStandIn("900b", entry={"DERPPort": "x"}),
            7,
            "the map: 900b.map_entry.DERPPort = 'x': not a whole number",
        ),
    ],
)
def test_nodes_that_do_not_fit(derpctl, beside, configured, standin, code, message):
    """What is wrong with whom, and nothing on stdout."""
    url = beside.start(admin(AdminStandIn("900z")))
    other = beside.start(admin(standin))
    ended = derpctl("--config", configured(_900z=url, _900b=other), "map", "export")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(f"derpctl: {message}")


def test_a_node_without_an_entry(derpctl, beside, configured):
    """An empty entry is no node, and no map has it."""
    standin = AdminStandIn()
    body = standin.node() | {"map_entry": {}, "certificate": None}
    standin.raw = {"/v1/node": web.Response(text=json.dumps(body))}
    url = beside.start(admin(standin))
    ended = derpctl("--config", configured(_900a=url), "map", "export")
    assert (ended.code, ended.out) == (7, "")
    assert ended.err == (
        "derpctl: DM002: Regions.900.Nodes[0].RegionID: RegionID is missing, so "
        "latencies are booked elsewhere and the region is never a home; make it 900; "
        "correct what the registry, or the node's configuration, says\n"
    )


def test_no_certificate(derpctl, beside, configured):
    """What is shown has no pin to remark on."""
    standin = AdminStandIn(pinned=False)
    body = standin.node() | {"certificate": None}
    standin.raw = {"/v1/node": web.Response(text=json.dumps(body))}
    url = beside.start(admin(standin))
    ended = derpctl("--config", configured(_900a=url), "map", "export")
    assert ended.code == 0
    assert ended.out.count("//") == 2


def test_warnings_are_said(derpctl, beside, configured):
    """They are no reason not to print the map."""
    url = beside.start(admin(AdminStandIn(entry={"IPv4": "", "IPv6": ""})))
    ended = derpctl("--config", configured(_900a=url), "map", "export")
    assert (ended.code, "derpMap" in ended.out) == (0, True)
    assert ended.err == (
        "derpctl: DM009: Regions.900.Nodes[0].IPv4: no address, so that clients need "
        'DNS, which may need the relay; give it, or "none" if there is none\n'
    )


def test_usage(derpctl):
    """What no format can mean is a usage error, before anybody is asked."""
    ended = derpctl("map", "export", "-f", "derpmap", "--fragment")
    assert (ended.code, ended.out) == (2, "")
    assert "only -f acl has a fragment, not -f derpmap" in ended.err
    assert derpctl("map", "export", "-f", "toml").code == 2
    assert derpctl("map", "export").code == 3


def test_what_a_format_cannot_say():
    """Refused, with the format that can."""
    scored = DerpMap(home_params=HomeParams(region_score={900: 2.0}))
    with pytest.raises(CtlError) as found:
        render(scored, "headscale")
    assert str(found.value) == (
        "-f headscale: HomeParams.RegionScore cannot be said in a headscale file; "
        "use -f derpmap, or take it out"
    )
    assert found.value.exit is Exit.REFUSED
