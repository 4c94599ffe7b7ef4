"""`derpctl probe node`: targets, every layer's failure, and the whole output."""

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpctl.map.model import DerpMap, Node, Region
from derpctl.probe import stun
from derpctl.probe.checks import Check, Result, Status
from derpctl.probe.node import NodeProbe
from derpctl.probe.record import Record
from derpctl.probe.target import Target, from_map, from_node, parse_target, tls_of
from derpnode.client import ClientTls, Relay
from derpnode.wire.keys import PrivateKey
from tests.ctl.certs import NOW, issue, meta, server_context
from tests.ctl.standins import (
    OTHER,
    SERVER,
    AdminStandIn,
    DerpStandIn,
    StunStandIn,
    admin,
    serving,
    stunning,
)


LEAF = issue("derp.example.com", "127.0.0.1")
PIN = LEAF.pin
TLS = ClientTls()


def tls_context(folder: Path, key: PrivateKey = SERVER):
    """Serve the leaf and a meta certificate."""
    return server_context(folder, LEAF, meta(key.public))


# What to probe.


@pytest.mark.parametrize(
    ("text", "host", "port", "plain"),
    [
        ("derp.example.com:8443", "derp.example.com", 8443, False),
        ("192.0.2.1:1", "192.0.2.1", 1, False),
        ("[2001:db8::1]:65535", "2001:db8::1", 65_535, False),
        ("https://derp.example.com", "derp.example.com", 443, False),
        ("https://derp.example.com:8443/derp", "derp.example.com", 8443, False),
        ("https://[2001:db8::1]", "2001:db8::1", 443, False),
        ("http://192.0.2.1", "192.0.2.1", 80, True),
    ],
)
def test_targets(text: str, host: str, port: int, plain: bool):
    """Addresses and URLs say all that is needed."""
    found = parse_target(text, TLS)
    assert found is not None
    assert (found.relay.host, found.relay.port) == (host, port)
    assert (found.relay.tls is None) is plain
    assert (found.stun_port, found.http_port) == (None, None)


def test_names_are_no_targets():
    """They must be looked up."""
    assert parse_target("900a", TLS) is None
    assert parse_target("derp.example.com", TLS) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("derp.example.com:70000", "port 70000 is not in 1 to 65535"),
        ("derp.example.com:0", "port 0 is not in 1 to 65535"),
        ("ftp://x", "not an http:// or https:// URL with a host"),
        ("https://", "not an http:// or https:// URL with a host"),
        ("https://x:70000", "port out of range 0-65535"),
        ("https://[x", "invalid ipv6 url"),
    ],
)
def test_bad_targets(text: str, reason: str):
    """A usage error with the forms that would do."""
    with pytest.raises(CtlError) as found:
        parse_target(text, TLS)
    assert str(found.value) == (
        f"{text}: {reason}; "
        "give a node's name, HOST:PORT, [V6]:PORT or https://HOST:PORT"
    )
    assert found.value.exit is Exit.USAGE


NODE = Node(name="900a", region_id=900, host_name="derp.example.com")


def test_node_of_a_map():
    """Defaults as clients know them."""
    found = from_node(NODE, TLS)
    assert (found.relay.port, found.stun_port, found.http_port) == (443, 3478, None)
    assert (list(found.families), list(found.relay.addresses)) == ([4, 6], [])
    full = replace(
        NODE,
        cert_name=PIN,
        ipv4="192.0.2.1",
        ipv6="none",
        derp_port=8443,
        stun_port=-1,
        can_port80=True,
    )
    found = from_node(full, TLS)
    assert (found.relay.port, found.stun_port, found.http_port) == (8443, None, 80)
    assert (list(found.families), list(found.relay.addresses)) == ([4], ["192.0.2.1"])
    assert found.relay.tls == ClientTls(PIN)
    assert from_node(full, ClientTls("other.example")).relay.tls == (
        ClientTls("other.example")
    )
    assert from_node(replace(NODE, stun_port=1), TLS).stun_port == 1
    assert from_node(replace(NODE, stun_port=70_000), TLS).stun_port is None
    with pytest.raises(CtlError, match=r"^900a: DERPPort = 70000: not in 1 to 65535; "):
        from_node(replace(NODE, derp_port=70_000), TLS)


