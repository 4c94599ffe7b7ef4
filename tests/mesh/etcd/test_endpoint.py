"""One endpoint: what is sent, and every way in which an answer may fail."""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import aclosing

import pytest

from derpmesh.etcd.endpoint import Endpoint
from derpmesh.etcd.errors import (
    Ambiguous,
    NotSent,
    Refused,
    TokenRefused,
    WatchEnded,
)
from tests.mesh.etcd.scripted import (
    Answer,
    Reset,
    ScriptedEtcd,
    Silence,
    Stream,
    begun,
    header,
    refusal,
)
from tests.support.etcd import free_ports


@pytest.fixture
async def endpoint(script: ScriptedEtcd):
    """Give an endpoint at the scripted server."""
    found = Endpoint(script.url, max_size=1000)
    yield found
    await found.close()


async def call(endpoint: Endpoint, within: float = 5.0):
    """Ask for something."""
    return await endpoint.call("/kv/range", {"key": b"\xff"}, within=within)


async def follow(endpoint: Endpoint, count: int = 100, within: float = 5.0) -> list:
    """Take documents of a watch."""
    found: list[object] = []
    payload = {"create_request": {"key": b"a"}}
    stream = endpoint.stream("/watch", payload, within=within)
    async with aclosing(stream) as documents:
        async for document in documents:
            found.append(document)
            if len(found) == count:
                break
    return found


async def test_request(script, endpoint):
    """Bytes go as base64, and the token in a header."""
    script.plays("/kv/put", header(1))
    payload = {"key": b"\xff", "value": b"", "lease": 2**62}
    await endpoint.call("/kv/put", payload, token="t.1", within=5)
    assert script.asked == [("/kv/put", {"key": "/w==", "lease": 2**62})]
    assert script.headers[0]["authorization"] == "t.1"


async def test_stream_ends_where_there_is_no_leader(script, endpoint):
    """A member that is cut off would keep it open, and silent."""
    script.plays("/watch", Stream([begun()]))
    await follow(endpoint, 1)
    assert script.headers[0]["grpc-metadata-hasleader"] == "true"
    assert "authorization" not in script.headers[0]


