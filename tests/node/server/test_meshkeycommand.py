"""`POST /v1/mesh-key`: a rotation over the admin listener, and bodies that are none."""

import asyncio
import json
import logging

import pytest

from derpnode.server import adminbody
from derpnode.server.adminbody import MAX_BODY
from derpnode.wire.keys import MeshKey
from derpnode.wire.meshring import MeshRing
from tests.node.server.adminnode import admin_client, node_config, running


OLD, NEW, OTHER = (MeshKey(bytes([number]) * 32) for number in (0xA1, 0xB2, 0xC3))
PATH = "/v1/mesh-key"


@pytest.fixture
async def node(tmp_path):
    """A node with a mesh key."""
    file = tmp_path / "mesh.key"
    file.write_text(OLD.text())
    file.chmod(0o600)
    config = node_config(tmp_path, mesh={"key_file": str(file)})
    async with running(config) as found:
        yield found


@pytest.fixture
async def http(node):
    """A client of its admin address."""
    async with admin_client(node) as found:
        yield found


async def post(http, **body: object) -> tuple[int, object]:
    """Command a step."""
    async with http.post(PATH, json=body) as answer:
        if answer.content_type == "application/json":
            return answer.status, await answer.json()
        return answer.status, (await answer.text()).strip()


async def test_a_rotation(node, http, caplog):
    """Each step answers with the keys as they are now; `/v1/node` says the same."""
    caplog.set_level(logging.DEBUG)
    rings = {
        "stage": MeshRing(OLD, next=NEW),
        "switch": MeshRing(NEW, previous=OLD),
        "retire": MeshRing(NEW),
    }
    for phase, ring in rings.items():
        key = {"key": NEW.text()} if phase == "stage" else {}
        for _ in range(2):
            found = await post(http, phase=phase, **key)
            document = {"name": node.config.node.name, "mesh_keys": ring.fingerprints()}
            assert found == (200, document)
        async with http.get("/v1/node") as answer:
            assert (await answer.json())["mesh_keys"] == ring.fingerprints()
    for key in (OLD, NEW):
        assert key.text() not in caplog.text


async def test_the_way_back(node, http):
    """From the new key to the old one; each step may be asked for again."""
    await post(http, phase="stage", key=NEW.text())
    await post(http, phase="switch")
    assert (await post(http, phase="abort"))[0] == 409
    for phase, ring in (("back", MeshRing(OLD, NEW)), ("abort", MeshRing(OLD))):
        for _ in range(2):
            assert (await post(http, phase=phase))[0] == 200
            assert node.mesh_keys.ring == ring


async def test_refusals(http):
    """Steps out of order are conflicts, and the remedy is in the answer."""
    status, text = await post(http, phase="switch")
    assert status == 409
    assert text.endswith("there is no next key; stage one: `derpctl key mesh rotate`")
    await post(http, phase="stage", key=NEW.text())
    status, text = await post(http, phase="stage", key=OTHER.text())
    assert (status, OTHER.text() in text) == (409, False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * MAX_BODY,
        b"[]",
        b'"stage"',
        b"{}",
        b'{"phase": []}',
        b'{"phase": "start"}',
        b'{"phase": "stage"}',
        b'{"phase": "switch", "key": "SECRET"}',
        b'{"phase": "retire", "force": true}',
        b'{"phase": "stage", "key": "SECRET"}',
        b'{"phase": "stage", "key": null}',
        b'{"phase": "stage", "key": ["SECRET"]}',
        b'{"phase": "stage", "key": "%s"}' % (b"0" * 64),
    ],
)
async def test_bad_bodies(node, http, caplog, body):
    """Are refused in words of ours, and nothing changes."""
    async with http.post(PATH, data=body) as answer:
        assert answer.status == 400
        text = await answer.text()
    assert "SECRET" not in text + caplog.text
    assert node.mesh_keys.ring == MeshRing(OLD)


@pytest.mark.parametrize("size", [MAX_BODY + 1, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_long(http, size, chunked):
    """With its length told before or not; the limit itself is taken, and is no JSON."""

    async def parts():
        for _ in range(0, size, 1 << 12):
            yield b" " * (1 << 12)
        yield b" "

    async with http.post(PATH, data=parts() if chunked else b" " * size) as answer:
        assert answer.status == 413
        assert "4096 bytes is the limit" in await answer.text()
    async with http.post(PATH, data=b" " * MAX_BODY) as answer:
        assert answer.status == 400


async def test_a_body_that_never_comes(node, monkeypatch, caplog):
    """Is not waited for; nor is one whose sender is gone."""
    monkeypatch.setattr(adminbody, "PATIENCE", 0.2)
    address = node.listeners()["admin"][1].removeprefix("http://")
    host, _, port = address.rpartition(":")
    head = f"POST {PATH} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n"
    for patient in (True, False):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"{")
        await writer.drain()
        if patient:
            async with asyncio.timeout(10):
                assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    async with admin_client(node) as http, http.get("/livez") as answer:
        assert answer.status == 200
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_a_body_in_bad_chunks(node, caplog):
    """Is refused as HTTP is that cannot be read."""
    address = node.listeners()["admin"][1].removeprefix("http://")
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {PATH} HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n"
    writer.write(head.encode() + b"\r\n2\r\n{}\r\n")
    await writer.drain()
    writer.write(b"zz\r\n")
    async with asyncio.timeout(10):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_who_may(node, http):
    """No page in a browser, no GET; and off loopback whoever has the token."""
    async with http.post(PATH, headers={"Origin": "http://127.0.0.1"}) as answer:
        assert answer.status == 403
    async with http.get(PATH) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    async with http.post(PATH, headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
    assert node.mesh_keys.ring == MeshRing(OLD)


async def test_a_node_without_a_mesh_key(tmp_path):
    """Says so."""
    async with running(node_config(tmp_path)) as node, admin_client(node) as http:
        status, text = await post(http, phase="stage", key=NEW.text())
        assert (status, "this node has no mesh key" in str(text)) == (409, True)
        async with http.get("/v1/node") as answer:
            assert json.loads(await answer.text())["mesh_keys"] is None


async def test_reload(node, tmp_path):
    """As SIGHUP does it: the files are read at once."""
    changed = asyncio.Event()
    node.mesh_keys.changed = changed.set
    file = tmp_path / "mesh.key.next"
    file.write_text(NEW.text())
    file.chmod(0o600)
    node.reload()
    async with asyncio.timeout(10):
        await changed.wait()
    assert node.mesh_keys.ring == MeshRing(OLD, next=NEW)
    assert node.logins._is_mesh_key(NEW.secret)
