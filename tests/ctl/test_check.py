"""`derpctl region check`: what is a difference, what is none, and real ones."""

import json
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from derpctl.admin import NodeView, RegionView, StatusView
from derpctl.check.findings import FEW, Finding, Rule, Verdict, shortened
from derpctl.check.judge import judge
from derpctl.check.looks import Answer
from derpctl.check.views import MembershipView, PresenceView
from derpctl.reports import Report
from derpnode.wire.keys import NodeKey, node_key_text, short_key
from tests.ctl.regions import admins, start
from tests.ctl.standins import AdminStandIn, admin, link
from tests.mesh.region import Cluster, LocalNode, cluster, until
from tests.support.etcd import cluster as etcd_cluster
from tests.support.etcd import require_etcd
from tests.support.peers import MissingTool


def key(number: int) -> str:
    """Make the key of a client."""
    return node_key_text(NodeKey(number.to_bytes(32)))


SERVERS = {"900a": key(1001), "900b": key(1002)}
ONE, TWO = key(1), key(2)


@dataclass
class Said:
    """What one of two nodes says."""

    name: str
    local: set[str] = field(default_factory=set)
    believed: set[str] | None = field(default_factory=set)
    """Clients of the other one, its link to this one aside; None: no link."""
    members: list[dict] = field(
        default_factory=lambda: [{"name": "900a"}, {"name": "900b"}]
    )
    region: dict = field(default_factory=lambda: {"id": 900})
    contradictions: str = ""
    server_key: str = ""
    version: str = "0.1.0"
    source: str = "etcd"
    revision: int = 7

    @property
    def peer(self) -> str:
        """The other one."""
        return "900b" if self.name == "900a" else "900a"

    def presence(self) -> dict:
        """`/v1/presence`: each has a link of the other, which it tells of."""
        linked = self.believed is not None
        return {
            "name": self.name,
            "server_key": self.server_key or SERVERS[self.name],
            "local": sorted(self.local),
            "mesh": [SERVERS[self.peer]],
            "links": {self.peer: sorted(self.believed)} if linked else {},
        }

    def membership(self) -> dict:
        """`/v1/membership`."""
        return {
            "source": self.source,
            "revision": self.revision,
            "region": self.region,
            "members": self.members,
        }

    def answer(self) -> Answer:
        """What is read of it at one look."""
        return Answer(
            PresenceView.model_validate(self.presence()),
            MembershipView.model_validate(self.membership()),
            self.contradictions,
        )

    def report(self) -> Report:
        """What is read of how it fares."""
        region = RegionView(id=900)
        node = NodeView(name=self.name, region=region, version=self.version)
        return Report(self.name, "unix:/x", StatusView(node=node), links=())

    def standin(self) -> AdminStandIn:
        """A server that says so."""
        up = self.believed is not None
        state = link(self.peer) if up else link(self.peer, "waiting", "refused")
        status = 500 if self.contradictions else 200
        return AdminStandIn(
            self.name,
            links=[state],
            raw={
                "/v1/presence": web.json_response(self.presence()),
                "/v1/membership": web.json_response(self.membership()),
                "/debug/check": web.Response(text=self.contradictions, status=status),
            },
        )


def a(*local: str, **about: object) -> Said:
    """What 900a says."""
    return Said("900a", set(local), **about)


def b(*local: str, **about: object) -> Said:
    """What 900b says."""
    return Said("900b", set(local), **about)


def judged(*looks: tuple[Said, ...]):
    """Judge what was said at each look."""
    found = [{said.name: said.answer() for said in look} for look in looks]
    return judge(found, [said.report() for said in looks[-1]])


def findings(*looks: tuple[Said, ...]) -> list[Finding]:
    """Give what is found."""
    return list(judged(*looks).findings)


# What is a difference.


def test_all_agree():
    """Each knows of the other's clients, and not of itself by way of the other."""
    found = judged((a(ONE, believed={TWO}), b(TWO, believed={ONE})))
    assert (found.verdict, found.findings, found.notes) == (
        Verdict.CONSISTENT,
        [],
        [],
    )
    assert (found.clients, found.links, found.links_up) == (2, 2, 2)


def test_client_that_is_not_known():
    """Who does not know whom, and where that one is."""
    [found] = findings((a(ONE, believed={TWO}), b(TWO)))
    assert found == Finding(Rule.NOT_KNOWN, "900b", "900a", ONE)
    short = short_key(NodeKey((1).to_bytes(32)))
    said = f"900b does not know {short}, which is on 900a"
    assert found.text(reveal=False) == said
    assert found.text(reveal=True) == said.replace(short, ONE)


def test_client_that_is_not_there():
    """Who believes whom where."""
    [found] = findings((a(believed={TWO}), b()))
    assert found == Finding(Rule.NOT_THERE, "900a", "900b", TWO)
    assert found.text(reveal=False).endswith(" on 900b, which does not have it")


