"""Links: dialled, dialled again, ended; each by itself. Time is the test's."""

import asyncio
import json
import logging
import socket
import ssl
from itertools import pairwise
from types import SimpleNamespace

import pytest

from derpmesh.link import links as links_module
from derpmesh.link.backoff import delays
from derpnode.config import Address
from derpnode.plane.contract import (
    Bytes,
    ClientTls,
    CloseReason,
    Connected,
    Drained,
    Endpoint,
    Flags,
    Stats,
)
from derpnode.wire.frames import NODE_STATE, FrameType
from tests.mesh.link.conversation import (
    CLIENT_INFO,
    FIRST_PING,
    GREETING,
    NONCE,
    REQUEST,
    SERVER_INFO,
    THEM,
    US,
    WATCH,
)
from tests.mesh.link.world import TICK, B, C, D, World, messages, target
from tests.node.relay.recorder import Client, Gone, Link
from tests.node.relay.scene import A as A_KEY
from tests.node.relay.scene import B as B_KEY
from tests.node.relay.scene import C as C_KEY


PIN = f"sha256-raw:{'0' * 64}"


@pytest.fixture
def world(monkeypatch, caplog):
    """Links whose delays are the longest possible."""
    caplog.set_level(logging.INFO)
    longest = lambda _low, high: high  # noqa: E731
    monkeypatch.setattr("derpmesh.link.link.delays", lambda **_: delays(longest))
    random = SimpleNamespace(urandom=lambda _size: NONCE)
    monkeypatch.setattr("derpmesh.link.link.os", random)
    return World()


# A link comes up.


def test_link_comes_up(world, caplog):
    """It is dialled at once, says what it must, and is then the plane's."""
    world.want(B)
    assert world.plane.dials == [
        (
            Endpoint("192.0.2.98", 443),
            ClientTls("b.example.com", verify=True, ca_pem=None),
            10.0,
        )
    ]
    assert world.states == {"900b": "connecting"}
    connection = world.plane.last
    world.greet(connection)
    assert world.states == {"900b": "connecting"}
    world.pong(connection)
    assert world.states == {"900b": "up"}
    said = REQUEST + CLIENT_INFO + WATCH + FIRST_PING
    assert world.plane.sent[connection] == said
    offset = len(GREETING + SERVER_INFO)
    assert world.plane.attached == {connection: (THEM, offset, Flags.LINK | Flags.MESH)}
    assert messages(caplog) == [
        "link 900b: opening to b.example.com:443",
        "link 900b: up",
    ]


@pytest.mark.parametrize(
    ("about", "tls"),
    [
        ({"pin": PIN}, ClientTls("b.example.com", verify=False)),
        ({"tls": False}, None),
        ({}, ClientTls("b.example.com")),
    ],
)
def test_how_a_link_is_secured(world, about, tls):
    """By a pin, which is checked above; by nothing; or as the system does."""
    world.want(target("b", **about))
    assert world.plane.dials[0][1] == tls


def test_link_that_trusts_an_authority_of_ours(world, tmp_path):
    """Its file is read for each attempt, as it may be replaced."""
    file = tmp_path / "ca.pem"
    file.write_text("first")
    world.want(target("b", ca_file=file))
    file.write_text("second")
    world.refuse()
    world.wait(1.0)
    found = [tls.ca_pem for _, tls, _ in world.plane.dials[:2]]
    assert found == [b"first", b"second"]


def test_wrong_pin(world):
    """It is named, and nothing was said to the peer."""
    world.want(target("b", pin=PIN))
    connection = world.plane.last
    world.happen(Connected(connection, Endpoint("192.0.2.1", 443), b"another"))
    assert world.status("900b").error.startswith("certificate is sha256-raw:")
    assert world.status("900b").error.endswith(f", pin is {PIN}")
    assert world.plane.sent[connection] == b""
    assert world.plane.closed[0][0] == connection


# Keys.


def test_keys_of_a_link_have_routes(world):
    """By its connection."""
    connection = world.bring_up(B)
    world.announce(connection, A_KEY, C_KEY)
    world.frame(connection, FrameType.PEER_GONE, C_KEY + b"\0")
    assert world.told.routes == {A_KEY: Link(connection)}
    assert world.status("900b").keys == 1
    assert world.links.announced() == {"900b": {A_KEY}}


