"""`derpctl map lint --online`: what nodes, and the registry, say to a map."""

import asyncio
import json
import socket

import pytest

from derpctl.map.canonical import canonical_json
from derpctl.map.lint import Finding
from derpctl.map.model import DerpMap, Node, Region
from derpctl.online.drift import Known, drift
from derpctl.probe import target
from tests.ctl.certs import DAY, NOW, issue, meta, server_context
from tests.ctl.regions import admins, start
from tests.ctl.standins import (
    SERVER,
    DerpStandIn,
    StunStandIn,
    serving,
    stunning,
)
from tests.mesh.region import LOOK, REGION, cluster, region_text


LEAF = issue("127.0.0.1")
AUTHORITY = issue(common_name="authority", ca=True)
SIGNED = issue("localhost", by=AUTHORITY)
EXPIRED = issue("127.0.0.1", begin=NOW - 90 * DAY, end=NOW - DAY)
EARLY = issue("127.0.0.1", begin=NOW + DAY, end=NOW + 90 * DAY)
AGED = issue("127.0.0.1", begin=NOW - 70 * DAY, end=NOW + 20 * DAY)
OTHER_PIN = f"sha256-raw:{'0' * 64}"
QUIET = "DM009,DM019,DM020"
"""What maps of tests have wrong, all of them on loopback."""


@pytest.fixture
def online(derpctl, tmp_path):
    """Lint a map online; give how it ended and what is found."""

    def run(derp_map, *options, config=None):
        path = tmp_path / "map.json"
        text = derp_map if isinstance(derp_map, str) else canonical_json(derp_map)
        path.write_text(text)
        before = () if config is None else ("--config", config)
        words = ("map", "lint", path, "--online", "--ignore", QUIET, "-o", "json")
        ended = derpctl(*before, *words, "--timeout", "2", *options)
        return ended, json.loads(ended.out)["items"]

    return run


def of(*nodes: Node) -> DerpMap:
    """Make a map of some nodes."""
    about = {"region_id": 900, "region_code": "demo", "region_name": "Demo"}
    return DerpMap(regions={900: Region(nodes=nodes, **about)})


def node(port: int, cert_name: str = "", **more: object) -> Node:
    """Describe a node on loopback."""
    about = {"name": "900a", "region_id": 900, "host_name": "127.0.0.1"}
    about |= {"ipv4": "127.0.0.1", "ipv6": "none", "derp_port": port}
    return Node(**about | {"cert_name": cert_name} | more)


def rules(items) -> list[tuple[str, str, str]]:
    """Give what fired: the rule, how bad it is, and where."""
    return [(item["rule"], item["severity"], item["path"]) for item in items]


@pytest.fixture
def standin(beside, tmp_path):
    """Start a node with this certificate, and others after it; give its port."""

    def run(leaf=LEAF, *others: bytes, **switches):
        context = server_context(tmp_path, leaf, *others, meta(SERVER.public))
        return beside.start(serving(DerpStandIn(**switches), context))

    return run


# The certificate.


def test_right_pin(online, standin):
    """Nothing is wrong, but what could not be compared is said."""
    ended, items = online(of(node(standin(), LEAF.pin)))
    assert (ended.code, items) == (0, [])
    assert ended.err.startswith(
        "derpctl: the map is not compared with what is registered: derpctl has no"
        " configuration; name one by --config\n"
    )


def test_wrong_pin(online, standin):
    """An error with its line, and the pin that would match."""
    ended, items = online(of(node(standin(), OTHER_PIN)))
    assert ended.code == 7
    assert rules(items) == [("DM011", "error", "Regions.900.Nodes[0].CertName")]
    assert items[0]["line"] == 12
    assert items[0]["message"] == (
        "127.0.0.1 presents another certificate, which clients refuse; if it is the"
        f" node that you mean, its pin is {LEAF.pin}"
    )


def test_a_chain_with_a_pin(online, standin):
    """The leaf is the right one, and clients refuse what comes with it."""
    ended, items = online(of(node(standin(LEAF, AUTHORITY.der), LEAF.pin)))
    assert ended.code == 7
    assert rules(items) == [("DM011", "error", "Regions.900.Nodes[0].CertName")]
    assert "presents 2 certificates" in items[0]["message"]