@pytest.mark.parametrize(
    "node", [replace(NODE, ipv4="none", ipv6="none"), replace(NODE, host_name="")]
)
def test_node_that_nobody_can_dial(node: Node):
    """Said before anything is sent."""
    with pytest.raises(CtlError, match=r"^900a: no client can dial it; give it a Host"):
        from_node(node, TLS)


def test_name_in_a_map():
    """Names are looked up over all regions."""
    derp_map = DerpMap(regions={900: Region(region_id=900, nodes=(NODE,))})
    assert from_map(derp_map, "900a", TLS, source="m").name == "900a"
    for found_map, names in ((derp_map, "900a"), (DerpMap(), "no node")):
        with pytest.raises(CtlError) as found:
            from_map(found_map, "900b", TLS, source="m.json")
        assert str(found.value) == (
            f"900b: not in m.json; there is {names}; or give HOST:PORT"
        )
        assert found.value.exit is Exit.NOT_FOUND


def test_certificate_options(tmp_path: Path):
    """A pin that could never match is refused at once."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    assert tls_of(PIN, ca_file) == ClientTls(PIN, ca_file)
    assert tls_of(None, None) == ClientTls()
    with pytest.raises(CtlError, match=r"^--pin = ABC: not sha256-raw: and 64 lower-"):
        tls_of("ABC", None)
    with pytest.raises(
        CtlError, match=r"^--ca-file = .*none: no such file; give a PEM"
    ):
        tls_of(None, tmp_path / "none")


# STUN.


async def test_stun():
    """The answer that counts is to one of our own transactions."""
    async with stunning(StunStandIn(junk=True)) as port:
        found = await stun.ask("127.0.0.1", port, within=3)
    assert str(found.ip) == "127.0.0.1"
    assert 0 < found.seconds < 3


async def test_stun_silence():
    """Three requests, and then it is enough."""
    async with stunning(StunStandIn(answers=False)) as port:
        with pytest.raises(
            stun.StunFailed, match=r"^no answer to 3 requests in 0\.06 s"
        ):
            await stun.ask("127.0.0.1", port, within=0.06)


async def test_stun_refused():
    """The system knows that nobody listens; an address of no use fails at once."""
    async with stunning(StunStandIn()) as port:
        pass
    with pytest.raises(stun.StunFailed, match="connection refused"):
        await stun.ask("127.0.0.1", port, within=3)
    with pytest.raises(stun.StunFailed):
        await stun.ask("ff02::1%none", port, within=3)


# Layers.


async def probe(port: int, **options: object) -> Result:
    """Probe a stand-in."""
    tls = options.pop("tls", ClientTls(PIN))
    known = {
        "name": "900a",
        "relay": Relay("127.0.0.1", port, tls),
        "families": (4, 6),
        **options,
    }
    return await NodeProbe(Target(**known), count=2, timeout=1.0).run()


def found(result: Result, layer: str) -> Check:
    """Give the check of a layer."""
    return next(check for check in result.checks if check.layer == layer)


async def test_all_is_well(tmp_path: Path):
    """Every layer, in order."""
    stand = DerpStandIn()
    async with (
        serving(stand, tls_context(tmp_path)) as port,
        serving(DerpStandIn()) as http,
        stunning(StunStandIn()) as stun_port,
    ):
        key = f"nodekey:{SERVER.public.hex()}"
        options = {"stun_port": stun_port, "http_port": http, "server_key": key}
        result = await probe(port, **options)
    assert (result.failed, result.exit) == (None, Exit.OK)
    assert [(check.layer, check.status.value) for check in result.checks] == [
        ("dns", "skipped"),
        ("tcp4", "ok"),
        ("tcp6", "skipped"),
        ("tls", "ok"),
        ("http", "ok"),
        ("server-key", "ok"),
        ("meta-certificate", "ok"),
        ("login", "ok"),
        ("identity", "ok"),
        ("fast-start", "ok"),
        ("ping", "ok"),
        ("relay", "ok"),
        ("latency-check", "ok"),
        ("captive-portal", "ok"),
        ("stun4", "ok"),
        ("stun6", "skipped"),
    ]
    assert found(result, "tls").values["pin"] == PIN
    assert found(result, "ping").values["count"] == 2
    assert found(result, "stun4").values["mapped_ip"] == "127.0.0.1"
    assert all(info.is_prober for info in stand.infos)


async def test_nothing_listens():
    """No relay, and the rest that needs none is still tried."""
    async with serving(DerpStandIn()) as port:
        pass
    result = await probe(port)
    assert result.exit is Exit.CRITICAL
    assert result.failed == Check(
        "tcp", Status.FAILED, f"nothing answers on port {port}"
    )
    assert found(result, "tcp4").status is Status.FAILED


async def test_no_address_of_the_family():
    """A map that turns the only family off leaves nothing to dial."""
    result = await probe(1, families=(6,))
    assert result.failed.detail == "there is no address to dial"


async def test_tls_fails(tmp_path: Path):
    """The pin that would fit is in the line."""
    async with serving(DerpStandIn(), tls_context(tmp_path)) as port:
        result = await probe(port, tls=ClientTls(f"sha256-raw:{'0' * 64}"))
    assert result.failed.layer == "tls"
    assert PIN in result.failed.detail
    assert [check.layer for check in result.checks][3:5] == ["tls", "captive-portal"]


@pytest.mark.parametrize(
    ("stand", "layer", "exit_code"),
    [
        (DerpStandIn(greeting=b"HTTP/1.1 404 No\r\n\r\n"), "http", Exit.CRITICAL),
        (DerpStandIn(first=b"\x06\0\0\0\0"), "server-key", Exit.CRITICAL),
        (DerpStandIn(admits=False), "login", Exit.CRITICAL),
        (DerpStandIn(relays=False), "relay", Exit.CRITICAL),
        (DerpStandIn(pongs=False), "ping", Exit.DEGRADED),
        (
            DerpStandIn(
                answers={"/derp/latency-check": "HTTP/1.1 403 Forbidden\r\n\r\n"}
            ),
            "latency-check",
            Exit.DEGRADED,
        ),
    ],
)
async def test_layer_that_fails(stand, layer: str, exit_code: Exit):
    """Each is named, and says whether anything relays."""
    async with serving(stand) as port:
        result = await probe(port, tls=None)
    assert (result.failed.layer, result.exit) == (layer, exit_code)


async def test_key_that_changes(tmp_path: Path):
    """A balancer over several nodes."""
    async with serving(DerpStandIn(changes_key=True)) as port:
        result = await probe(port, tls=None)
    assert result.failed.layer == "identity"
    assert "5 server keys on 5 connections; one address must" in result.failed.detail


async def test_key_of_another_node():
    """Somebody else listens where the node should."""
    async with serving(DerpStandIn(key=OTHER)) as port:
        result = await probe(port, tls=None, server_key="nodekey:00")
    assert result.failed.layer == "identity"
    assert (
        "the node's is nodekey:00; another node listens there" in result.failed.detail
    )


async def test_meta_certificate_of_another(tmp_path: Path):
    """Shows at the server key."""
    async with serving(DerpStandIn(), tls_context(tmp_path, OTHER)) as port:
        result = await probe(port)
    assert result.failed.layer == "server-key"


async def test_no_meta_certificate(tmp_path: Path):
    """It relays; each login costs more."""
    context = server_context(
        tmp_path,
        LEAF,
    )
    async with serving(DerpStandIn(), context) as port:
        result = await probe(port)
    assert (result.failed.layer, result.exit) == ("meta-certificate", Exit.DEGRADED)
    assert found(result, "login-again").status is Status.OK


async def test_fast_start_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever is let in once is not let in for ever."""
    stand = DerpStandIn()

    async def once(reader, writer) -> None:
        stand.admits = not stand.infos
        await stand(reader, writer)

    async with serving(once, tls_context(tmp_path)) as port:
        result = await probe(port)
    assert (result.failed.layer, result.exit) == ("fast-start", Exit.CRITICAL)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered 200 and 'nothing'"),
        (
            "HTTP/1.1 204 No\r\nX-Tailscale-Response: response ts_x\r\n\r\n",
            "answered 204 and 'response ts_x', not the challenge",
        ),
    ],
)
async def test_captive_portal(answer: str, detail: str):
    """204 alone is what every portal says."""
    http = DerpStandIn(answers={"/generate_204": answer})
    async with serving(DerpStandIn()) as port, serving(http) as http_port:
        result = await probe(port, tls=None, http_port=http_port)
    assert (result.failed.layer, result.exit) == ("captive-portal", Exit.DEGRADED)
    assert detail in result.failed.detail
    assert http.requests[0]["x-tailscale-challenge"] == "ts_127.0.0.1"


