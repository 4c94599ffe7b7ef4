"""`/debug/clients/`: derper 1.104's parameters, order, cursors, errors and JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derpnode.plane.contract import ConnectionId, Stats
from derpnode.relay.relay import Client, Relay
from derpnode.server.clientquery import MAX_LIMIT, BadQuery, parse_query
from derpnode.server.debugclients import ClientList
from derpnode.server.status import go_json
from derpnode.wire.keys import NodeKey, node_key_text
from tests.node.relay.recorder import Recorder


SECOND = 10**9
NOW = 1_800_000_000 * SECOND  # when the relay's clock says 4000
KEYS = [NodeKey(bytes([number]) * 32) for number in range(10)]
ZERO = node_key_text(NodeKey(bytes(32)))
SORTS = ["key", "ip", "conn", "connected", "rx", "tx", "rxpkts", "txpkts"]


class Traffic:
    """A plane that knows only what passed over connections."""

    def __init__(self, stats: dict[int, Stats]) -> None:
        self._stats = stats

    def stats(self, connection: ConnectionId) -> Stats:
        return self._stats.get(connection, Stats())


def listing(*clients: Client, stats: dict[int, Stats] | None = None) -> ClientList:
    relay = Relay(Recorder(), KEYS[0])
    for client in clients:
        relay.register(client)
    epoch = NOW - 4000 * SECOND
    return ClientList(relay, Traffic(stats or {}), epoch=epoch, clock=lambda: 4000.0)


def client(connection: int, key: NodeKey, host: str = "", **more: object) -> Client:
    return Client(connection=connection, key=key, host=host, **more)


# The clients of Go's TestServeDebugClients: one alone, one twice, one on IPv6.
GO = [
    client(1, KEYS[1], "10.1.2.3", port=1111, version=2, app_name="one"),
    client(2, KEYS[2], "10.1.9.9", port=2222, prober=True),
    client(3, KEYS[2], "192.0.2.5", port=3333, home=True, since=100.25),
    client(4, KEYS[3], "2001:db8::1", port=4444, app_name="tailcat-server"),
]
GO_STATS = {3: Stats(rx_packets=12, rx_bytes=3456, tx_packets=78, tx_bytes=90123)}


def page(query: str, *clients: Client, stats: dict[int, Stats] | None = None):
    """Ask for a page of Go's clients, unless others are given."""
    parsed = parse_query(query, NOW)
    assert parsed is not None
    found = listing(*(clients or GO), stats=GO_STATS if stats is None else stats)
    return found.page(parsed)


def numbers(document) -> list[int]:
    return [row["connNum"] for row in document["clients"]]


@pytest.mark.parametrize(
    ("query", "said", "found", "keys"),
    [
        ("all=1", "all clients", [1, 2, 3, 4], 3),
        ("all", "all clients", [1, 2, 3, 4], 3),
        ("ip=10.1.9.9", "clients from 10.1.9.9", [2], 1),
        ("ip=::ffff:10.1.9.9", "clients from 10.1.9.9", [2], 1),
        ("ip=2001:db8::1", "clients from 2001:db8::1", [4], 1),
        ("cidr=10.1.2.3/16", "clients from 10.1.0.0/16", [1, 2], 2),
        ("cidr=172.16.0.0/12", "clients from 172.16.0.0/12", [], 0),
        ("cidr=::/0", "clients from ::/0", [4], 1),
        ("cidr=0.0.0.0/0", "clients from 0.0.0.0/0", [1, 2, 3], 2),
        (
            f"key={node_key_text(KEYS[2])}",
            f"connections for {node_key_text(KEYS[2])}",
            [2, 3],
            1,
        ),
        (f"key={ZERO}", f"connections for {ZERO}", [], 0),
        ("app=one", "all clients with app one", [1], 1),
        (
            "app=one&app=tailcat-server&app=nonesuch",
            "all clients with app one or tailcat-server or nonesuch",
            [1, 4],
            2,
        ),
        ("app=", "all clients with app (none)", [2, 3], 1),
        ("cidr=10.0.0.0/8&app=one", "clients from 10.0.0.0/8 with app one", [1], 1),
        ("all&ip=&cidr=&key=&sort=&limit=&after=", "all clients", [1, 2, 3, 4], 3),
        ("all&format=html", "all clients", [1, 2, 3, 4], 3),
    ],
)
def test_filters(query, said, found, keys):
    """What Go's own test asks for, and what derper 1.104.5 was seen to say."""
    document = page(query)
    assert document["query"] == said
    assert numbers(document) == found
    assert (document["conns"], document["keys"]) == (len(found), keys)