def test_probers_are_told_of_too():
    """Whoever has the mesh right is announced, and expected."""
    said = b().presence() | {"mesh": [SERVERS["900a"], key(9)]}
    look = {
        "900a": a(believed={key(9)}).answer(),
        "900b": Answer(PresenceView.model_validate(said)),
    }
    assert list(judge([look], []).findings) == []


def test_static_peers():
    """A link that has no name but a URL is of whoever is there; a derper is nobody."""
    where = {"HostName": "b.example.com", "IPv4": "192.0.2.2", "DERPPort": 4433}
    links = {
        "https://192.0.2.2:4433": [TWO],
        "https://derp.example.com": [ONE],
        "https://192.0.2.2:port": [ONE],
    }
    said = a().presence() | {"links": links}
    look = {
        "900a": Answer(PresenceView.model_validate(said)),
        "900b": b(TWO).answer(),
    }
    view = StatusView(
        node=NodeView(name="900b", region=RegionView(id=900), map_entry=where)
    )
    reports = [a().report(), Report("900b", "unix:/x", view, links=())]
    assert list(judge([look], reports).findings) == []
    member = {"links": {**said["links"], "900b": [SERVERS["900a"]]}}
    look["900a"] = Answer(PresenceView.model_validate(said | member))
    [found, _] = judge([look], reports).findings
    assert found == Finding(Rule.NOT_KNOWN, "900a", "900b", TWO)


def test_names_that_derpctl_has_of_its_own():
    """Nodes go by what the operator calls them, however they call each other."""
    look = {"here": a(ONE, believed={TWO}).answer(), "there": b(TWO).answer()}
    assert list(judge([look], []).findings) == [
        Finding(Rule.NOT_KNOWN, "there", "here", ONE)
    ]


def test_what_is_under_way_is_no_difference():
    """At each look there is one, but none of them is there at every look."""
    found = findings(
        (a(ONE), b(believed=set())),
        (a(ONE, TWO), b(believed={ONE})),
        (a(TWO), b(believed={ONE, TWO})),
    )
    assert found == []


def test_difference_that_lasts():
    """What is there at every look is found among what is not."""
    found = findings(
        (a(ONE, TWO), b()),
        (a(ONE, TWO), b(believed={TWO})),
        (a(ONE, key(3)), b()),
    )
    assert found == [Finding(Rule.NOT_KNOWN, "900b", "900a", ONE)]


def test_look_without_an_answer():
    """A difference that was not seen at one look is none; the silence is one."""
    silent = Answer(error="unix:/x: no answer in 5 s; is the node running?")
    looks = [
        {"900a": a(ONE).answer(), "900b": b().answer()},
        {"900a": a(ONE).answer(), "900b": silent},
    ]
    [found] = judge(looks, []).findings
    assert found.rule is Rule.SILENT
    assert found.text(reveal=False).startswith("900b: unix:/x: no answer in 5 s")


def test_link_that_is_not_up():
    """In one direction; nothing is compared over it. Once up, it was a moment."""
    down = (a(believed=None), b(TWO))
    assert findings(down, down) == [
        Finding(
            Rule.NOT_LINKED,
            "900a",
            "900b",
            detail="900a to 900b: missing: not in the region as this node knows it",
        )
    ]
    assert findings(down, (a(believed={TWO}), b(TWO))) == []


def test_no_link_works():
    """That is more than a difference."""
    assert judged((a(believed=None), b(believed=None))).verdict is Verdict.CRITICAL


def test_contradiction():
    """Seen once it is one, as a relay looks at itself at one moment."""
    clean = (a(), b())
    found = findings(clean, (a(contradictions="1 active connections"), b()), clean)
    assert [one.text(reveal=False) for one in found] == ["900a: 1 active connections"]


def test_same_server_key():
    """Whose it is."""
    found = findings((a(), b(server_key=SERVERS["900a"])))
    texts = [one.text(reveal=False) for one in found if one.rule is Rule.SERVER_KEY]
    assert texts == ["900a, 900b have the same server key"]


@pytest.mark.parametrize(
    ("about", "text"),
    [
        (
            {"members": [{"name": "900a"}]},
            "the members are others: 900a: 900a, 900b; 900b: 900a",
        ),
        ({"members": []}, "the members are others: 900a: 900a, 900b; 900b: nobody"),
        (
            {"members": [{"name": "900a"}, {"name": "900b", "host": "b"}]},
            "900b is recorded otherwise by 900a than by 900b",
        ),
        (
            {"region": {"id": 901}},
            "the region is another one: 900a: [('id', 900)]; 900b: [('id', 901)]",
        ),
    ],
)
def test_memberships_that_differ(about, text):
    """In what, and on which side who is; if it is so at every look."""
    look = (a(), b(**about))
    found = findings(look, look)
    assert [one.text(reveal=False) for one in found] == [text]
    assert findings(look, (a(), b())) == []


