"""Several endpoints that follow a script: what is retried, where, and what is told."""

import asyncio
import json
import logging

import pytest

from derpmesh.etcd.answers import Batch, Delete, Put
from derpmesh.etcd.client import Etcd, Patience, prefix_end
from derpmesh.etcd.errors import (
    Ambiguous,
    Compacted,
    EtcdError,
    LeaseLost,
    NotSent,
    Refused,
    StaleAnswer,
    TokenRefused,
    Unauthenticated,
    WatchEnded,
)
from derpmesh.etcd.login import Credentials
from tests.mesh.etcd.scripted import (
    Answer,
    Reset,
    ScriptedEtcd,
    Silence,
    Stream,
    begun,
    events,
    header,
    item,
    listing,
    news,
    put,
    refusal,
)
from tests.support.etcd import free_ports


BUSY = refusal(8, "etcdserver: too many requests", 429)
NO_LEADER = refusal(14, "etcdserver: no leader", 503)
NO_LEASE = refusal(5, "etcdserver: requested lease not found", 404)
DENIED = refusal(7, "etcdserver: permission denied", 403)
BAD_TOKEN = refusal(16, "etcdserver: invalid auth token", 401)
EMPTY = listing(5)


@pytest.fixture
def slept() -> list[float]:
    """Give the pauses that were made."""
    return []