@pytest.mark.parametrize(
    ("leaf", "severity", "code", "words"),
    [
        (EXPIRED, "error", 7, "that expired"),
        (EARLY, "error", 7, "that is not valid before"),
        (AGED, "info", 0, "less than a third of its lifetime"),
    ],
)
def test_time_of_a_pinned_certificate(online, standin, leaf, severity, code, words):
    """Clients mind the dates, though the pin is right."""
    ended, items = online(of(node(standin(leaf), leaf.pin)))
    assert ended.code == code
    assert rules(items) == [("DM021", severity, "Regions.900.Nodes[0].CertName")]
    assert words in items[0]["message"]


def test_time_of_a_certificate_with_a_chain(online, standin):
    """It is said once, and of the host name."""
    _, items = online(of(node(standin(EXPIRED))))
    assert rules(items) == [("DM021", "error", "Regions.900.Nodes[0].HostName")]


def test_an_authority(online, standin, tmp_path):
    """Without a pin, the chain is checked; whom to trust is said by who asks."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(AUTHORITY.pem)
    derp_map = of(node(standin(SIGNED, AUTHORITY.der), host_name="localhost"))
    ended, items = online(derp_map, "--ca-file", authority)
    assert (ended.code, items) == (0, [])
    ended, items = online(derp_map)
    assert (ended.code, rules(items)) == (
        0,
        [("DM027", "warning", "Regions.900.Nodes[0]")],
    )
    assert "127.0.0.1 passes no handshake: tls: " in items[0]["message"]
    assert online(derp_map, "--strict")[0].code == 9


def test_another_name(online, standin, tmp_path):
    """The authority is right, and the certificate is for somebody else."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(AUTHORITY.pem)
    port = standin(SIGNED, AUTHORITY.der)
    entry = node(port, host_name="derp.example.net")
    _, items = online(of(entry), "--ca-file", authority)
    assert rules(items) == [("DM027", "warning", "Regions.900.Nodes[0]")]
    assert "the certificate is for localhost" in items[0]["message"]


def test_insecure(online, standin):
    """Clients take any certificate there, and so do we, after DM012."""
    entry = node(standin(), insecure_for_tests=True)
    _, items = online(of(entry), "--allow-insecure")
    assert [item["rule"] for item in items] == ["DM012"]


def test_no_such_authorities(derpctl, tmp_path):
    """2, and nobody is asked."""
    path = tmp_path / "map.json"
    path.write_text(canonical_json(of(node(1))))
    ended = derpctl("map", "lint", path, "--online", "--ca-file", tmp_path / "none")
    assert (ended.code, "give a PEM file" in ended.err) == (2, True)


# The node.


@pytest.fixture
def closed_port():
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_down(online, standin, closed_port):
    """A warning of the one; the other is asked all the same."""
    down = node(closed_port, LEAF.pin, name="900b", can_port80=True)
    derp_map = of(node(standin(), OTHER_PIN), down)
    ended, items = online(derp_map, "--ignore", "DM014")
    assert ended.code == 7
    assert rules(items) == [
        ("DM011", "error", "Regions.900.Nodes[0].CertName"),
        ("DM027", "warning", "Regions.900.Nodes[1]"),
    ]
    assert items[1]["message"].startswith(
        "127.0.0.1 passes no handshake: tcp: 127.0.0.1:"
    )