async def test_stun_fails():
    """It relays, and nobody makes it their home."""
    async with serving(DerpStandIn()) as port, stunning(StunStandIn()) as stun_port:
        pass
    async with serving(DerpStandIn()) as port:
        result = await probe(port, tls=None, stun_port=stun_port)
    assert (result.failed.layer, result.exit) == ("stun4", Exit.DEGRADED)


async def test_names_are_compared_with_the_map():
    """What the map says is dialled, what DNS says is told."""
    async with serving(DerpStandIn()) as port:
        relay = Relay("localhost", port, None, ["127.0.0.1"])
        assert (await probe(port, relay=relay, families=(4,))).exit is Exit.OK
        relay = Relay("localhost", port, None, ["127.0.0.1", "127.0.0.9"])
        result = await probe(port, relay=relay, families=(4,))
        assert (result.failed.layer, result.exit) == ("dns", Exit.DEGRADED)
        assert "the map says 127.0.0.9, and DNS does not" in result.failed.detail


async def test_name_without_an_address():
    """No DNS, no address of the map: nothing can be dialled."""
    result = await probe(1, relay=Relay("a.invalid", 1, None))
    assert [check.layer for check in result.checks[:4]] == [
        "dns",
        "tcp4",
        "tcp6",
        "tcp",
    ]
    assert result.exit is Exit.CRITICAL