def test_what_is_no_difference():
    """A later revision of the same, other versions, and a snapshot; two are notes."""
    found = judged((a(), b(revision=9, version="0.2.0", source="snapshot")))
    assert found.verdict is Verdict.CONSISTENT
    assert found.notes == [
        "versions differ: 0.1.0 on 900a; 0.2.0 on 900b",
        "sources of membership differ: etcd on 900a; snapshot on 900b",
    ]


def test_many_that_are_alike():
    """People see the first of them; a program sees all."""
    keys = [key(number) for number in range(1, FEW + 4)]
    found = judged((a(*keys), b()))
    lines = list(found.lines(900, reveal=False))
    assert len(lines) == 1 + FEW + 1
    assert lines[-1] == "and 3 more that are not known: 900b, of 900a"
    assert len(found.document(900, reveal=False)["items"]) == FEW + 3


def test_key_that_is_none():
    """It is not shown, as nobody knows what it is."""
    assert (shortened(""), shortened("secret")) == ("", "[?]")


# The command.


@pytest.fixture
def check(derpctl, beside, configured):
    """Check nodes that say this; a text is the URL of one that does not answer."""

    def run(*options, **said):
        urls = {
            f"_{name}": one
            if isinstance(one, str)
            else beside.start(admin(one.standin()))
            for name, one in said.items()
        }
        path = configured(**urls)
        fast = ("--looks", 2, "--interval", 0)
        return derpctl("--config", path, "region", "check", *fast, *options)

    return run


def test_consistent(check):
    """One line, and 0."""
    said = {"900a": a(ONE, believed={TWO}), "900b": b(TWO, believed={ONE})}
    ended = check(**said)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "region 900 · consistent · nodes 2/2 · mesh 2/2 · clients 2 · looks 2\n"
    )


def test_different(check):
    """A line each, with keys shortened, and 9."""
    said = {"900a": a(ONE, contradictions="2 keys known"), "900b": b(believed={TWO})}
    ended = check(**said)
    one, two = (short_key(NodeKey(number.to_bytes(32))) for number in (1, 2))
    assert ended.code == 9
    assert ended.out == (
        "region 900 · different · nodes 2/2 · mesh 2/2 · clients 1 · looks 2\n"
        "900a: 2 keys known\n"
        f"900b does not know {one}, which is on 900a\n"
        f"900b believes {two} on 900a, which does not have it\n"
    )
    assert TWO in check("--reveal", **said).out


def test_document(check):
    """All of it, and no key unless it is wanted."""
    said = {"900a": a(ONE, believed=None), "900b": b()}
    ended = check("-o", "json", **said)
    assert ended.code == 9
    assert json.loads(ended.out) == {
        "apiVersion": "derpctl/v1",
        "kind": "RegionCheck",
        "region": 900,
        "verdict": "different",
        "looks": 2,
        "nodes": {"answered": 2, "expected": 2},
        "links": {"up": 1, "expected": 2},
        "clients": 1,
        "items": [
            {
                "rule": "not linked",
                "node": "900a",
                "peer": "900b",
                "key": "",
                "text": "900a to 900b: waiting for 75 s: refused",
            },
            {
                "rule": "not known",
                "node": "900b",
                "peer": "900a",
                "key": shortened(ONE),
                "text": f"900b does not know {shortened(ONE)}, which is on 900a",
            },
        ],
        "notes": [],
    }
    revealed = json.loads(check("-o", "json", "--reveal", **said).out)
    assert revealed["items"][1]["key"] == ONE


def test_exits(check):
    """No link: 10, so with a dead sibling. A lone node: 0. Nobody answers: 4."""
    dead = "unix:/none.sock"
    down = {"900a": a(believed=None), "900b": b(believed=None)}
    assert check(**down).code == 10
    assert check(**{"900a": a(believed=None)}).code == 0
    assert check(**{"900a": a(believed=None), "900b": dead}).code == 10
    ended = check(**{"900a": dead, "900b": dead})
    assert ended.code == 4
    assert ended.out.startswith("region 900 · unknown · nodes 0/2")


def test_node_that_is_older(check, derpctl, beside, configured):
    """It has no such page, which is said: 4, as nothing is known."""
    url = beside.start(admin(AdminStandIn("900a", links=[])))
    ended = derpctl("--config", configured(_900a=url), "region", "check", "--looks", 1)
    assert ended.code == 4
    assert "answered 404 to /v1/presence" in ended.out


# Real nodes.


@pytest.fixture
def region(beside) -> Cluster:
    """A region without nodes."""
    return beside.start(cluster())