@pytest.mark.parametrize(
    "query", ["", "format=json", "ip=&format=json", "sort=nonsense&limit=0", "x=1"]
)
def test_nothing_selected(query):
    """Without a filter there is a summary, and the rest is not even looked at."""
    assert parse_query(query, NOW) is None
    assert listing(*GO).summary() == {"conns": 4, "keys": 3}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ip=1.2", 'bad ip "1.2": not an IP address'),
        ("cidr=10.0.0.0", 'bad cidr "10.0.0.0": not ADDRESS/BITS'),
        ("cidr=10.0.0.0/255.0.0.0", 'bad cidr "10.0.0.0/255.0.0.0": not ADDRESS/BITS'),
        ("cidr=10.0.0.0/99", 'bad cidr "10.0.0.0/99": not ADDRESS/BITS'),
        (
            "key=8cde",
            "bad key \"8cde\": node key: does not start with 'nodekey:'",
        ),
        ("format=xml", 'bad format "xml"; want json or html'),
        ("all&ip=1.2.3.4", "only one of all, ip, cidr, or key may be given"),
        (
            "all&sort=age",
            'bad sort "age"; want key, ip, conn, connected, rx, tx, rxpkts, or txpkts, '
            "optionally with a leading -",
        ),
        ("all&limit=0", 'bad limit "0"'),
        ("all&limit=x", 'bad limit "x"'),
        ("all&limit=+5", 'bad limit " 5"'),
        ("all&limit=1_0", 'bad limit "1_0"'),
        ("all&limit=99999999999999999999", 'bad limit "99999999999999999999"'),
        (
            "all&after=x",
            'bad after "x" for sort by key: not nodekey: and 64 hex digits',
        ),
        ("all&sort=ip&after=x", 'bad after "x" for sort by ip: not an ip:port'),
        (
            "all&sort=ip&after=1.2.3.4:99999",
            'bad after "1.2.3.4:99999" for sort by ip: not an ip:port',
        ),
        ("all&sort=conn&after=x", 'bad after "x" for sort by conn: not a number'),
        ("all&sort=-rx&after=-1", 'bad after "-1" for sort by rx: not a number'),
        (
            "all&sort=connected&after=1h3",
            'bad after "1h3" for sort by connected; '
            "want Unix nanoseconds or a duration",
        ),
        (
            f"all&after={ZERO}&afterconn=z",
            'bad afterconn "z": not a number',
        ),
    ],
)
def test_bad_queries(query, message):
    """The texts are Go's, but for the reason after the colon."""
    with pytest.raises(BadQuery) as caught:
        parse_query(query, NOW)
    assert str(caught.value) == message


@given(st.text(), st.sampled_from(["ip", "cidr", "key", "after", "limit", "sort"]))
def test_any_value(value, name):
    """Whatever is written there is understood or refused, and nothing else."""
    for sort in SORTS:
        query = f"all&sort={sort}&{name}={value}"
        try:
            parse_query(query, NOW)
        except BadQuery as exc:
            assert str(exc)  # noqa: PT017 - both ends are good


def test_row():
    """The fields, their order and their types are those of Go's debugClient."""
    document = page(f"key={node_key_text(KEYS[2])}")
    assert list(document["clients"][1].items()) == [
        ("connNum", 3),
        ("key", node_key_text(KEYS[2])),
        ("remote", "192.0.2.5:3333"),
        ("connectedAt", "2027-01-15T06:55:00.25Z"),
        ("connected", 3900 * SECOND),
        ("active", True),
        ("dup", True),
        ("disabled", False),
        ("home", True),
        ("meshPeer", False),
        ("notIdeal", False),
        ("prober", False),
        ("version", 0),
        ("appName", ""),
        ("rxPkts", 12),
        ("rxBytes", 3456),
        ("txPkts", 78),
        ("txBytes", 90123),
        ("senders", 0),
    ]
    assert not document["clients"][0]["active"]


def test_unknown_addresses():
    """They come first in the order of addresses, and match none."""
    unknown = client(9, KEYS[9])
    assert numbers(page("all&sort=ip", *GO, unknown)) == [9, 1, 2, 3, 4]
    assert numbers(page("cidr=0.0.0.0/0", unknown)) == []


def test_remotes():
    """IPv6 has brackets; an address that is not known is an empty text."""
    document = page("all", *GO[3:], client(9, KEYS[9]))
    assert [row["remote"] for row in document["clients"]] == ["[2001:db8::1]:4444", ""]


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ("all=1&limit=1&sort=conn", "?after=1&all=1&limit=1&sort=conn"),
        ("all&sort=-tx&limit=1", "?after=90123&afterconn=3&all=1&limit=1&sort=-tx"),
        (
            "all&app=one&app=tailcat-server&limit=1&sort=conn",
            "?after=1&all=1&app=one&app=tailcat-server&limit=1&sort=conn",
        ),
        (
            "cidr=10.0.0.0/8&limit=1&sort=ip&format=json",
            "?after=10.1.2.3%3A1111&afterconn=1&cidr=10.0.0.0%2F8&format=json&limit=1&sort=ip",
        ),
    ],
)
def test_next_link(query, link):
    """The links are those that Go's own test expects."""
    assert page(query)["next"] == link