def test_keys_vanish_with_their_link(world):
    """At once, and who received from them is told."""
    connection = world.bring_up(B)
    world.join(1, B_KEY)
    world.announce(connection, A_KEY, C_KEY)
    world.relay.received_from(1, A_KEY)
    world.end(connection, CloseReason.RESET, "Connection reset by peer")
    assert world.told.routes == {B_KEY: Client(1)}
    assert world.told.told(1) == [Gone(A_KEY)]
    assert world.status("900b").keys == 0
    assert world.links.announced() == {}


def test_keys_that_another_link_knows_stay(world):
    """Packets take that one, and nobody is told."""
    first, second = world.bring_up(B), world.bring_up(C)
    world.join(1, B_KEY)
    for connection in (first, second):
        world.announce(connection, A_KEY)
    world.relay.received_from(1, A_KEY)
    world.end(second)
    assert world.told.routes[A_KEY] == Link(first)
    assert world.told.sent == []


def test_keys_of_the_first_flood_rank_last(world):
    """They are as old as the connections there; see decision 2."""
    first = world.bring_up(B)
    world.announce(first, A_KEY)
    world.want(B, C)
    second = world.plane.last
    world.greet(second)
    world.frame(second, FrameType.PEER_PRESENT, A_KEY)
    assert world.told.routes == {A_KEY: Link(first)}
    world.end(first)
    assert world.told.routes == {A_KEY: Link(second)}


# Delays.


def dial_times(world, seconds: float) -> list[float]:
    """Refuse whatever is dialled; say when each was, from now on."""
    began, times, seen = world.now, [], len(world.plane.dials)
    while world.now < began + seconds:
        world.wait(TICK)
        if len(world.plane.dials) > seen:
            seen += 1
            times.append(world.now - began)
            world.refuse()
    return times


def test_delays_grow_up_to_fifteen_seconds(world):
    """Each at most twice the one before."""
    world.want(B)
    world.refuse()
    times = [0.0, *dial_times(world, 80.0)]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0]


def test_link_that_held_is_dialled_soon(world):
    """After more than 30 s its delays start anew."""
    world.want(B)
    world.refuse()
    dial_times(world, 20.0)
    world.wait(20.0)
    world.come_up()
    for _ in range(7):
        world.pong(world.plane.last)
        world.wait(4.5)
    world.end(world.plane.last)
    assert dial_times(world, 1.0) == [0.25, 0.75]


def test_link_that_does_not_hold_is_dialled_later_each_time(world):
    """One that is up for a moment is as good as none."""
    world.want(B)
    for delay in (0.25, 0.5, 1.0, 2.0):
        world.come_up()
        world.wait(4.0)
        world.end(world.plane.last)
        dialled = len(world.plane.dials)
        world.wait(delay - TICK)
        assert len(world.plane.dials) == dialled
        world.wait(TICK)
        assert len(world.plane.dials) == dialled + 1


def test_regression_peer_that_is_back_is_dialled_at_once(world):
    """When it has dialled us; links that are up, or ourselves, are left alone.

    After an outage nobody could reach its clients from elsewhere for up to 15 s.
    """
    good = world.bring_up(B)
    world.want(B, C)
    world.refuse()
    for _ in range(20):
        world.pong(good)
        world.wait(4.0)
        if world.states["900c"] == "connecting":
            world.refuse()
    before = len(world.plane.dials)
    world.links.hurry()
    assert len(world.plane.dials) == before
    world.wait(TICK)
    assert len(world.plane.dials) == before + 1
    world.refuse()
    world.wait(TICK)
    assert len(world.plane.dials) == before + 1
    assert world.states == {"900b": "up", "900c": "waiting"}


def test_error_is_shown_until_the_link_is_up(world, caplog):
    """And is logged once for as long as it is the same."""
    world.want(B)
    world.refuse()
    dial_times(world, 20.0)
    assert world.status("900b").error == "reset: Connection refused"
    assert world.states == {"900b": "waiting"}
    world.wait(15.0)
    assert world.states == {"900b": "connecting"}
    assert world.status("900b").error == "reset: Connection refused"
    world.come_up()
    assert world.status("900b").error == ""
    assert messages(caplog, logging.WARNING) == [
        "link 900b: reset: Connection refused; trying again"
    ]


# What can go wrong.