@pytest.fixture
def trio(beside, region) -> list[LocalNode]:
    """Three nodes that are linked."""
    beside.run(start(region, "abc"))
    return list(region.nodes.values())


@pytest.fixture
def real(derpctl, configured, trio):
    """Check them."""

    def run(*options, looks: int = 3):
        path = configured(**admins(trio))
        fast = ("--looks", looks, "--interval", 0.1, "-o", "json")
        ended = derpctl("--config", path, "region", "check", *fast, *options)
        return ended, json.loads(ended.out)

    return run


async def everywhere(trio, *keys: NodeKey) -> None:
    """Wait until each node knows a way to these."""
    await until(
        lambda: all(
            set(keys) <= {*node.node.relay._keys, *node.node.relay._forwarders.keys()}
            for node in trio
        )
    )


async def meet(region, trio) -> list[NodeKey]:
    """Log a client in to each node."""
    keys = [(await region.connect(node)).key for node in trio]
    await everywhere(trio, *keys)
    return keys


def test_real_nodes_agree(beside, region, trio, real):
    """With clients on each: 0."""
    beside.run(meet(region, trio))
    ended, found = real()
    assert (ended.code, found["items"], found["clients"]) == (0, [], 3)
    assert found["links"] == {"up": 6, "expected": 6}


def test_route_that_nobody_announced(beside, region, trio, real):
    """A relay that is told of one by hand believes it, and that is found."""
    a, b, _ = trio
    stranger = NodeKey(b"\x07" * 32)

    async def err() -> None:
        link = a.node.region._links._links[b.name]
        a.node.relay.announced(stranger, link.connection, 0.0, in_flood=False)

    beside.run(meet(region, trio))
    beside.run(err())
    ended, found = real("--reveal")
    assert ended.code == 9
    assert found["items"] == [
        {
            "rule": "not there",
            "node": "900a",
            "peer": "900b",
            "key": node_key_text(stranger),
            "text": f"900a believes {node_key_text(stranger)} on 900b,"
            " which does not have it",
        }
    ]


def test_client_that_a_node_forgot(beside, region, trio, real):
    """A relay that lost a route, and would not send there, is found."""
    a, b, _ = trio
    _, on_b, _ = beside.run(meet(region, trio))

    async def err() -> None:
        link = a.node.region._links._links[b.name]
        a.node.relay.withdrawn(on_b, link.connection)

    beside.run(err())
    ended, found = real("--reveal")
    assert ended.code == 9
    assert [(one["rule"], one["node"], one["key"]) for one in found["items"]] == [
        ("not known", "900a", node_key_text(on_b))
    ]


def test_clients_that_come_and_go(beside, region, trio, real):
    """What is under way while nodes are asked is no difference."""

    async def churn() -> None:
        for _ in range(100):
            for node in trio:
                person = await region.connect(node)
                await person.client.stream.close()

    async def begin() -> None:
        region.spawn(churn())

    beside.run(meet(region, trio))
    beside.run(begin())
    before = trio[0].node.relay.counters.accepts
    ended, found = real(looks=5)
    assert (ended.code, found["items"]) == (0, [])
    assert trio[0].node.relay.counters.accepts > before


def test_memberships_of_real_nodes(beside, region, trio, real):
    """One that goes by another file is named."""
    _, _, c = trio

    async def err() -> None:
        membership = c.node.region._force.membership
        kept = {n: m for n, m in membership.members.items() if n != "900a"}
        c.node.region._force.membership = type(membership)(9, membership.region, kept)

    beside.run(err())
    ended, found = real()
    assert ended.code == 9
    assert [one["text"] for one in found["items"]] == [
        "the members are others: 900a, 900b: 900a, 900b, 900c; 900c: 900b, 900c"
    ]


@pytest.mark.interop
def test_real_nodes_of_etcd_agree(beside, region, derpctl, configured, tmp_path):
    """Nodes that came one after the other have the same region, at any revision."""
    try:
        require_etcd()
    except MissingTool as missing:
        pytest.skip(str(missing))
    etcd = etcd_cluster(tmp_path)
    try:
        [server] = etcd.start().servers
        nodes = [region.place(letter) for letter in "abc"]
        for node in nodes:
            node.configure(registry={"etcd": {"endpoints": [server.url], "ttl": 5}})
            beside.run(region.start(node))
        beside.run(region.linked(*nodes))
        beside.run(meet(region, nodes))
        path = configured(**admins(nodes))
        ended = derpctl("--config", path, "region", "check", "--looks", 2)
        # They must have ended before etcd does.
        beside.run(region.end())
    finally:
        etcd.kill()
    assert ended.code == 0
    assert ended.out.startswith("region 900 · consistent · nodes 3/3 · mesh 6/6")