def test_last_page_has_no_link():
    """`next` is absent on the last page, and `remaining` is 0."""
    document = page("all&limit=4")
    assert document["remaining"] == 0
    assert "next" not in document


def test_limits():
    """A page has 100 connections unless asked; above 1000 it is silently 1000."""
    many = [client(number, NodeKey(number.to_bytes(32))) for number in range(1, 1102)]
    assert len(page("all", *many)["clients"]) == 100
    assert page("all", *many)["remaining"] == 1001
    assert len(page("all&limit=100000", *many)["clients"]) == MAX_LIMIT


# The seven connections of Go's TestServeDebugClientsPagination.
_HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.1"]
SEVEN = [
    client(
        number,
        KEYS[1] if number < 4 else KEYS[9 - number],
        host,
        port=number,
        since=4000.0 - number * 600,
    )
    for number, host in enumerate([*_HOSTS, "10.0.0.9", "2001:db8::5"], start=1)
]
SEVEN_STATS = {
    one.connection: Stats(index // 2, index * 7 % 5, index % 3, 1000 - index * 100)
    for index, one in enumerate(SEVEN)
}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("sort", [*SORTS, *(f"-{sort}" for sort in SORTS)])
def test_walk(sort, limit):
    """Following the links shows every connection once, in one order."""
    whole = numbers(page(f"all&sort={sort}", *SEVEN, stats=SEVEN_STATS))
    walked: list[int] = []
    query = f"all&sort={sort}&limit={limit}"
    pages = 0
    while query:
        document = page(query, *SEVEN, stats=SEVEN_STATS)
        walked += numbers(document)
        query = document.get("next", "").removeprefix("?")
        pages += 1
    assert sorted(walked) == [1, 2, 3, 4, 5, 6, 7]
    assert walked == whole
    assert pages == -(-7 // limit)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("key", [7, 6, 5, 4, 1, 2, 3]),
        ("ip", [1, 5, 2, 3, 4, 6, 7]),
        ("-ip", [7, 6, 4, 3, 2, 5, 1]),
        ("conn", [1, 2, 3, 4, 5, 6, 7]),
        ("connected", [7, 6, 5, 4, 3, 2, 1]),
        ("rx", [1, 6, 4, 2, 7, 5, 3]),
        ("-tx", [1, 2, 3, 4, 5, 6, 7]),
        ("-rxpkts", [7, 6, 5, 4, 3, 2, 1]),
        ("txpkts", [1, 4, 7, 2, 5, 3, 6]),
    ],
)
def test_orders(sort, order):
    """Ties go by the number of the connection, upwards or downwards as the rest."""
    seven = [
        client(
            one.connection,
            KEYS[8] if one.connection < 4 else one.key,
            one.host,
            port=one.port,
            since=one.since,
        )
        for one in SEVEN
    ]
    assert numbers(page(f"all&sort={sort}", *seven, stats=SEVEN_STATS)) == order


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # By hand, without a connection: beyond all that have the value.
        (f"all&after={node_key_text(KEYS[1])}", [2, 3, 4]),
        (f"all&after={node_key_text(KEYS[2])}", [4]),
        (f"all&sort=-key&after={node_key_text(KEYS[2])}", [1]),
        (f"all&after={node_key_text(KEYS[2])}&afterconn=2", [3, 4]),
        ("all&sort=ip&after=10.1.2.3", [2, 3, 4]),
        ("all&sort=ip&after=10.1.2.3:1110", [1, 2, 3, 4]),
        ("all&sort=-ip&after=10.1.9.9", [1]),
        ("all&sort=-ip&after=[2001:db8::1]:4445", [4, 3, 2, 1]),
        ("all&sort=ip&after=fe80::1%25eth0", []),
        ("all&sort=conn&after=2&afterconn=nonsense", [3, 4]),
        ("all&sort=connected&after=65m", [3]),
        ("all&sort=connected&after=1h5m0.5s", [3]),
        ("all&sort=-connected&after=65m", [1, 2, 4][::-1]),
        (f"all&sort=connected&after={NOW - 3900 * SECOND}", [3]),
        ("all&sort=connected&after=-2562047h", []),
        ("all&sort=rx&after=3455", [3]),
        ("all&sort=rx&after=3456", []),
    ],
)
def test_cursors(query, found):
    """Cursors as a person types them."""
    assert numbers(page(query)) == found


def test_json_is_go_json():
    """Tabs, HTML escaped, a line feed at the end: byte for byte as derper's."""
    document = page('app=<b>%26"é', *GO[:1])
    assert go_json(document, indent=True) == (
        '{\n\t"query": "all clients with app \\u003cb\\u003e\\u0026\\"é",\n'
        '\t"conns": 0,\n\t"keys": 0,\n\t"remaining": 0,\n\t"clients": []\n}\n'
    )
    summary = listing(*GO).summary()
    assert go_json(summary, indent=False) == '{"conns":4,"keys":3}\n'
    assert json.loads(go_json(page("all"), indent=True)) == page("all")