async def test_bugs_are_heard():
    """Only what a layer throws is a result."""
    record = Record()
    with pytest.raises(ZeroDivisionError):
        async with record.check("x"):
            _ = 1 / 0
    assert record.checks == []


# The command.

WELL = """\
node 127.0.0.1:PORT at 127.0.0.1:PORT
LAYER             STATUS       TIME  DETAIL
dns               skipped         -  the host is an address
tcp4              ok        1.11 ms  127.0.0.1
tcp6              skipped         -  no IPv6 address
tls               ok        1.11 ms  TLSv1.3, 1 certificate, 89 days
http              ok        1.11 ms  101 Switching Protocols
server-key        ok        1.11 ms  \
nodekey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13
meta-certificate  ok              -  has the server key
login             ok        1.11 ms  as a throw-away key
identity          ok        1.11 ms  one server key on 5 connections
fast-start        ok        1.11 ms
ping              ok        1.11 ms  3 round trips, 1.11 to 1.11 ms
relay             ok        1.11 ms  3 round trips, 1.11 to 1.11 ms
latency-check     ok        1.11 ms  200 OK
captive-portal    skipped         -  no plain HTTP port is known
stun4             skipped         -  no STUN port is known
stun6             skipped         -  no IPv6 address
"""


def masked(text: str, port: int) -> str:
    """Hide the port and the times, and how wide their column is."""
    text = re.sub(r"\b\d+\.\d\d( ms| to)", r"T\1", text.replace(f":{port}", ":PORT"))
    return re.sub(r" {2,}", "  ", text)