@pytest.fixture
def client(connect, script: ScriptedEtcd, second_script: ScriptedEtcd, slept) -> Etcd:
    """Give a client of two scripted servers; pauses are noted, not made."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0.01)

    return connect(
        [script.url, second_script.url],
        patience=Patience(attempt=1.0, deadline=2.5),
        sleep=sleep,
        uniform=lambda _, most: most,
    )


# Failover.


@pytest.mark.parametrize("failure", [Reset, Silence, BUSY, NO_LEADER, Answer(b"<h1>")])
async def test_reads_go_on_elsewhere(client, script, second_script, slept, failure):
    """At once, and stay there."""
    script.plays("/kv/range", failure)
    second_script.plays("/kv/range", EMPTY)
    assert (await client.range_prefix(b"a")).revision == 5
    await client.get(b"a")
    assert (script.methods, second_script.methods) == (
        ["/kv/range"],
        ["/kv/range"] * 2,
    )
    assert sum(slept) == 0
    assert client.endpoint == second_script.url


async def test_refusal_is_final(client, script, second_script):
    """Another endpoint would say the same."""
    script.plays("/kv/range", DENIED)
    with pytest.raises(Refused):
        await client.get(b"a")
    assert (len(script.asked), second_script.asked) == (1, [])


async def test_pauses_grow_until_the_deadline(connect, slept):
    """The first round has none; what failed last is told."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    urls = [f"http://127.0.0.1:{port}" for port in free_ports(3)]
    client = connect(
        urls,
        patience=Patience(deadline=2.0),
        sleep=sleep,
        uniform=lambda _, most: most,
    )
    with pytest.raises(NotSent):
        await client.get(b"a")
    assert slept[:7] == [0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert len(slept) == 7


async def test_an_outage_is_told_once(connect, caplog):
    """Regression: with all endpoints away, a line at each attempt, for hours."""
    caplog.set_level(logging.INFO)
    urls = [f"http://127.0.0.1:{port}" for port in free_ports(3)]
    client = connect(
        urls,
        patience=Patience(deadline=2.0),
        sleep=instantly,
        uniform=lambda _, most: (
            most
        ),  # drawn, the last to fail may be tried again first
    )
    for _ in range(3):
        with pytest.raises(NotSent):
            await client.get(b"a")
    assert len(caplog.messages) == len(urls)


async def instantly(_: float) -> None:
    """Wait for nothing, and let others work."""
    await asyncio.sleep(0)


async def test_rotate(client, second_script, script, caplog):
    """The next endpoint is asked, and it is said why."""
    caplog.set_level(logging.INFO)
    second_script.plays("/kv/range", EMPTY)
    client.rotate("no echo")
    await client.get(b"a")
    assert script.asked == []
    assert caplog.messages == [f"etcd: no echo; asking {second_script.url} from now on"]


# Writes whose answer is lost.


@pytest.mark.parametrize("failure", [Reset, Silence, NO_LEADER, Answer(b"{")])
async def test_write_is_not_sent_twice(client, script, second_script, failure):
    """Whether it was done is looked up elsewhere."""
    script.plays("/kv/put", failure)
    second_script.plays("/kv/range", listing(9, item(b"a", b"mine", 8)))
    assert await client.put(b"a", b"mine") == 8
    assert (script.methods, second_script.methods) == (["/kv/put"], ["/kv/range"])


@pytest.mark.parametrize(
    "found", [EMPTY, listing(9, item(b"a", b"theirs", 8)), DENIED, Reset]
)
async def test_write_that_is_not_found(client, script, second_script, found):
    """Nobody knows, whatever the look at it brought."""
    for method in ("/kv/put", "/kv/txn"):
        script.plays(method, Reset)
        second_script.plays(method, Reset)
    script.plays("/kv/range", found)
    second_script.plays("/kv/range", found)
    with pytest.raises(Ambiguous):
        await client.put(b"a", b"mine")
    with pytest.raises(Ambiguous):
        await client.txn_put(b"a", b"mine", 3)


async def test_put_that_lost_its_lease_is_not_found(client, script, second_script):
    """The same value under another lease is another put."""
    script.plays("/kv/put", Reset)
    second_script.plays("/kv/range", listing(9, item(b"a", b"mine", 8, lease=1)))
    with pytest.raises(Ambiguous):
        await client.put(b"a", b"mine", lease=2)


async def test_write_that_was_not_sent_is(client, script, second_script):
    """As often as it takes."""
    script.plays("/kv/put", BUSY)
    second_script.plays("/kv/put", header(9))
    assert await client.put(b"a", b"mine") == 9


async def test_delete_whose_answer_is_lost(client, script, second_script):
    """The key is gone, or nobody knows."""
    script.plays("/kv/deleterange", Reset)
    second_script.plays("/kv/range", EMPTY)
    await client.delete(b"a")
    second_script.plays("/kv/deleterange", Reset)
    script.plays("/kv/range", listing(9, item(b"a", b"", 8)))
    with pytest.raises(Ambiguous):
        await client.delete(b"a")


async def test_compare_and_put(client, script):
    """One transaction; a comparison that fails is no failure."""
    script.plays("/kv/txn", header(9) | {"succeeded": True}, header(9))
    assert await client.txn_put(b"a", b"b", 0, lease=4) == 9
    assert await client.txn_put(b"a", b"b", 3) is None
    assert script.asked[0][1] == {
        "compare": [
            {"key": "YQ==", "target": "MOD", "result": "EQUAL", "mod_revision": 0}
        ],
        "success": [{"request_put": {"key": "YQ==", "value": "Yg==", "lease": 4}}],
        "failure": [],
    }


async def test_compare_and_put_whose_answer_is_lost(client, script, second_script):
    """It is found by its value."""
    script.plays("/kv/txn", Silence)
    second_script.plays("/kv/range", listing(9, item(b"a", b"nonce", 8)))
    assert await client.txn_put(b"a", b"nonce", 3) == 8


# Leases.


async def test_grant_is_found_again(client, script, second_script):
    """Its number is ours, so the second request finds what the first one did."""
    script.plays("/lease/grant", Reset)
    exists = refusal(9, "etcdserver: lease already exists", 400)
    second_script.plays("/lease/grant", exists)
    lease = await client.lease_grant(15)
    [(_, first), (_, second)] = script.asked + second_script.asked
    assert first == second == {"ID": lease.id, "TTL": 15}
    assert lease.ttl == 15


@pytest.mark.parametrize(
    "answer",
    [
        {"result": header(5) | {"ID": "3"}},  # all versions: no TTL
        {"result": header(5) | {"ID": "3", "TTL": "-1"}},
        NO_LEASE,
        Answer(b'{"error":{"grpc_code":5,"message":"requested lease not found"}}'),
    ],
)
async def test_lease_is_lost(client, script, answer):
    """However a server says it."""
    script.plays("/lease/keepalive", answer)
    with pytest.raises(LeaseLost):
        await client.lease_keepalive(3)


async def test_lost_lease_is_told_by_puts(client, script):
    """So that it is taken anew."""
    script.plays("/kv/put", NO_LEASE)
    script.plays("/kv/txn", NO_LEASE)
    with pytest.raises(LeaseLost):
        await client.put(b"a", b"b", 3)
    with pytest.raises(LeaseLost):
        await client.txn_put(b"a", b"b", 0, 3)
    with pytest.raises(Refused):
        await client.put(b"a", b"b")


async def test_keepalive_goes_on_elsewhere(client, script, second_script):
    """It may be sent twice."""
    script.plays("/lease/keepalive", Reset)
    second_script.plays("/lease/keepalive", {"result": header(5) | {"TTL": "15"}})
    assert await client.lease_keepalive(3) == 15


async def test_revoke_of_a_lost_lease(client, script):
    """It is as wanted; other refusals are told."""
    script.plays("/lease/revoke", NO_LEASE, DENIED)
    await client.lease_revoke(3)
    with pytest.raises(Refused):
        await client.lease_revoke(3)


# Older answers.


@pytest.mark.parametrize(
    ("older", "what"),
    [
        (header(4), "revision"),
        (header(9, term=1), "raft_term"),
        (header(9, cluster=8), "cluster_id"),
    ],
)
async def test_stale_answer(client, script, second_script, older, what):
    """It is told; the caller goes elsewhere, or takes the cluster as it is."""
    script.plays("/kv/range", EMPTY, older)
    await client.get(b"a")
    with pytest.raises(StaleAnswer) as caught:
        await client.get(b"a")
    assert (caught.value.what, caught.value.endpoint) == (what, script.url)
    second_script.plays("/kv/range", EMPTY)
    client.rotate()
    await client.get(b"a")
    script.plays("/kv/range", older)
    client.rotate()
    client.forget()
    await client.get(b"a")


async def test_keepalive_may_lag(client, script):
    """A member answers it by itself; but it must be of the same cluster."""
    script.plays("/kv/range", EMPTY)
    await client.get(b"a")
    script.plays(
        "/lease/keepalive",
        {"result": header(1, term=1) | {"TTL": "15"}},
        {"result": header(1, cluster=8) | {"TTL": "15"}},
    )
    assert await client.lease_keepalive(3) == 15
    assert client.seen.revision == 5
    with pytest.raises(StaleAnswer):
        await client.lease_keepalive(3)


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        {"header": {"revision": "1"}},
        header(1) | {"kvs": 1},
        header(1) | {"kvs": [{"key": "YQ=="}]},
        header(1) | {"kvs": [{"key": 1, "mod_revision": "1"}]},
    ],
)
async def test_answer_that_makes_no_sense(client, script, second_script, garbage):
    """The next endpoint is asked."""
    script.plays("/kv/range", garbage)
    second_script.plays("/kv/range", EMPTY)
    assert await client.get(b"a") is None


