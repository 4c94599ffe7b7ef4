"""S1 and S2: what the time of a comparison, a log or a page gives away: nothing."""

import base64
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from derpnode.server import certificates
from derpnode.wire.frames import FrameType, encode_frame
from derpnode.wire.handshake import ClientInfo, open_client_info
from derpnode.wire.keys import MeshKey, PrivateKey, parse_identity
from tests.conformance import programs
from tests.conformance.scene import (
    FAST_START,
    LOOPBACK,
    MESH_KEY,
    Place,
    free_nonce,
    http,
    new_key,
    untraced,
)
from tests.conformance.test_websocket import login as websocket_login


# S1


def mean(samples: list[int]) -> float:
    """Average the faster nine tenths: the rest is the machine's business."""
    return statistics.fmean(sorted(samples)[: len(samples) * 9 // 10])


def difference(first: Callable[[], object], second: Callable[[], object]) -> float:
    """Measure by how many nanoseconds two calls differ, over 200,000 samples."""
    took: tuple[list[int], list[int]] = ([], [])
    clock = time.perf_counter_ns
    pairs = ((first, took[0]), (second, took[1]))
    with untraced():
        for _ in range(100_000):
            for call, samples in random.sample(pairs, k=2):
                started = clock()
                call()
                samples.append(clock() - started)
    return abs(mean(took[0]) - mean(took[1]))


def test_the_mesh_key_is_compared_in_constant_time():
    """A wrong first byte takes as long as a wrong last one, to 0.1 us."""
    key = MeshKey(MESH_KEY)
    wrong_first = bytes([MESH_KEY[0] ^ 1]) + MESH_KEY[1:]
    wrong_last = MESH_KEY[:-1] + bytes([MESH_KEY[-1] ^ 1])
    differences = (
        difference(lambda: key.matches(wrong_first), lambda: key.matches(wrong_last))
        for _ in range(3)  # a busy machine may spoil one
    )
    assert any(found < 100 for found in differences)


def test_the_measure_sees_what_it_is_for():
    """A comparison that stops at the first difference is found out."""

    def naive(one: bytes, other: bytes) -> bool:
        return all(a == b for a, b in zip(one, other, strict=True))

    wrong_first = bytes([MESH_KEY[0] ^ 1]) + MESH_KEY[1:]
    wrong_last = MESH_KEY[:-1] + bytes([MESH_KEY[-1] ^ 1])
    found = difference(
        lambda: naive(MESH_KEY, wrong_first), lambda: naive(MESH_KEY, wrong_last)
    )
    assert found > 100


# S2


PASSWORD = "5ec2e7passw0rd"
TOKEN = "5ec2e7t0ken5ec2e7t0ken5ec2e7t0ken"
OTHERS_KEY = bytes.fromhex("5ec2" * 16)  # a mesh key that somebody tries


def forms(secret: bytes) -> Iterator[str]:
    """Write a secret in all the ways in which it could get out."""
    yield secret.hex()
    yield secret.hex().upper()
    yield base64.b64encode(secret).decode().rstrip("=")
    yield base64.urlsafe_b64encode(secret).decode().rstrip("=")
    yield repr(secret)[2:-1]


def secrets(folder: Path) -> dict[str, str]:
    """Name every text that must not get out of a node."""
    identity = parse_identity((folder / "derper.key").read_text())
    tls_key = certificates.self_signed_files(folder, LOOPBACK).key.read_text()
    named = {
        "node key": bytes(identity._secret),
        "mesh key": MESH_KEY,
        "another mesh key": OTHERS_KEY,
    }
    found = {
        f"{name} ({number})": form
        for name, secret in named.items()
        for number, form in enumerate(forms(secret))
    }
    lines = [line for line in tls_key.splitlines() if "-----" not in line]
    found |= {f"TLS key, line {number}": line for number, line in enumerate(lines)}
    return found | {"token": TOKEN, "password of a URL": PASSWORD}


def leaked(text: str, found: dict[str, str]) -> list[str]:
    """Name the secrets that are in a text."""
    return [name for name, secret in found.items() if secret in text]


async def everything(place: Place) -> None:
    """Do all that a client can do, right and wrong."""
    assert not await place.accepts(ClientInfo())  # the admission URL is down
    assert not await place.accepts(ClientInfo(OTHERS_KEY))
    assert not await place.accepts(b'{"meshKey":"%s0"}' % MESH_KEY.hex().encode())
    assert not await place.accepts(
        json.dumps({"meshKey": MESH_KEY.hex(), "AppName": "\n"}).encode()
    )
    peer = await place.login(mesh=True)
    await peer.watch()
    await peer.say(encode_frame(FrameType.PING, b""))
    await peer.rest()
    again = place.client_info(new_key(), ClientInfo(MESH_KEY), free_nonce())
    for _ in range(2):
        visitor = await place.upgraded(FAST_START)
        await visitor.say(again)
    socket = await websocket_login(place, ClientInfo(MESH_KEY))
    await socket.frames(encode_frame(FrameType.PING, b""))
    await socket.close_code()
    await place.ask(http("GET", f"/?key={PASSWORD}"))
    await place.ask(b"get / HTTP/1.1\r\n\r\n")
    plain = await place.dial_plain(place.derp_port)
    await plain.say(b"\x16\x03\x01\x00\x05nonsense")
    await plain.rest()


PAGES = ("/livez", "/readyz", "/metrics", "/debug/varz", "/debug/clients/?format=json")


async def shown(folder: Path, pages: tuple[str, ...]) -> str:
    """Read pages of the admin listener; what is not there says so."""
    connector = aiohttp.UnixConnector(str(folder / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        texts = []
        for page in pages:
            async with session.get(f"http://admin{page}") as answer:
                texts.append(await answer.text())
        return "\n".join(texts)


@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_secret_gets_out(tmp_path, form):
    """Not into the log at its most talkative, nor the command line, nor any page."""
    config = tmp_path / "derpd.yaml"
    url = f"http://user:{PASSWORD}@{LOOPBACK}:1/{PASSWORD}?token={PASSWORD}"
    config.write_text(json.dumps({"admission": {"urls": [url]}}))
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    more = (
        *("admission.mode=any", "admission.timeout=0.5", f"log.format={form}"),
        *("log.level=debug", f"admin.token_file={tmp_path}/token"),
    )
    with programs.derpd(tmp_path, *more, config=config) as (process, place):
        await everything(place)
        proc = Path(f"/proc/{process.pid}")
        command = (proc / "cmdline").read_text() + (proc / "environ").read_text()
        status = await shown(
            tmp_path, ("/v1/status", "/v1/node", "/v1/clients", "/v1/events")
        )
        pages = await shown(tmp_path, PAGES) + status
        await place.close()
    log = (tmp_path / "derpd.log").read_text()
    assert len(log.splitlines()) > 10
    assert "derp_accepts" in pages
    assert "closing" in log
    for text in (log, command, pages):
        assert leaked(text, secrets(tmp_path)) == []


def test_the_search_finds_secrets(tmp_path):
    """In each form."""
    PrivateKey.from_seed(bytes(32))
    (tmp_path / "derper.key").write_text(json.dumps({"PrivateKey": new_key().text()}))
    certificates.self_signed(tmp_path, LOOPBACK, datetime.now(UTC))
    found = secrets(tmp_path)
    assert len(found) > 15
    assert leaked(f"so: {MESH_KEY.hex()}", found) == ["mesh key (0)"]
    assert all(leaked(f"({secret})", found) for secret in found.values())


def test_nothing_with_a_secret_shows_it(tmp_path):
    """`repr` and `str` of whatever holds one."""
    server, private = new_key(), new_key()
    sealed = private.seal(server.public, _json_info(), os.urandom(24))
    certificates.self_signed(tmp_path, LOOPBACK, datetime.now(UTC))
    files = certificates.self_signed_files(tmp_path, LOOPBACK)
    identity = files.load(datetime.now(UTC))
    holders = [
        private,
        MeshKey(MESH_KEY),
        ClientInfo(MESH_KEY),
        open_client_info(private.public + sealed, server),
        identity,
        identity.server_tls(b""),
    ]
    secret = [*forms(MESH_KEY), *forms(bytes(private._secret)), "PRIVATE KEY"]
    for holder, write in itertools.product(holders, (repr, str)):
        assert not [form for form in secret if form in write(holder)]


def _json_info() -> bytes:
    return json.dumps({"meshKey": MESH_KEY.hex()}).encode()
