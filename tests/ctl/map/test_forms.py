"""What else a map is written as: each to the letter once, and read back."""

import ipaddress
import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from derpctl.map.canonical import tree_of
from derpctl.map.derper import env
from derpctl.map.derpprobe import derpprobe
from derpctl.map.errors import CannotCarry
from derpctl.map.headscale_config import headscale_config
from derpctl.map.model import DerpMap, HomeParams, Node, Region
from derpctl.map.policy import policy_json
from derpctl.map.read import parse_derp_map, read_derp_map
from derpctl.map.source import read_any
from derpctl.map.table import COLUMNS, items, rows
from derpctl.map.terraform import terraform
from tests.ctl.map.drawn import maps
from tests.ctl.map.hcl import read_local
from tests.ctl.map.test_map import EDGE, PIN


finite = st.floats(allow_nan=False, allow_infinity=False)
unscored = maps(finite).map(lambda derp_map: replace(derp_map, home_params=None))

TERRAFORM = """\
# DERP map, revision 1ca9d6277a0d. It becomes a part of the policy file by
#
#   resource "tailscale_acl" "policy" {
#     acl = jsonencode(merge(local.policy, { derpMap = local.derp_map }))
#   }
#
# where local.policy has everything else.
locals {
  derp_map = {
    OmitDefaultRegions = false
    Regions = {
      "1" = null
      "901" = {
        RegionID = 901
        RegionCode = "hkg-edge"
        RegionName = "Hong Kong (edge)"
        Latitude = 22.3193
        Longitude = 114
        Nodes = [
          {
            Name = "901a"
            RegionID = 901
            HostName = "derp-a.example.net"
            IPv4 = "203.0.113.10"
            IPv6 = "2001:db8:1::10"
            CanPort80 = true
          },
          {
            Name = "901b"
            RegionID = 901
            HostName = "derp-b.example.net"
            IPv4 = "203.0.113.11"
            IPv6 = "none"
            STUNPort = 3479
            DERPPort = 8443
          },
          {
            Name = "901c"
            RegionID = 901
            HostName = "203.0.113.12"
            CertName = "<PIN>"
            IPv4 = "203.0.113.12"
            IPv6 = "none"
          },
        ]
      }
    }
  }
}
""".replace("<PIN>", PIN)

ENV = """\
# DERP map, revision 1ca9d6277a0d: how a stock derper takes the place of each node.
# Give a machine its section only. The names are those of camllia/derper, which is the
# one to take for a region of several nodes; those that begin with DERP_ are those of
# fredliang/derper, which cannot mesh. All need the region's mesh key, in
# /etc/derpmesh/mesh.key.

# 901a of region 901
# Its derper cannot mesh with 901c, see there.
# derper -hostname derp-a.example.net -a :443 -stun-port 3478 -certmode letsencrypt \
-mesh-psk-file /etc/derpmesh/mesh.key -mesh-with derp-b.example.net:8443
HOSTNAME=derp-a.example.net
ADDR=:443
STUN_PORT=3478
CERT_MODE=letsencrypt
MESH_PSKFILE=/etc/derpmesh/mesh.key
MESH_WITH=derp-b.example.net:8443
DERP_DOMAIN=derp-a.example.net
DERP_ADDR=:443
DERP_STUN_PORT=3478
DERP_CERT_MODE=letsencrypt

# 901b of region 901
# Its derper cannot mesh with 901c, see there.
# derper -hostname derp-b.example.net -a :8443 -stun-port 3479 -certmode manual \
-mesh-psk-file /etc/derpmesh/mesh.key -mesh-with derp-a.example.net
HOSTNAME=derp-b.example.net
ADDR=:8443
STUN_PORT=3479
CERT_MODE=manual
MESH_PSKFILE=/etc/derpmesh/mesh.key
MESH_WITH=derp-a.example.net
DERP_DOMAIN=derp-b.example.net
DERP_ADDR=:8443
DERP_STUN_PORT=3479
DERP_CERT_MODE=manual

# 901c of region 901
# derper cannot mesh with it: it is pinned, and derper checks chains only. It needs a \
domain, or stays a node of ours.
"""


def test_terraform():
    """Objects that jsonencode makes the policy's member of."""
    assert terraform(EDGE, [1]) == TERRAFORM


@given(unscored)
@example(
    DerpMap(regions={1: Region(region_id=1, region_name="$${a} %%{b} \x00\U000e0001")})
)
def test_terraform_reads_back(derp_map):
    """Nothing in it is taken for a template, and nothing is lost."""
    found = read_local(terraform(derp_map, [7]), "derp_map")
    expected = tree_of(derp_map)
    expected["Regions"].setdefault("7", None)
    expected["OmitDefaultRegions"] = expected.pop("omitDefaultRegions", False)
    assert found == expected


@given(unscored, st.booleans())
def test_policy_json_reads_back(derp_map, fragment):
    """Plain JSON gives the same map, the member alone as well."""
    text = policy_json(derp_map, fragment=fragment)
    assert read_any(text, is_yaml=False) == derp_map
    tree = json.loads(f"{{{text}}}" if fragment else text)
    assert read_derp_map(tree["derpMap"]) == derp_map


def test_removed_regions_are_null():
    """Ours are not removed, though named."""
    tree = json.loads(policy_json(EDGE, [2, 1, 901]))["derpMap"]["Regions"]
    assert list(tree) == ["1", "2", "901"]
    assert (tree["1"], tree["901"]["RegionID"]) == (None, 901)