async def test_lease_that_makes_no_sense(client, script, second_script):
    """The next endpoint is asked."""
    script.plays("/lease/grant", header(1))
    second_script.plays("/lease/grant", header(1) | {"ID": "3", "TTL": "20"})
    assert (await client.lease_grant(15)).ttl == 20


# Pages.


async def test_pages_are_of_one_revision(client, script):
    """Each begins after the last key of the one before."""
    script.plays(
        "/kv/range",
        listing(5, item(b"a1", b"", 2), item(b"a2", b"", 3), more=True),
        listing(8, item(b"a3", b"", 4)),
    )
    found = await client.range_prefix(b"a", page=2)
    assert (found.revision, [one.key for one in found.items]) == (
        5,
        [b"a1", b"a2", b"a3"],
    )
    [(_, first), (_, second)] = script.asked
    assert "revision" not in first or first["revision"] == 0
    assert second["revision"] == 5
    assert second["key"] == "YTIA"  # a2 and a zero byte


async def test_list_that_promises_more_and_has_none(client, script):
    """It does not go on for ever."""
    script.plays("/kv/range", listing(5, more=True))
    assert (await client.range_prefix(b"a")).items == ()


async def test_compacted_list(client, script):
    """Read anew."""
    script.plays(
        "/kv/range",
        refusal(11, "etcdserver: mvcc: required revision has been compacted", 400),
    )
    with pytest.raises(Compacted):
        await client.range_prefix(b"a", revision=2)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff\xff", b"b"), (b"\xff", b"\0")],
)
def test_end_of_a_prefix(prefix, end):
    """The first key that does not begin so."""
    assert prefix_end(prefix) == end


# Users.


@pytest.fixture
def user(connect, script, tmp_path):
    """Give a client who is a user."""
    path = tmp_path / "password"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    return connect(
        script.url,
        credentials=Credentials("node", path),
        patience=Patience(attempt=3.0, deadline=0.1),
    )


def tokens(script) -> list[str]:
    """Give the tokens that were shown, one a request; logins have none."""
    return [found.get("authorization", "") for found in script.headers]


async def test_login_is_lazy(user, script):
    """There is one, before the first request."""
    script.plays("/auth/authenticate", header(1) | {"token": "t1"})
    script.plays("/kv/range", EMPTY)
    await user.get(b"a")
    await user.get(b"a")
    assert script.asked[0] == (
        "/auth/authenticate",
        {"name": "node", "password": "s3cret"},
    )
    assert tokens(script) == ["", "t1", "t1"]


