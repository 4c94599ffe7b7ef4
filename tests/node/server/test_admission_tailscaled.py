"""The local API of tailscaled, in the shapes that it has had over the years."""

import json

import pytest
from aiohttp import web

from derpnode.server.admission.tailscaled import Tailscaled
from derpnode.server.admission.verdict import Outcome
from derpnode.wire.keys import NodeKey, node_key_text


PEER, SELF, STRANGER = (NodeKey(bytes([number]) * 32) for number in (1, 2, 3))

IP = "192.0.2.9"


class Daemon:
    """A local API that knows one peer and itself.

    Args:
        whois: Answer to a node key: "key" looks it up, as since 2023; a
            status and text otherwise.
        with_self: Whether the status has the node itself.
        state: What the backend is doing.
    """

    def __init__(self, whois="key", *, with_self=True, state="Running") -> None:
        self.whois = whois
        self.with_self = with_self
        self.state = state
        self.peers = [PEER]
        self.status_body = None
        self.requests = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if request.path == "/localapi/v0/whois":
            return self.answer_whois(request.query["addr"])
        if request.path == "/localapi/v0/status":
            return self.answer_status(without_peers="peers" in request.query)
        return web.Response(status=404, text="404 page not found\n")

    def answer_whois(self, addr: str) -> web.Response:
        if self.whois != "key":
            status, text = self.whois
            return web.Response(status=status, text=text)
        known = [node_key_text(key) for key in (*self.peers, SELF)]
        if self.state != "Running" or addr not in known:
            return web.Response(status=404, text="no match for IP:port\n")
        return web.json_response({"Node": {"Key": addr}, "UserProfile": {}})

    def answer_status(self, *, without_peers: bool) -> web.Response:
        if self.status_body is not None:
            return self.status_body()
        tree = {"BackendState": self.state}
        if self.with_self:
            tree["Self"] = {"PublicKey": node_key_text(SELF)}
        if self.peers and not without_peers:
            texts = [node_key_text(key) for key in self.peers]
            tree["Peer"] = {text: {"PublicKey": text} for text in texts}
        return web.Response(body=json.dumps(tree, indent="\t").encode())


@pytest.fixture
async def serve(tmp_path):
    """Start a daemon; give a source that asks it."""
    path = tmp_path / "tailscaled.sock"
    source = Tailscaled(path)
    runners = []

    async def start(daemon: Daemon) -> Tailscaled:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", daemon.handle)
        runners.append(web.AppRunner(app, shutdown_timeout=0.1))
        await runners[-1].setup()
        await web.UnixSite(runners[-1], str(path)).start()
        return source

    yield start
    await source.close()
    for runner in runners:
        await runner.cleanup()


async def outcomes(source, *keys) -> list[Outcome]:
    return [(await source.ask(key, IP)).outcome for key in keys]


ALLOW, DENY, UNKNOWN = Outcome.ALLOW, Outcome.DENY, Outcome.UNKNOWN


async def test_the_request_is_derpers(serve):
    """Path with %3A, host and capability header, as 1.104 sends them."""
    daemon = Daemon()
    source = await serve(daemon)
    await source.ask(PEER, IP)
    (request,) = daemon.requests
    assert request.method == "GET"
    assert request.raw_path == "/localapi/v0/whois?addr=nodekey%3A" + "01" * 32
    assert request.headers["Host"] == "local-tailscaled.sock"
    assert request.headers["Tailscale-Cap"] == "148"


async def test_today(serve):
    """200 is a yes, 404 a no; the daemon's own node belongs to the tailnet too."""
    source = await serve(Daemon())
    assert await outcomes(source, PEER, SELF, STRANGER) == [ALLOW, ALLOW, DENY]


OLD = {
    "whois takes a key for an address": (400, "invalid 'addr' parameter\n"),
    "no whois at all": (404, "404 page not found\n"),
    "whois is not for GET": (405, "want POST\n"),
}


@pytest.mark.parametrize("whois", OLD.values(), ids=OLD)
async def test_old_daemons(serve, whois, caplog):
    """They are asked for their whole status; one warning says so."""
    source = await serve(Daemon(whois))
    assert await outcomes(source, PEER, SELF, STRANGER) == [ALLOW, ALLOW, DENY]
    (warning,) = caplog.messages
    assert "is old, its whois answered" in warning


