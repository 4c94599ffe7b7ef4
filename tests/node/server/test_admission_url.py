"""The admission URL: derper's question and answer, over real HTTP."""

import asyncio
import contextlib
import gzip

import pytest
from aiohttp import web

from derpnode.errors import ConfigError
from derpnode.server.admission import url as url_module
from derpnode.server.admission.url import Url
from derpnode.server.admission.verdict import Outcome
from derpnode.wire.keys import NodeKey


KEY = NodeKey(b"\x0a" * 32)
IP = "192.0.2.9"

BODY = b'{"NodePublic":"nodekey:' + b"0a" * 32 + b'","Source":"192.0.2.9"}'


class Hook:
    """A hook that answers as it is told, and records its requests."""

    def __init__(self) -> None:
        self.answer = web.Response
        self.requests = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.request = request
        body = await request.read()
        self.requests.append((request.method, request.path, request.headers, body))
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture
async def hook():
    hook = Hook()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hook.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield hook
    await runner.cleanup()


@pytest.fixture
async def source(hook):
    source = Url(f"{hook.origin}/verify?token=sesame")
    yield source
    await source.close()


def says(text: str | bytes, status: int = 200):
    """Answer with a fixed body."""
    body = text.encode() if isinstance(text, str) else text
    return lambda: web.Response(body=body, status=status)


async def test_the_question_is_derpers(hook, source):
    """POST, this body to the byte, and no Content-Type."""
    hook.answer = says('{"Allow":true}')
    await source.ask(KEY, IP)
    ((method, path, headers, body),) = hook.requests
    assert (method, path, body) == ("POST", "/verify", BODY)
    assert "Content-Type" not in headers
    assert headers["Content-Length"] == str(len(BODY))


async def test_without_an_address(hook, source):
    """A client with no address, as behind a test's pipe, has an empty one."""
    hook.answer = says('{"Allow":true}')
    await source.ask(KEY, "")
    assert hook.requests[0][3].endswith(b'"Source":""}')


ALLOWING = [
    '{"Allow":true}',
    '{"allow": true}',
    '{"ALLOW":true,"More":[{"Allow":false}]}',
    '{"Allow":false,"allow":true}',
    '{"Allow":true,"Allow":null}',
    '  {"Allow":true} trailing',
    '{"Allow":true}' + " " * 10_000,
]

DENYING = [
    '{"Allow":false}',
    "{}",
    '{"Allow":null}',
    '{"Allow":"true"}',
    '{"Allow":1}',
    '{"Allow":[true]}',
    '{"Allow":{"Allow":true}}',
    '{"Nested":{"Allow":true}}',
    '{"Allow":true,"allow":false}',
    '{"Allow":true,"Allow":"yes"}',
]

MEANINGLESS = [
    "",
    "true",
    "null",
    "[]",
    '[["Allow",true]]',
    "<html>Please log in</html>",
    '{"Allow":tru',
    " " * 4096 + '{"Allow":true}',
    "[" * 4096,
    '{"A":' * 800,
    b"\xff\xfe",
    gzip.compress(b'{"Allow":true}', mtime=0),
]


@pytest.mark.parametrize("body", ALLOWING)
async def test_yes(hook, source, body):
    """Only true is a yes; the name in any case, the last one counts, as in Go."""
    hook.answer = says(body)
    assert (await source.ask(KEY, IP)).outcome is Outcome.ALLOW


@pytest.mark.parametrize("body", DENYING)
async def test_no(hook, source, body):
    """A JSON object that does not say true says no."""
    hook.answer = says(body)
    verdict = await source.ask(KEY, IP)
    assert verdict.outcome is Outcome.DENY
    assert verdict.reason == "it does not allow the key"


@pytest.mark.parametrize("body", MEANINGLESS)
async def test_no_answer_at_all(hook, source, body):
    """A 200 that is no JSON object comes from something that is not the hook."""
    hook.answer = says(body)
    verdict = await source.ask(KEY, IP)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason == "answered 200 with something else than JSON"


@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 404, 429, 500, 502, 503])
async def test_other_statuses_say_nothing(hook, source, status):
    """Unlike derper's: a proxy without its backend must not lock everybody out."""
    hook.answer = says('{"Allow":true}' if status != 204 else "", status)
    verdict = await source.ask(KEY, IP)
    assert (verdict.outcome, verdict.reason) == (
        Outcome.UNKNOWN,
        f"answered {status}",
    )


async def test_a_huge_body_is_not_read(hook, source):
    """Of 10 MiB, 4 KiB are read; then the connection is cut."""
    sent = 0

    async def flood():
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(hook.request)
        with contextlib.suppress(ConnectionError):
            for _ in range(160):
                await response.write(b" " * 65_536)
                sent += 65_536
        return response

    hook.answer = flood
    assert (await source.ask(KEY, IP)).outcome is Outcome.UNKNOWN
    await source.close()
    assert sent < 10 << 20