@pytest.mark.parametrize(
    "failure",
    [
        BAD_TOKEN,
        refusal(3, "etcdserver: user name is empty", 400),
        refusal(3, "etcdserver: revision of auth store is old", 400),
    ],
)
async def test_token_is_renewed(user, script, failure):
    """And the request sent again."""
    script.plays("/auth/authenticate", {"token": "t1"}, {"token": "t2"})
    script.plays("/kv/range", failure, EMPTY)
    assert await user.get(b"a") is None
    assert tokens(script) == ["", "t1", "", "t2"]


async def test_token_is_renewed_twice_at_most(user, script):
    """A server that refuses every token is not asked for ever."""
    script.plays("/auth/authenticate", {"token": "t1"}, {"token": "t2"})
    script.plays("/kv/range", BAD_TOKEN)
    with pytest.raises(TokenRefused):
        await user.get(b"a")
    assert script.methods.count("/auth/authenticate") == 3


async def test_users_are_wanted_and_we_are_none(client, script):
    """No login would help."""
    script.plays("/kv/range", refusal(3, "etcdserver: user name is empty", 400))
    script.plays("/watch", news({**header(1), "canceled": True, **REASON}))
    with pytest.raises(TokenRefused):
        await client.get(b"a")
    assert script.methods == ["/kv/range"]


REASON = {"cancel_reason": "etcdserver: invalid auth token"}


async def test_wrong_password(user, script):
    """It is told as such, and never tried again by itself."""
    message = "etcdserver: authentication failed, invalid user ID or password"
    script.plays("/auth/authenticate", refusal(3, message, 400))
    with pytest.raises(Unauthenticated, match="invalid user ID") as caught:
        await user.get(b"a")
    assert script.methods == ["/auth/authenticate"]
    assert "s3cret" not in repr(caught.value) + str(caught.value)


async def test_login_that_is_stalled(connect, script, second_script, tmp_path):
    """It is as good as no connection, for all who wait for it."""
    path = tmp_path / "password"
    path.write_text("s3cret")
    path.chmod(0o600)
    client = connect(
        [script.url, second_script.url],
        credentials=Credentials("node", path),
        patience=Patience(attempt=1.0, deadline=10.0),
    )
    script.plays("/auth/authenticate", Silence)
    second_script.plays("/auth/authenticate", {"token": "t1"})
    second_script.plays("/kv/range", EMPTY)
    second_script.plays("/kv/put", header(6))
    await asyncio.gather(client.get(b"a"), client.put(b"a", b""), client.get(b"b"))


async def test_etcd_without_users(user, script):
    """What it says is told."""
    message = "etcdserver: authentication is not enabled"
    script.plays("/auth/authenticate", refusal(9, message, 400))
    with pytest.raises(Refused, match="not enabled"):
        await user.get(b"a")


async def test_token_that_is_none(user, script):
    """Nothing is asked with it."""
    script.plays("/auth/authenticate", {"token": 5})
    with pytest.raises(Ambiguous):
        await user.get(b"a")


async def test_watch_renews_its_token(user, script):
    """It is refused within the stream."""
    canceled = news(header(5) | {"created": True, "canceled": True, **REASON})
    script.plays("/auth/authenticate", {"token": "t1"}, {"token": "t2"})
    script.plays(
        "/watch", Stream([canceled], stays=True), Stream([begun()], stays=True)
    )
    assert await take(user, 1) == [Batch(2, ())]
    assert tokens(script) == ["", "t1", "", "t2"]


async def test_watch_renews_its_token_twice_at_most(user, script):
    """And then says so."""
    canceled = news(header(5) | {"created": True, "canceled": True, **REASON})
    script.plays("/auth/authenticate", {"token": "t1"}, {"token": "t2"})
    script.plays("/watch", Stream([canceled]))
    with pytest.raises(TokenRefused):
        await take(user, 1)
    assert script.methods.count("/watch") == 3


async def test_nothing_secret_is_shown(user, script, caplog):
    """In no log at its loudest, no representation and no error."""
    caplog.set_level(logging.DEBUG)
    script.plays("/auth/authenticate", {"token": "t0ken"})
    script.plays("/kv/put", header(1))
    script.plays("/kv/range", DENIED)
    await user.put(b"a", b"v4lue")
    with pytest.raises(Refused) as caught:
        await user.get(b"a")
    shown = caplog.text + repr(user) + repr(vars(user)) + repr(caught.value)
    assert not any(secret in shown for secret in ("s3cret", "t0ken", "v4lue"))