def test_output(derpctl, beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The whole table."""
    monkeypatch.setenv("COLUMNS", "120")
    port = beside.start(serving(DerpStandIn(), tls_context(tmp_path)))
    ended = derpctl("probe", "node", f"127.0.0.1:{port}", "--pin", PIN, "--count", 3)
    assert (ended.code, ended.err) == (0, "")
    assert masked(ended.out, port) == masked(WELL, port)


def test_output_of_a_failure(derpctl, beside):
    """One line on stderr names the layer; the document is printed all the same."""
    port = beside.start(serving(DerpStandIn(admits=False)))
    url = f"http://127.0.0.1:{port}"
    ended = derpctl("probe", "node", url, "-o", "json")
    document = json.loads(ended.out)
    assert ended.code == 10
    assert re.fullmatch(
        rf"derpctl: {url}: login: nodekey:[0-9a-f]{{64}}: connection closed by the "
        r"server; see whether the node's admission knows this key\n",
        ended.err,
    )
    heads = [document[key] for key in ("kind", "name", "verdict", "failed")]
    assert heads == ["NodeProbe", url, "critical", "login"]
    item = next(item for item in document["items"] if item["layer"] == "server-key")
    assert item["server_key"] == f"nodekey:{SERVER.public.hex()}"


def test_node_of_ours(derpctl, beside, configured, tmp_path: Path):
    """By its name: its admin says where it is, and which key it has."""
    port = beside.start(serving(DerpStandIn(), tls_context(tmp_path)))
    http = beside.start(serving(DerpStandIn()))
    entry = {
        "HostName": "127.0.0.1",
        "IPv4": "127.0.0.1",
        "CertName": PIN,
        "DERPPort": port,
        "STUNPort": -1,
    }
    standin = AdminStandIn(entry=entry, http=[f"127.0.0.1:{http}"])
    path = configured(_900a=beside.start(admin(standin)))
    ended = derpctl("--config", path, "probe", "node", "900a")
    assert (ended.code, ended.err) == (0, "")
    assert "captive-portal    ok" in ended.out
    ended = derpctl("--config", path, "probe", "node", "900b")
    assert ended == (
        5,
        "",
        "derpctl: 900b: not among the nodes of region 900; "
        "there is 900a; or give HOST:PORT\n",
    )
    standin.entry["DERPPort"] = "x"
    ended = derpctl("--config", path, "probe", "node", "900a")
    assert (ended.code, ended.out) == (7, "")
    assert "900a.map_entry.DERPPort = 'x': not a whole number" in ended.err


def test_node_of_ours_that_is_dead(derpctl, configured):
    """There is another way to probe it."""
    path = configured(_900a="unix:/none/a.sock")
    ended = derpctl("--config", path, "probe", "node", "900a")
    assert ended == (
        4,
        "",
        "derpctl: unix:/none/a.sock: no such file or directory; "
        "give HOST:PORT, or --from-map, to probe without its admin\n",
    )


def test_node_of_a_map_file(derpctl, beside, tmp_path: Path):
    """With no admin and no configuration: any derper of a map."""
    port = beside.start(serving(DerpStandIn(), tls_context(tmp_path)))
    path = tmp_path / "map.json"
    node = {"Name": "900a", "HostName": "127.0.0.1", "DERPPort": port, "CertName": PIN}
    node["STUNPort"] = -1
    tree = {"Regions": {"900": {"RegionID": 900, "Nodes": [node]}}}
    path.write_text(json.dumps(tree))
    ended = derpctl("probe", "node", "900a", "--from-map", path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"node 900a at 127.0.0.1:{port}\n")
    path.write_text("[]")
    assert derpctl("probe", "node", "900a", "--from-map", path) == (
        7,
        "",
        f"derpctl: --from-map = {path}: map = []: not an object; "
        "give DERPMap JSON, as from derpctl map export -f derpmap\n",
    )
    ended = derpctl("probe", "node", "900a", "--from-map", tmp_path / "none")
    assert ended.code == 3
    assert "none: no such file or directory; check the path and its mode" in ended.err


def test_mesh_key(derpctl, beside, tmp_path: Path):
    """Proves the right, and is never shown."""
    stand = DerpStandIn()
    port = beside.start(serving(stand))
    path = tmp_path / "mesh.key"
    path.write_text("ab" * 32)
    url = f"http://127.0.0.1:{port}"
    ended = derpctl("probe", "node", url, "--mesh-key-file", path)
    assert ended.code == 0
    assert {info.mesh_key for info in stand.infos} == {bytes([0xAB]) * 32}
    path.write_text("secret")
    ended = derpctl("probe", "node", url, "--mesh-key-file", path)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == (
        f"derpctl: --mesh-key-file = {path}: mesh key: 6 hex digits, must be 64; "
        "it must hold 64 hex digits\n"
    )
    path.write_bytes(b"\xff")
    assert (
        "not text; check" in derpctl("probe", "node", url, "--mesh-key-file", path).err
    )


def test_usage(derpctl):
    """Before anything is dialled."""
    assert derpctl("probe", "node").code == 2
    assert derpctl("probe", "node", "a:0").code == 2
    assert derpctl("probe", "node", "a:1", "--count", 0).code == 2
    assert derpctl("probe", "node", "a:1", "--pin", "x").code == 2
    assert derpctl("probe", "node", "900a").code == 3


def test_day():
    """The certificate of these tests has as many days as the golden output says."""
    assert (LEAF.certificate.not_valid_after_utc - NOW).days in (89, 90)
    assert socket.has_ipv6 in (True, False)