async def test_older_daemons(serve):
    """Before `Self`, only peers were known; that was a no for the node itself."""
    source = await serve(Daemon((400, "bad"), with_self=False))
    assert await outcomes(source, PEER, SELF) == [ALLOW, DENY]


async def test_a_tailnet_of_one(serve):
    """The status then has no `Peer` at all."""
    daemon = Daemon((400, "bad"))
    daemon.peers = []
    assert await outcomes(await serve(daemon), SELF, PEER) == [ALLOW, DENY]


@pytest.mark.parametrize(
    "body",
    [
        lambda: web.Response(text="[]"),
        lambda: web.Response(text="<html>"),
        lambda: web.Response(text="[" * 100_000),
        lambda: web.Response(status=500),
    ],
)
async def test_status_makes_no_sense(serve, body):
    """Then there is no saying."""
    daemon = Daemon((400, "bad"))
    daemon.status_body = body
    assert await outcomes(await serve(daemon), PEER) == [UNKNOWN]


async def test_odd_status(serve):
    """What is not shaped like a node is nobody."""
    daemon = Daemon((400, "bad"))
    odd = {"Self": 7, "Peer": {"a": None, "b": {"PublicKey": 7}, "c": {}}}
    daemon.status_body = lambda: web.json_response(odd)
    assert await outcomes(await serve(daemon), PEER) == [DENY]


@pytest.mark.parametrize("state", ["Starting", "NoState", "NeedsLogin", "Stopped"])
async def test_a_daemon_that_has_just_started(serve, state):
    """It knows nobody yet: that is not a no, or each restart locks everybody out."""
    source = await serve(Daemon(state=state))
    verdict = await source.ask(PEER, IP)
    assert verdict.outcome is UNKNOWN
    assert verdict.reason == f"knows no tailnet now, its state is {state!r}"


@pytest.mark.parametrize(
    "body", [lambda: web.Response(status=403), lambda: web.Response(text="{}")]
)
async def test_not_found_stands_by_itself(serve, body):
    """If the state cannot be had, 404 is a no, as in derper."""
    daemon = Daemon()
    daemon.status_body = body
    assert await outcomes(await serve(daemon), STRANGER) == [DENY]


@pytest.mark.parametrize("status", [403, 500, 503])
async def test_other_answers(serve, status):
    """Not allowed to ask, say."""
    source = await serve(Daemon((status, "whois access denied\n")))
    verdict = await source.ask(PEER, IP)
    assert (verdict.outcome, verdict.reason) == (UNKNOWN, f"whois answered {status}")


@pytest.mark.parametrize("text", ["", "OK", "[]"])
async def test_not_a_tailscaled(serve, text):
    """Any other daemon's 200 admits nobody."""
    source = await serve(Daemon((200, text)))
    assert await outcomes(source, PEER) == [UNKNOWN]


async def test_another_key(serve):
    """An answer for somebody else is none."""
    text = json.dumps({"Node": {"Key": node_key_text(SELF)}})
    source = await serve(Daemon((200, text)))
    assert await outcomes(source, PEER, SELF) == [UNKNOWN, ALLOW]


@pytest.mark.parametrize("text", ["{}", '{"Node":{}}', '{"Node":null}'])
async def test_200_without_a_key(serve, text):
    """Derper looks at the status alone; so do we where there is no more."""
    source = await serve(Daemon((200, text)))
    assert await outcomes(source, PEER) == [ALLOW]


async def test_no_daemon(tmp_path):
    """No socket: the reason names it."""
    source = Tailscaled(tmp_path / "none.sock")
    verdict = await source.ask(PEER, IP)
    assert verdict.outcome is UNKNOWN
    assert "none.sock" in verdict.reason
    await source.close()


async def test_restart(serve, tmp_path):
    """A new socket under the old name is found without a restart of the node."""
    source = await serve(Daemon())
    assert await outcomes(source, PEER) == [ALLOW]
    (tmp_path / "tailscaled.sock").unlink()
    daemon = Daemon()
    daemon.peers = [STRANGER]
    await serve(daemon)
    await source.close()
    assert await outcomes(source, STRANGER) == [ALLOW]