# Watches.


async def take(client: Etcd, count: int, from_revision: int = 3) -> list[Batch]:
    """Take batches of a watch."""
    found: list[Batch] = []
    watch = client.watch(b"a", from_revision)
    try:
        async for batch in watch:
            found.append(batch)
            if len(found) == count:
                break
    finally:
        await watch.aclose()
    return found


async def test_watch(client, script):
    """Every revision is whole, and the last one is told."""
    gone = {"type": "DELETE", "kv": {"key": "YTE=", "mod_revision": "6"}}
    progress = news(header(9))
    script.plays(
        "/watch",
        Stream(
            [
                begun(8),
                events(5, put(b"a1", b"x", 4), put(b"a2", b"", 5)),
                progress,
                events(6, gone),
            ],
            stays=True,
        ),
    )
    assert await take(client, 3) == [
        Batch(2, ()),
        Batch(5, (Put(b"a1", b"x", 4, 4, 0), Put(b"a2", b"", 5, 5, 0))),
        Batch(6, (Delete(b"a1", 6),)),
    ]
    [(_, request)] = script.asked
    assert request["create_request"]["key"] == "YQ=="
    assert request["create_request"]["range_end"] == "Yg=="
    assert request["create_request"]["start_revision"] == 3


def canceled(**about: object) -> bytes:
    """Write the end of a watch."""
    return news(header(5) | {"canceled": True, **about})


@pytest.mark.parametrize(
    ("end", "kind", "said"),
    [
        (canceled(compact_revision="4"), Compacted, "before 4"),
        (canceled(), WatchEnded, "no reason given"),
        (canceled(cancel_reason="server is tired"), WatchEnded, "server is tired"),
        (
            canceled(cancel_reason="etcdserver: mvcc: ... has been compacted"),
            Compacted,
            "compacted",
        ),
        (canceled(cancel_reason="permission denied"), Refused, "permission denied"),
        (begun(cluster=8), StaleAnswer, "cluster_id is 8, was 7"),
        (events(9, put(b"a1", b"", 2)), StaleAnswer, "revision is 2, was 2"),
        (news({"events": []}), WatchEnded, "garbage in the stream: no header"),
        (events(9, {"kv": {}}), WatchEnded, "garbage in the stream"),
        (b'{"error":{"code":14,"message":"no leader"}}', Ambiguous, "no leader"),
        (b"", WatchEnded, "the stream ended"),
    ],
)
async def test_ends_of_a_watch(client, script, end, kind, said):
    """All of them end it, even where the stream stays open."""
    script.plays("/watch", Stream([begun(), end], stays=end != b""))
    with pytest.raises(kind) as caught:
        await take(client, 9)
    assert said in str(caught.value)


@pytest.mark.parametrize("scene", [Reset, Silence, NO_LEADER, BUSY, Stream([begun()])])
async def test_watch_that_fails_leaves_the_endpoint(
    client, script, second_script, scene
):
    """The next one is elsewhere."""
    script.plays("/watch", scene)
    second_script.plays("/watch", Stream([begun()], stays=True))
    with pytest.raises(EtcdError):
        await take(client, 2)
    assert await take(client, 1) == [Batch(2, ())]


async def test_watch_is_moved_by_calls(client, script, second_script):
    """Where a call fails, silence may be more than that."""
    script.plays("/watch", Stream([begun()], stays=True))
    script.plays("/lease/keepalive", Silence)
    second_script.plays("/lease/keepalive", {"result": header(5) | {"TTL": "15"}})
    watch = client.watch(b"a", 3)
    await anext(watch)
    ended = asyncio.gather(anext(watch), return_exceptions=True)
    await client.lease_keepalive(3)
    [found] = await ended
    assert isinstance(found, WatchEnded)
    assert client.endpoint == second_script.url


async def test_close_ends_watches(client, script):
    """And may be called twice."""
    script.plays("/watch", Stream([begun()], stays=True))
    watch = client.watch(b"a", 3)
    await anext(watch)
    await client.close()
    await client.close()
    with pytest.raises(WatchEnded):
        await anext(watch)


async def test_writes_are_json_that_etcd_reads(client, script):
    """No field is there that etcd 3.4 does not know."""
    script.plays("/kv/deleterange", header(3))
    await client.delete(b"a\xff")
    assert json.dumps(script.asked) == json.dumps(
        [("/kv/deleterange", {"key": "Yf8="})]
    )