@pytest.mark.parametrize(
    ("reason", "detail", "error"),
    [
        (CloseReason.RESET, "Connection refused", "reset: Connection refused"),
        (CloseReason.TIMEOUT, "no handshake in time", "timeout: no handshake in time"),
        (
            CloseReason.TLS,
            "CERTIFICATE_VERIFY_FAILED",
            "tls: CERTIFICATE_VERIFY_FAILED",
        ),
        (CloseReason.EOF, "", "closed by the peer"),
        (CloseReason.OVERFLOW, "", "overflow"),
    ],
)
def test_connection_that_cannot_be_had(world, reason, detail, error):
    """Why is named in the status."""
    world.want(B)
    world.end(world.plane.last, reason, detail)
    assert world.status("900b").error == error
    assert world.states == {"900b": "waiting"}


@pytest.mark.parametrize(
    ("reason", "detail", "error"),
    [
        (CloseReason.EOF, "", "closed by the peer"),
        (CloseReason.RESET, "Connection reset", "reset: Connection reset"),
    ],
)
def test_peer_that_hangs_up_on_a_login(world, reason, detail, error):
    """Most often the mesh key is another; one that has answered a ping knows ours."""
    world.want(B)
    world.greet(world.plane.last)
    world.end(world.plane.last, reason, detail)
    assert world.status("900b").error == f"{error}; is the mesh key the same there?"
    world.wait(1.0)
    world.end(world.come_up(), reason, detail)
    assert world.status("900b").error == error


def test_link_that_is_lost(world, caplog):
    """It is said once, and that it is dialled again."""
    world.end(world.bring_up(B))
    assert messages(caplog, logging.WARNING) == [
        "link 900b: lost: closed by the peer; dialling again"
    ]


def test_peer_that_does_not_answer_pings(world, caplog):
    """After 13 s it is dead: its connection is aborted, its keys are gone.

    Regression: this was not logged.
    """
    connection = world.bring_up(B)
    world.announce(connection, A_KEY)
    world.wait(17.75)
    assert world.states == {"900b": "up"}
    world.wait(0.25)
    assert world.states == {"900b": "waiting"}
    assert world.told.routes == {}
    error = "no answer to pings for 13 s"
    assert world.plane.closed == [(connection, error, True)]
    assert world.status("900b").error == error
    assert messages(caplog, logging.WARNING) == [
        f"link 900b: lost: {error}; dialling again"
    ]


def test_peer_that_answers_pings(world):
    """The link is up for as long as it does."""
    connection = world.bring_up(B)
    for _ in range(20):
        world.pong(connection)
        world.wait(5.0)
    assert world.states == {"900b": "up"}
    assert world.status("900b").since == pytest.approx(100.0)


def test_peer_that_never_logs_us_in(world, caplog):
    """It has 20 s, from dialling on. Regression: this was not logged."""
    world.want(B)
    connection = world.plane.last
    world.happen(Connected(connection, Endpoint("192.0.2.1", 443), b""))
    world.wait(20.0)
    assert world.states == {"900b": "connecting"}
    world.wait(TICK)
    assert world.states == {"900b": "waiting"}
    assert world.plane.closed == [(connection, "no login in 20 s", True)]
    assert messages(caplog, logging.WARNING) == [
        "link 900b: no login in 20 s; trying again"
    ]


def test_peer_that_announces_too_much(world, monkeypatch):
    """M13: it is cut, and nothing of it stays; it is dialled again a minute later.

    Regression: at once, and again and again: that took 38 % of a CPU.
    """
    monkeypatch.setattr("derpmesh.link.peering.MAX_KEYS", 1)
    connection = world.bring_up(B)
    world.announce(connection, A_KEY, C_KEY)
    assert world.told.routes == {}
    assert world.status("900b").error == "announces more than 1 keys"
    world.wait(60.0 - TICK)
    assert len(world.plane.dials) == 1
    world.wait(2 * TICK)
    assert len(world.plane.dials) == 2


def test_socket_that_cannot_be_made(world):
    """It is tried again."""
    world.plane.failure = OSError(24, "Too many open files")
    world.want(B)
    assert world.status("900b").error == "Too many open files"
    world.plane.failure = None
    world.wait(TICK)
    world.come_up()
    assert world.states == {"900b": "up"}