def test_derpprobe():
    """What is no address is left out, and nothing else is."""
    found = parse_derp_map(derpprobe(EDGE))
    first, second, _ = found.regions[901].nodes
    assert first == EDGE.regions[901].nodes[0]
    assert second == replace(EDGE.regions[901].nodes[1], ipv6="")


@given(unscored)
def test_derpprobe_reads_back(derp_map):
    """But for these addresses it is the same map."""
    found = parse_derp_map(derpprobe(derp_map))
    for number, region in derp_map.regions.items():
        for read, node in zip(found.regions[number].nodes, region.nodes, strict=True):
            assert replace(read, ipv4=node.ipv4, ipv6=node.ipv6) == node
            assert {read.ipv4, read.ipv6} <= {"", node.ipv4, node.ipv6}
            assert not read.ipv4 or ipaddress.IPv4Address(read.ipv4)
            assert not read.ipv6 or ipaddress.IPv6Address(read.ipv6)
    bare = [
        replace(one, regions={n: replace(r, nodes=()) for n, r in one.regions.items()})
        for one in (found, derp_map)
    ]
    assert bare[0] == bare[1]


def test_headscale_config_with_a_file():
    """Several nodes in a region: updates would shuffle them."""
    assert headscale_config(EDGE, file="/etc/headscale/derp.yaml", only_ours=True) == (
        "# For DERP map 1ca9d6277a0d: this block belongs into config.yaml, in place of"
        " its own.\n"
        "derp:\n"
        "  server:\n"
        "    enabled: false\n"
        "  urls: []\n"
        "  paths:\n"
        '    - "/etc/headscale/derp.yaml"\n'
        "  auto_update_enabled: false  # each update shuffles the nodes of a region and"
        " reconnects its clients;\n"
        "  # restart headscale after a change of the map\n"
    )


def test_headscale_config_with_a_url():
    """One node has no order to lose."""
    region = replace(EDGE.regions[901], nodes=EDGE.regions[901].nodes[:1])
    text = headscale_config(
        DerpMap(regions={901: region}), url="https://map.example.net/derpmap/default"
    )
    assert yaml.safe_load(text) == {
        "derp": {
            "server": {"enabled": False},
            "urls": [
                "https://controlplane.tailscale.com/derpmap/default",
                "https://map.example.net/derpmap/default",
            ],
            "paths": [],
            "auto_update_enabled": True,
            "update_frequency": "24h",
        }
    }


def test_env():
    """Each meshes with all that a derper can dial."""
    assert env(EDGE) == ENV


def test_env_of_the_odd():
    """STUN alone, no STUN, IPv6, no name, and a name that would be two lines."""
    odd = Region(
        region_id=901,
        nodes=(
            Node(name="s", region_id=901, host_name="s.example.net", stun_only=True),
            Node(name="a", region_id=901, host_name="::1", stun_port=-1),
            Node(name="b\nX=1", region_id=901, host_name="b.example.net"),
            Node(name="c", region_id=901, host_name=""),
        ),
    )
    lines = env(DerpMap(regions={901: odd})).splitlines()
    assert "# It relays nothing, so that nothing meshes with it." in lines
    assert "# It has no host name to dial." in lines
    assert "RUN_STUN=false" in lines
    assert [line for line in lines if line.startswith("MESH_WITH")] == [
        "MESH_WITH=b.example.net",
        "MESH_WITH=[::1]",
    ]
    assert "# b\\nX=1 of region 901" in lines


@given(unscored)
def test_env_is_comments_and_variables(derp_map):
    """Whatever names there are, no line is anything else."""
    for line in env(derp_map).split("\n"):
        name = line.partition("=")[0]
        assert not line or line[0] == "#" or name.isupper()


def test_table():
    """A row for each node, a pin cut short."""
    scored = replace(
        EDGE,
        home_params=HomeParams(region_score={901: 0.25}),
        regions={901: replace(EDGE.regions[901], no_measure_no_home=True, avoid=True)},
    )
    found = ["|".join(row) for row in rows(scored)]
    assert found[1:] == [
        "901 hkg-edge|901b|2|derp-b.example.net|203.0.113.11|none|8443|3479|"
        "derp-b.example.net|no-home, avoid, score 0.25",
        "901 hkg-edge|901c|3|203.0.113.12|203.0.113.12|none|443|3478|"
        "sha256-raw:9f86d081884c…|no-home, avoid, score 0.25",
    ]
    assert len(COLUMNS) == len(found[0].split("|"))


def test_items():
    """The same for programs: what there is not is null."""
    node = Node(name="a", region_id=9, host_name="h", stun_only=True, stun_port=-1)
    region = Region(region_id=9, region_code="c", nodes=(node,))
    assert items(DerpMap(regions={9: region})) == [
        {
            "region": 9,
            "code": "c",
            "node": "a",
            "order": 1,
            "host": "h",
            "ipv4": None,
            "ipv6": None,
            "derp_port": None,
            "stun_port": None,
            "certificate": "h",
            "flags": ["stun-only"],
        }
    ]


@given(maps(finite))
def test_tables_take_any_map(derp_map):
    """As many rows as nodes."""
    many = sum(len(region.nodes) for region in derp_map.regions.values())
    assert len(rows(derp_map)) == many


@pytest.mark.parametrize(
    "write",
    [derpprobe, terraform, policy_json, env, headscale_config],
)
def test_scores_are_not_lost(write):
    """Who would not read them says so."""
    scored = DerpMap(home_params=HomeParams(region_score={900: 2.0}))
    with pytest.raises(CannotCarry, match="RegionScore cannot be said in "):
        write(scored)