def test_no_relay(online, standin):
    """TLS is well, and there is no DERP behind it."""
    port = standin(greeting=b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    _, items = online(of(node(port, LEAF.pin)))
    assert rules(items) == [("DM027", "warning", "Regions.900.Nodes[0]")]
    assert "passes no handshake: http: " in items[0]["message"]


def test_who_admits_nobody_is_well(online, standin):
    """Nobody logs in: strangers may be unwelcome."""
    _, items = online(of(node(standin(admits=False), LEAF.pin)))
    assert items == []


def test_no_name(online):
    """What DNS does not know is not reached."""
    entry = node(443, host_name="derp.invalid", ipv4="")
    _, items = online(of(entry))
    assert rules(items) == [("DM027", "warning", "Regions.900.Nodes[0].HostName")]
    assert items[0]["message"].startswith("dns: derp.invalid: ")


def test_what_no_client_dials_is_not_asked(online):
    """The map's own rules have said why."""
    _, items = online(of(node(443, ipv4="none", ipv6="none")))
    assert {item["rule"] for item in items} == {"DM008"}


def test_only_stun(online, standin, beside):
    """A node that measures is asked to."""
    relay = node(standin(), LEAF.pin)
    stun = beside.start(stunning(StunStandIn()))
    silent = beside.start(stunning(StunStandIn(answers=False)))
    found = []
    for port in (stun, silent, -1):
        entry = node(1, name="900b", stun_port=port, stun_only=True)
        found.append(rules(online(of(relay, entry), "--timeout", "0.5")[1]))
    assert found == [[], [("DM027", "warning", "Regions.900.Nodes[1]")], []]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered 200"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "answered 204 and 'nothing'"),
    ],
)
def test_captive_portal(online, standin, beside, monkeypatch, answer, words):
    """The challenge comes back, or clients believe that they are locked in."""
    answers = {} if answer is None else {"/generate_204": answer}
    plain = beside.start(serving(DerpStandIn(answers=answers)))
    monkeypatch.setattr(target, "_HTTP_PORT", plain)
    ended, items = online(of(node(standin(), LEAF.pin, can_port80=True)))
    if answer is None:
        assert (ended.code, items) == (0, [])
    else:
        assert ended.code == 7
        assert rules(items) == [("DM013", "error", "Regions.900.Nodes[0].CanPort80")]
        assert words in items[0]["message"]


def test_nobody_on_port_80(online, standin, closed_port, monkeypatch):
    """It is an error, too: nothing is echoed."""
    monkeypatch.setattr(target, "_HTTP_PORT", closed_port)
    _, items = online(of(node(standin(), LEAF.pin, can_port80=True)))
    assert rules(items) == [("DM013", "error", "Regions.900.Nodes[0].CanPort80")]


def test_no_map(online):
    """Of what cannot be read, nobody is asked."""
    ended, items = online('{"Regions": 7}')
    assert (ended.code, [item["rule"] for item in items]) == (7, ["DM025"])
    assert "compared" not in ended.err


def test_many_nodes_are_asked_at_once(online, standin):
    """A hundred silent ones take the time of two."""
    port = standin(greeting=b"")
    nodes = [node(port, LEAF.pin, name=f"900n{number}") for number in range(100)]
    ended, items = online(of(*nodes), "--timeout", "0.5", "--ignore", "DM014")
    assert ended.code == 0
    assert [item["rule"] for item in items] == ["DM027"] * 100


# The region.


@pytest.fixture
def region(beside):
    """Two real nodes that know each other."""
    found = beside.start(cluster())
    beside.run(start(found, "ab"))
    return found


@pytest.fixture
def config(region, configured):
    """Derpctl's configuration for them."""
    return configured(**admins(list(region.nodes.values())))


@pytest.fixture
def exported(derpctl, config):
    """The map of the region, to be changed."""
    return derpctl("--config", config, "map", "export", "-f", "derpmap").out


def test_a_region(online, config, exported, derpctl):
    """Real nodes with the map that they publish: nothing is wrong."""
    ended, items = online(exported, config=config)
    assert (ended.code, items) == (0, [])
    assert "compared" not in ended.err
    words = ("--config", config, "map", "lint", "cluster", "--online")
    ended = derpctl(*words, "--strict", "--ignore", QUIET)
    assert ended == (0, "", "derpctl: cluster: nothing is wrong\n")


def test_wrong_pin_of_a_real_node(online, config, exported, region):
    """It is wrong twice: of the node, and of what is registered."""
    text = exported.replace(region.nodes["a"].pin, OTHER_PIN)
    ended, items = online(text, config=config)
    where = "Regions.900.Nodes[0].CertName"
    assert ended.code == 7
    assert rules(items) == [("DM011", "error", where), ("DM027", "warning", where)]
    assert region.nodes["a"].pin in items[1]["message"]


def test_a_node_that_is_not_registered(online, config, exported):
    """And one that is registered, and not in the map."""
    text = exported.replace('"900b"', '"900z"')
    ended, items = online(text, config=config)
    assert ended.code == 0
    assert rules(items) == [
        ("DM027", "warning", "Regions.900.Nodes[1]"),
        ("DM027", "warning", "Regions.900.Nodes"),
    ]
    assert "900z is in the map and not registered" in items[0]["message"]
    assert "900b is registered" in items[1]["message"]
    assert items[0]["line"] > items[1]["line"] > 1


