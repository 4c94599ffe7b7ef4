"""`derpctl key admin generate`: what nodes take, and derpctl trusts."""

import asyncio
import json
import ssl

import pytest
import yaml

from derpctl.admin import Admin
from derpctl.config import read_token
from tests.node.server.adminnode import node_config, running


def generate(derpctl, folder, *more):
    return derpctl("key", "admin", "generate", folder, "--host", "127.0.0.1", *more)


def test_files(derpctl, tmp_path):
    """Secrets are their owner's, and a second time nothing is overwritten."""
    folder = tmp_path / "new" / "keys"
    assert generate(derpctl, folder).code == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    secret, public = 0o600, 0o644
    assert modes == {
        "token": secret,
        "admin.key": secret,
        "admin.crt": public,
        "ca.crt": public,
    }
    before = {path: path.read_bytes() for path in folder.iterdir()}
    again = generate(derpctl, folder)
    assert (again.code, again.out) == (6, "")
    assert "it is there, and nodes may use it" in again.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_half_is_not_filled_up(derpctl, tmp_path):
    """A key without its certificate is somebody's; no other is put beside it."""
    (tmp_path / "admin.key").write_text("precious")
    assert generate(derpctl, tmp_path).code == 6
    assert [path.name for path in tmp_path.iterdir()] == ["admin.key"]


def test_no_place(derpctl, tmp_path):
    (tmp_path / "file").write_text("")
    ended = generate(derpctl, tmp_path / "file" / "keys")
    assert (ended.code, ended.out) == (3, "")


@pytest.mark.parametrize("host", ["bad host", "https://a", "0.0.0.0", ""])
def test_a_host_that_is_none(derpctl, tmp_path, host):
    """A certificate for it would be refused by every client, long after this."""
    ended = generate(derpctl, tmp_path, "--host", host)
    assert (ended.code, ended.out) == (2, "")
    assert "give a DNS name, *.NAME or an IP address" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_json(derpctl, tmp_path):
    """No secret in it."""
    found = json.loads(generate(derpctl, tmp_path, "-o", "json").out)
    token = (tmp_path / "token").read_text().strip()
    assert found["files"]["token"] == str(tmp_path / "token")
    assert found["hosts"] == ["127.0.0.1"]
    assert token not in str(found)


async def test_a_node_and_derpctl(derpctl, tmp_path):
    """What is printed is a node's configuration; the files let derpctl in there."""
    keys = tmp_path / "keys"
    ended = await asyncio.to_thread(
        generate, derpctl, keys, "--host", "*.relay.internal"
    )
    section = yaml.safe_load(ended.out)["admin"]
    assert section["listen"] == [":9090"]
    config = node_config(tmp_path / "state", admin=section | {"listen": ["0.0.0.0:0"]})
    async with running(config) as node:
        port = node.listeners()["admin"][-1].rpartition(":")[2]
        url, token = f"https://127.0.0.1:{port}", read_token(keys / "token")
        view = await Admin(url, 5.0, token, keys / "ca.crt").node()
        assert view.name == "900a"
    found = ssl.create_default_context(cafile=keys / "ca.crt").get_ca_certs()
    assert found[0]["subject"][0][0] == ("commonName", "derpmesh admin CA")