def redirects(hook, location, status=307):
    """Redirect the first request, allow the second."""

    def answer():
        if len(hook.requests) == 1:
            return web.Response(status=status, headers={"Location": location})
        return web.Response(text='{"Allow":true}')

    return answer


@pytest.mark.parametrize("location", ["/other", "{origin}/other"])
@pytest.mark.parametrize("status", [307, 308])
async def test_redirect_on_the_same_host(hook, source, location, status):
    """The question is put again, body and all."""
    location = location.format(origin=hook.origin)
    hook.answer = redirects(hook, location, status)
    assert (await source.ask(KEY, IP)).allowed
    assert [request[1] for request in hook.requests] == ["/verify", "/other"]
    assert [request[3] for request in hook.requests] == [BODY, BODY]


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/verify",
        "http://192.0.2.1/verify",
        "//192.0.2.1/verify",
        "ftp://127.0.0.1/verify",
        "file:///etc/passwd",
    ],
)
async def test_redirect_elsewhere(hook, source, location):
    """We ask whom the operator named, and nobody else."""
    location = location.format(port=hook.origin.rpartition(":")[2])
    hook.answer = redirects(hook, location)
    verdict = await source.ask(KEY, IP)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason == "answered 307, a redirect elsewhere"
    assert len(hook.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_redirect_that_drops_the_question(hook, source, status):
    """These turn a POST into a GET: what that answers is no answer to us."""
    hook.answer = redirects(hook, "/other", status)
    assert (await source.ask(KEY, IP)).outcome is Outcome.UNKNOWN
    assert len(hook.requests) == 1


async def test_redirect_in_circles(hook, source):
    """Three times, then no more."""
    hook.answer = lambda: web.Response(status=307, headers={"Location": "/again"})
    verdict = await source.ask(KEY, IP)
    assert verdict.reason == "more than 3 redirects"
    assert len(hook.requests) == 4


async def test_https_is_not_left():
    """A redirect to plain HTTP would show the keys to the path between."""
    old, new = "https://hook.example/a", "http://hook.example/b"
    assert not url_module._is_same_host(
        url_module.yarl.URL(old), url_module.yarl.URL(new)
    )
    assert url_module._is_same_host(url_module.yarl.URL(new), url_module.yarl.URL(old))


async def test_down():
    """Nobody listens: the reason says so."""
    source = Url("http://127.0.0.1:9/verify")
    verdict = await source.ask(KEY, IP)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.startswith(
        "cannot be asked: Cannot connect to host 127.0.0.1"
    )
    await source.close()


@pytest.fixture
async def raw():
    """Serve raw bytes; make a source that asks there."""
    made = []

    async def serve(*connections: list[bytes]) -> Url:
        """Give each connection its replies; it is closed at the request after."""
        left = list(connections)

        async def answer(reader, writer):
            for reply in [*(left.pop(0) if left else []), b""]:
                await reader.readuntil(b"}")
                writer.write(reply)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        source = Url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        made.append((source, server))
        return source

    yield serve
    for source, server in made:
        await source.close()
        server.close()
        await server.wait_closed()


YES = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"Allow":true}'


async def test_an_idle_connection_that_was_closed(raw):
    """The hook may close it whenever it likes; the question is put once more."""
    source = await raw([YES], [YES])
    assert (await source.ask(KEY, IP)).allowed
    assert (await source.ask(KEY, IP)).allowed


async def test_closed_without_an_answer(raw):
    """Twice is no accident."""
    source = await raw()
    verdict = await source.ask(KEY, IP)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason == "cannot be asked: Server disconnected"


async def test_not_http(raw):
    """Something else listens there."""
    source = await raw([b"SSH-2.0-OpenSSH\x1b[31m\r\n\r\n"])
    verdict = await source.ask(KEY, IP)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 200


async def test_cancelled(hook, source):
    """Whoever asked may go away at any time; the source can be asked again."""
    hook.answer = lambda: asyncio.sleep(30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(source.ask(KEY, IP), timeout=0.05)
    hook.answer = says('{"Allow":true}')
    assert (await source.ask(KEY, IP)).allowed


def test_secrets_are_not_in_the_name():
    """The name goes into logs and metrics: origin only."""
    source = Url("https://user:pass@hook.example:8443/token?secret=1")
    assert source.name == "url:https://hook.example:8443"


@pytest.mark.parametrize("url", ["https://", "http://[::1", "http://a:99999/"])
def test_not_a_url(url):
    """Refused at the start, without showing what may hold a secret."""
    with pytest.raises(ConfigError) as caught:
        Url(url)
    assert str(caught.value) == (
        "admission.urls = '…': not a URL; write https://HOST/PATH"
    )


async def test_closed_and_asked_again(hook, source):
    """Closing frees the connections; it is no end."""
    hook.answer = says('{"Allow":true}')
    await source.ask(KEY, IP)
    await source.close()
    await source.close()
    assert (await source.ask(KEY, IP)).allowed