def test_a_region_that_is_not_in_the_map(online, config):
    """What the configuration knows should be there."""
    text = '{"Regions": {}}'
    _, items = online(text, config=config)
    assert rules(items) == [
        ("DM005", "error", "Regions"),
        ("DM027", "warning", "Regions"),
    ]
    assert "region 900 is registered, with 900a, 900b" in items[1]["message"]


def test_a_node_that_is_another_than_registered(
    derpctl, online, beside, region, config, exported
):
    """What is registered is published, and the node that is not so is named."""
    there, elsewhere = region.nodes["a"].member, region.nodes["b"].member
    moved = elsewhere.model_copy(update={"stun_port": 3499})
    region.edit(region_text(REGION, there, moved))
    for _ in range(200):  # both nodes watch their file, and say when they have read it
        published = derpctl("--config", config, "map", "export", "-f", "derpmap")
        if published.code == 0 and published.out != exported:
            break
        beside.run(asyncio.sleep(LOOK))
    _, items = online(published.out, config=config)
    assert rules(items) == [("DM027", "warning", "Regions.900.Nodes[1]")]
    assert items[0]["message"].startswith(
        "900b says that its STUNPort is 3478, and registered is 3499; "
    )


def test_a_dead_node(online, beside, config, exported, region):
    """It is in the map as it should, and nobody is there."""
    beside.run(region.nodes["b"].stop())
    ended, items = online(exported, config=config)
    assert ended.code == 0
    assert rules(items) == [("DM027", "warning", "Regions.900.Nodes[1]")]


def test_no_cluster_to_ask(online, standin, configured):
    """The nodes are judged, and what is not is said."""
    config = configured(_900a="unix:/none/a.sock")
    ended, items = online(of(node(standin(), LEAF.pin)), config=config)
    assert (ended.code, items) == (0, [])
    assert "the map is not compared with what is registered: " in ended.err
    assert "/none/a.sock" in ended.err


def test_a_broken_configuration(derpctl, tmp_path):
    """3: who has one wants it used."""
    path, config = tmp_path / "map.json", tmp_path / "derpctl.yaml"
    path.write_text(canonical_json(of(node(1))))
    config.write_text("region: x")
    ended = derpctl("--config", config, "map", "lint", path, "--online")
    assert (ended.code, ended.out) == (3, "")


# What counts as different.


def known(*nodes: Node, **live: Node) -> Known:
    """Make a region of which something is known."""
    return Known(
        of(*nodes), "etcd", {name.strip("_"): one for name, one in live.items()}
    )


def drifted(derp_map: DerpMap, found: Known) -> list[Finding]:
    """Compare."""
    return list(drift(derp_map, found))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"derp_port": 443}, {"derp_port": 0}),
        ({"stun_port": 3478}, {"stun_port": 0}),
        ({"stun_port": -1}, {"stun_port": -7}),
        ({"ipv4": "", "ipv6": ""}, {}),
        ({"ipv6": "off"}, {"ipv6": "none"}),
        ({"host_name": "A.example.net."}, {"host_name": "a.example.net"}),
        (
            {"host_name": "a", "ipv6": "2606:4700:0:0::1"},
            {"host_name": "a", "ipv6": "2606:4700::1"},
        ),
    ],
)
def test_other_words_for_the_same(one, other):
    """What clients take alike is no difference."""
    mine, theirs = (node(443, **words) for words in (one, other))
    assert drifted(of(mine), known(theirs, _900a=mine)) == []


def test_words_of_a_difference():
    """Both values, and what would mend it."""
    registered = node(8443, stun_port=-1)
    found = drifted(of(node(443)), known(registered, _900a=node(8443)))
    assert [str(one) for one in found] == [
        "DM027: Regions.900.Nodes[0].STUNPort: 3478 in the map, and registered is -1;"
        " correct one of them",
        "DM027: Regions.900.Nodes[0].DERPPort: 443 in the map, and registered is 8443;"
        " correct one of them",
        "DM027: Regions.900.Nodes[0]: 900a says that its STUNPort is 3478, and"
        " registered is -1; correct what is registered, or the node's configuration",
    ]


def test_other_regions_are_not_compared():
    """The registry knows one region."""
    there = Region(region_id=901, nodes=(node(443, name="901a"),))
    both = DerpMap(regions={**of(node(443)).regions, 901: there})
    assert drifted(both, known(node(443))) == []