async def test_nothing_listens():
    """Nothing was done."""
    endpoint = Endpoint(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(NotSent, match="connection refused"):
        await call(endpoint)
    with pytest.raises(NotSent):
        await follow(endpoint)
    await endpoint.close()


async def test_name_that_nobody_has():
    """Nothing was done."""
    endpoint = Endpoint("http://nobody.invalid:2379")
    with pytest.raises(NotSent):
        await call(endpoint, 20)
    await endpoint.close()


@pytest.mark.parametrize(
    ("scene", "kind", "said"),
    [
        (Reset, Ambiguous, ""),
        (Answer(b"<html>"), Ambiguous, "garbage for an answer"),
        (Answer(b'{"kvs":'), Ambiguous, "garbage for an answer"),
        (Answer(b"[]"), Ambiguous, "garbage for an answer"),
        (Answer(b""), Ambiguous, "garbage for an answer"),
        (Answer(b'{"a":"' + b"x" * 1000 + b'"}'), Ambiguous, "limit is 1000"),
        (Answer(b"", 302), Ambiguous, "HTTP status 302"),
        (Answer(b"404 page not found\n", 404), Ambiguous, "enable-grpc-gateway"),
        (Answer(b"<h1>Bad Gateway</h1>", 502), Ambiguous, "Bad Gateway"),
        (refusal(14, "etcdserver: no leader", 503), Ambiguous, "no leader"),
        (refusal(7, "permission denied", 403), Refused, "permission denied"),
        (refusal(16, "invalid auth token", 401), TokenRefused, "invalid auth token"),
        (
            Answer(b'{"error":{"grpc_code":5,"message":"lease not found"}}'),
            Refused,
            "lease not found",
        ),
    ],
)
async def test_failed_answers(script, endpoint, scene, kind, said):
    """Each is of one kind, for a call and for a stream, and says why."""
    script.plays("/kv/range", scene)
    with pytest.raises(kind) as caught:
        await call(endpoint)
    assert said in str(caught.value)
    if isinstance(scene, Answer) and scene.status == 200:
        return  # what makes up a stream is judged piece by piece
    script.plays("/watch", scene)
    with pytest.raises(kind):
        await follow(endpoint)


async def test_redirect_is_not_followed(script, endpoint):
    """A stranger must not be told what etcd was asked, nor the token."""
    script.plays("/kv/range", Answer(b"", 307))
    with pytest.raises(Ambiguous):
        await call(endpoint)
    assert script.methods == ["/kv/range"]


async def test_silence(script, endpoint):
    """It ends when the caller says; whether it was done is not known."""
    script.plays("/kv/range", Silence)
    script.plays("/watch", Silence)
    began = time.monotonic()
    with pytest.raises(Ambiguous, match=r"no answer in 0\.2 s"):
        await call(endpoint, 0.2)
    with pytest.raises(Ambiguous, match=r"no answer in 0\.2 s"):
        await follow(endpoint, within=0.2)
    assert time.monotonic() - began < 10


async def test_stream_that_begins_with_silence(script, endpoint):
    """Headers alone are no sign of life."""
    script.plays("/watch", Stream([b"\n"], stays=True))
    with pytest.raises(Ambiguous, match="no first document"):
        await follow(endpoint, within=0.2)


async def test_stream_byte_by_byte(script, endpoint):
    """Its documents come out whole."""
    stream = begun(5) + b"\n\n" + begun(6).rstrip() + begun(7)
    script.plays("/watch", Stream([bytes([byte]) for byte in stream]))
    found = await follow(endpoint, 3)
    assert [one["result"]["header"]["revision"] for one in found] == [5, 6, 7]


@pytest.mark.parametrize(
    ("pieces", "kind", "said"),
    [
        ([], WatchEnded, "the stream ended"),
        ([begun()], WatchEnded, "the stream ended"),
        ([begun(), b'{"result":'], WatchEnded, "the stream ended"),
        ([begun(), b"oops"], WatchEnded, "garbage in the stream: no JSON object"),
        ([begun(), b'{"key":"?"}'], WatchEnded, "garbage in the stream"),
        ([begun(), b"{" * 1001], WatchEnded, "limit is 1000"),
        (
            [begun(), b'{"error":{"grpc_code":14,"message":"no leader"}}'],
            Ambiguous,
            "no leader",
        ),
        (
            [b'{"error":{"code":7,"message":"permission denied"}}'],
            Refused,
            "permission denied",
        ),
    ],
)
async def test_streams_that_break_off(script, endpoint, pieces, kind, said):
    """However they do."""
    script.plays("/watch", Stream(pieces))
    with pytest.raises(kind) as caught:
        await follow(endpoint)
    assert said in str(caught.value)


async def test_hang_up(script, endpoint):
    """Whoever reads a stream is told that it is over."""
    script.plays("/watch", Stream([begun()], stays=True))
    payload = {"create_request": {"key": b"a"}}
    async with aclosing(endpoint.stream("/watch", payload, within=5)) as documents:
        await anext(documents)
        asyncio.get_running_loop().call_later(0.05, endpoint.hang_up)
        with pytest.raises(WatchEnded):
            await anext(documents)


async def test_close_and_go_on(script, endpoint):
    """It connects again when it is asked again."""
    script.plays("/kv/range", header(1))
    await call(endpoint)
    await endpoint.close()
    await endpoint.close()
    await call(endpoint)


async def test_environment_names_no_proxy(script, endpoint, monkeypatch):
    """What is meant for the web is not meant for etcd."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    script.plays("/kv/range", header(1))
    await call(endpoint)


def load(path: str, tmp_path) -> str:
    """Load the transport where Python finds a module in a folder first."""
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {path}\n"
        "from derpmesh.etcd.endpoint import load_transport\n"
        "from derpmesh.etcd.errors import ClientMissing\n"
        "try: load_transport()\n"
        "except ClientMissing as exc: print(exc)\n"
    )
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def test_etcd3_is_missing(tmp_path):
    """The remedy is told."""
    assert load("sys.modules['etcd3'] = None", tmp_path).endswith(
        "run: pip install etcd3-py==0.1.6"
    )


@pytest.mark.parametrize(
    "module",
    [
        "client = Etcd3Client = None",  # PyPI's etcd3, where it can be imported
        "raise TypeError('Descriptors cannot be created directly.\\n' + 'x' * 999)",
        "import grpc_that_is_not_there",
    ],
)
def test_other_package_of_that_name(tmp_path, module):
    """PyPI's etcd3 puts its module over that of etcd3-py."""
    (tmp_path / "etcd3.py").write_text(f"{module}\n")
    said = load("", tmp_path)
    assert said.startswith("the Python module etcd3 is not that of etcd3-py: ")
    assert len(said.splitlines()) == 1
    assert said.endswith(
        "run: pip uninstall etcd3 etcd3-py; pip install etcd3-py==0.1.6"
    )


async def test_garbage_is_not_quoted_at_length(script, endpoint):
    """It ends in logs."""
    script.plays("/kv/range", Answer(json.dumps({"message": "x" * 900}).encode(), 400))
    with pytest.raises(Ambiguous) as caught:
        await call(endpoint)
    assert len(str(caught.value)) < 300