def test_authority_that_cannot_be_read(world, tmp_path, caplog):
    """The file is named. Regression: it was not, and this was not logged."""
    file = tmp_path / "ca.pem"
    world.want(target("b", ca_file=file))
    error = f"{file}: No such file or directory"
    assert world.status("900b").error == error
    assert messages(caplog, logging.WARNING) == [f"link 900b: {error}; trying again"]


def test_authority_that_is_none(world, tmp_path):
    """OpenSSL does not say of which file it speaks."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    world.plane.failure = ssl.SSLError(1, "no start line")
    world.want(target("b", ca_file=file))
    assert world.status("900b").error == f"{file}: no start line"


def test_regression_authority_that_is_no_text(world, tmp_path):
    """Its bytes were decoded in the plane, whose error ended the node."""
    file = tmp_path / "ca.pem"
    file.write_bytes(b"\xff\xfe")
    world.want(target("b", ca_file=file))
    assert world.status("900b").error == f"{file}: not a PEM file"


def test_regression_name_that_is_none(world):
    """A label of 64 characters has no place in TLS; the error ended the node."""
    host = f"{'x' * 64}.example.com"
    world.want(target("b", host=host))
    error = world.status("900b").error
    assert error.startswith(f"{host}: ")
    assert "too long" in error
    assert world.plane.dials == []


# Names.


NAMED = target("b", dial=None)


@pytest.fixture
def lookups(monkeypatch):
    """What is looked up; put answers or errors into the queue."""
    answers: asyncio.Queue = asyncio.Queue()
    asked = []

    async def getaddrinfo(_loop, host, port, **_about):
        asked.append((host, port))
        answer = await answers.get()
        if isinstance(answer, Exception):
            raise answer
        family = socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answer]

    monkeypatch.setattr("asyncio.BaseEventLoop.getaddrinfo", getaddrinfo)
    answers.asked = asked
    return answers


async def test_name_is_looked_up(world, lookups):
    """In the background; the link is connecting meanwhile."""
    world.want(NAMED)
    assert (world.plane.dials, world.states) == ([], {"900b": "connecting"})
    lookups.put_nowait(["192.0.2.7", "192.0.2.8"])
    await world.spawned.pop()
    assert lookups.asked == [("b.example.com", 443)]
    assert [where for where, *_ in world.plane.dials] == [Endpoint("192.0.2.7", 443)]
    world.come_up()
    assert world.states == {"900b": "up"}


async def test_regression_addresses_take_turns(world, lookups):
    """A name had its first address tried, and no other.

    `localhost` is ::1 and then 127.0.0.1, and a peer that listened on the second
    alone was never reached.
    """
    world.want(NAMED)
    for _ in range(3):
        lookups.put_nowait(["2001:db8::1", "192.0.2.7"])
        await world.spawned.pop()
        world.refuse()
        world.wait(2.0)
    world.spawned.pop().close()
    found = [where.host for where, *_ in world.plane.dials]
    assert found == ["2001:db8::1", "192.0.2.7", "2001:db8::1"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "[Errno -2] Name or service not known",
        ),
        (TimeoutError(), "no answer from DNS"),
        (
            UnicodeError("label empty or too long"),
            "label empty or too long",
        ),
    ],
)
async def test_name_that_is_not_found(world, lookups, caplog, failure, error):
    """It is named, and tried again.

    Regression: the third ended the node, and none of them was logged.
    """
    world.want(NAMED)
    lookups.put_nowait(failure)
    await world.spawned.pop()
    assert world.status("900b").error == f"b.example.com: {error}"
    assert messages(caplog, logging.WARNING) == [
        f"link 900b: b.example.com: {error}; trying again"
    ]
    world.wait(1.0)
    lookups.put_nowait(["192.0.2.7"])
    await world.spawned.pop()
    world.come_up()
    assert world.states == {"900b": "up"}


async def test_resolver_that_hangs(world, lookups, monkeypatch):
    """A look-up has a limit."""
    monkeypatch.setattr(links_module, "LOOKUP_TIMEOUT", 0.01)
    world.want(NAMED)
    await world.spawned.pop()
    assert world.status("900b").error == "b.example.com: no answer from DNS"
    assert lookups.asked == [("b.example.com", 443)]


@pytest.mark.parametrize("answer", [["192.0.2.7"], OSError("no DNS")])
async def test_link_that_is_closed_during_its_look_up(world, lookups, answer):
    """What is found then is for nobody."""
    world.want(NAMED, C)
    world.want(C)
    lookups.put_nowait(answer)
    await world.spawned.pop()
    assert len(world.plane.dials) == 1
    assert world.states == {"900c": "connecting"}


def test_ip_address_is_not_looked_up(world):
    """There is nothing to be found."""
    world.want(target("b", host="192.0.2.9", port=8443, dial=None))
    assert world.plane.dials[0][0] == Endpoint("192.0.2.9", 8443)
    assert world.spawned == []


# Ourselves.


def meet_ourselves(world) -> None:
    """Let the peer greet with our key."""
    connection = world.plane.last
    world.happen(Connected(connection, Endpoint("192.0.2.1", 443), b""))
    own = GREETING[:-32] + US.public
    world.happen(Bytes(connection, own))


def test_link_to_itself_is_none(world, caplog):
    """It is closed, and is no failure."""
    world.want(B)
    meet_ourselves(world)
    assert world.states == {"900b": "self"}
    assert world.status("900b").error == "it is this node"
    assert len(world.plane.closed) == 1
    assert world.links.serving == 0
    assert messages(caplog, logging.WARNING) == [
        "link 900b: it is this node; trying again"
    ]


def test_link_to_itself_is_tried_again_after_a_minute(world, caplog):
    """The record may have been mended, or the key of the other node."""
    world.want(B)
    meet_ourselves(world)
    world.wait(60.0)
    assert len(world.plane.dials) == 1
    world.wait(TICK)
    assert len(world.plane.dials) == 2
    meet_ourselves(world)
    assert world.states == {"900b": "self"}
    assert len(messages(caplog, logging.WARNING)) == 1
    world.wait(60.0 + TICK)
    world.come_up()
    assert world.states == {"900b": "up"}


# Several links.


def test_membership_changes(world):
    """Links that stay are not touched."""
    stays, goes = world.bring_up(B), world.bring_up(C)
    world.announce(stays, A_KEY)
    world.announce(goes, C_KEY)
    world.want(B, D)
    assert world.plane.closed == [(goes, "not wanted any more", True)]
    assert world.states == {"900b": "up", "900d": "connecting"}
    assert world.told.routes == {A_KEY: Link(stays)}


def test_member_changes(world):
    """Its link is closed, and opened to what the member is now."""
    before = world.bring_up(B)
    world.announce(before, A_KEY)
    world.want(target("b", dial=Address("192.0.2.200", 443)))
    assert world.plane.closed == [(before, "not wanted any more", True)]
    assert world.plane.dials[-1][0].host == "192.0.2.200"
    assert world.told.routes == {}
    after = world.plane.last
    world.greet(after)
    world.announce(after, A_KEY)
    world.end(before)
    assert world.told.routes == {A_KEY: Link(after)}


def test_statuses_are_in_the_order_of_the_map(world):
    """Also of what was added later. Regression: they were in the order of opening."""
    world.want(C, D)
    world.want(B, C, D)
    assert list(world.states) == ["900b", "900c", "900d"]
    world.want(D, B)
    assert list(world.states) == ["900d", "900b"]


def test_one_bad_peer_harms_no_other(world):
    """Whatever it does, and for as long as it likes."""
    good = world.bring_up(B)
    world.announce(good, A_KEY)
    world.want(B, C)
    for number in range(100):
        world.pong(good)
        world.wait(4.0)
        if world.states["900c"] == "connecting":
            misbehave(world, number % 4)
    assert world.told.routes == {A_KEY: Link(good)}
    assert world.status("900b").since == 400.0
    assert good not in [connection for connection, *_ in world.plane.closed]
    assert len(world.plane.dials) > 20


def misbehave(world, way: int) -> None:
    """Refuse, be deaf, show another certificate, or announce and vanish."""
    bad = world.plane.last
    if way == 0:
        world.refuse()
    elif way == 1:
        world.happen(Connected(bad, Endpoint("192.0.2.1", 443), b""))
        world.happen(Bytes(bad, GREETING[:-1]))
    elif way == 2:
        world.happen(Connected(bad, Endpoint("192.0.2.1", 443), b""))
        world.happen(Bytes(bad, b"nonsense" * 1000))
    else:
        world.greet(bad)
        world.announce(bad, C_KEY)
        world.frame(bad, NODE_STATE, b"[" * 4096)
        world.end(bad)


def test_events_of_a_connection_that_was_given_up(world):
    """They come late, concern nobody, and are led nowhere once it is closed."""
    old = world.bring_up(B)
    world.end(old)
    assert old not in world.routes
    world.wait(1.0)
    given_up = world.plane.last
    world.wait(20.25)
    assert given_up in world.routes
    world.wait(2.0)
    world.come_up()
    world.happen(Connected(given_up, Endpoint("192.0.2.1", 443), b""))
    world.end(given_up)
    assert world.states == {"900b": "up"}
    assert list(world.routes) == [world.plane.last]


def test_events_that_mean_nothing_to_a_link(world):
    """What it sent has left; the plane knows that already."""
    connection = world.bring_up(B)
    before = world.plane.sent[connection]
    world.happen(Drained(connection))
    assert world.plane.sent[connection] == before


def test_end_of_all_links(world):
    """As the node ends."""
    first, second = world.bring_up(B), world.bring_up(C)
    world.announce(first, A_KEY)
    world.links.close()
    assert [connection for connection, *_ in world.plane.closed] == [first, second]
    assert world.links.statuses() == []
    assert world.told.routes == {}
    world.wait(1.0)
    assert len(world.plane.dials) == 2


# What is told of a link.


def test_status_of_a_link_that_is_new(world):
    """Nothing is known yet."""
    world.want(B)
    world.wait(1.0)
    found = world.status("900b")
    assert (found.since, found.keys, found.round_trip) == (1.0, 0, None)
    assert (found.forwarded_packets, found.forwarded_bytes) == (0, 0)
    assert (found.error, found.peer_state, found.peer_version) == ("", "", "")
    assert found.is_member


def test_what_a_link_forwarded(world):
    """Over all its connections.

    Regression: what went over one that was closed by the peer did not count.
    """
    connection = world.bring_up(B)
    world.plane.counted[connection] = Stats(tx_packets=3, tx_bytes=300)
    found = world.status("900b")
    assert (found.forwarded_packets, found.forwarded_bytes) == (3, 300)
    world.end(connection, stats=Stats(9, 9, tx_packets=4, tx_bytes=400))
    world.wait(1.0)
    connection = world.come_up()
    world.plane.counted[connection] = Stats(tx_packets=1, tx_bytes=1)
    world.wait(21.0)
    found = world.status("900b")
    assert found.error == "no answer to pings for 13 s"
    assert (found.forwarded_packets, found.forwarded_bytes) == (5, 401)


def test_what_a_peer_says_of_itself(world):
    """Until the link is lost."""
    connection = world.bring_up(B)
    said = {"name": "900b", "state": "draining", "version": "1.2.3"}
    world.frame(connection, NODE_STATE, json.dumps(said).encode())
    found = world.status("900b")
    assert (found.peer_state, found.peer_version) == ("draining", "1.2.3")
    world.end(connection)
    assert world.status("900b").peer_state == ""


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b'{"state":"draining"}' + b" " * 4077,
        b"[" * 4096,
    ],
    ids=lambda document: repr(document[:10]),
)
def test_peer_that_speaks_nonsense_of_itself(world, document):
    """It changes nothing. Regression: the last one went up through the plane."""
    connection = world.bring_up(B)
    world.frame(connection, NODE_STATE, b'{"state":"serving"}')
    world.frame(connection, NODE_STATE, document)
    assert world.status("900b").peer_state == "serving"


@pytest.mark.parametrize("state", ["7", "[1]", "null", '{"a": 1}'])
def test_peer_whose_state_is_no_word(world, state):
    """It does not serve, as far as one knows."""
    connection = world.bring_up(B)
    world.frame(connection, NODE_STATE, f'{{"state":{state}}}'.encode())
    assert world.links.serving == 0
    assert isinstance(world.status("900b").peer_state, str)


def test_who_takes_clients(world):
    """Links that are up, unless their peer says otherwise; a Go derper says nothing."""
    ours, theirs = world.bring_up(B), world.bring_up(target("c", is_member=False))
    world.want(B, target("c", is_member=False), D)
    assert world.links.serving == 2
    world.frame(ours, NODE_STATE, b'{"state":"draining"}')
    assert world.links.serving == 1
    world.frame(ours, NODE_STATE, b'{"state":"serving"}')
    assert world.links.serving == 2
    world.end(theirs)
    assert world.links.serving == 1
    assert not world.status("900c").is_member
