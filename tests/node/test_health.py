"""`derpd-health`: what the health check of a container says, of a real node."""

import asyncio
import sys
from pathlib import Path

import pytest

from derpnode.health import socket_path
from tests.node.server.adminnode import node_config, running


async def health(*arguments, **environ):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "derpnode.health", *map(str, arguments)),
        env={"PYTHONPATH": ":".join(sys.path)} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b""
    return process.returncode, out.decode()


async def test_a_node_that_serves(tmp_path):
    async with running(node_config(tmp_path)):
        said = await health("--socket", tmp_path / "admin.sock")
        assert said == (0, "ready\n")
        assert await health(DERPD_STATE_DIR=str(tmp_path)) == said


async def test_a_node_that_drains(tmp_path):
    """Its clients still have it: whoever restarts the sick must leave it alone."""
    async with running(node_config(tmp_path)) as node:
        node.drain(grace=60, force=True)
        code, text = await health("--socket", tmp_path / "admin.sock")
    assert (code, text) in ((0, "draining\n"), (0, "drained\n"))


@pytest.mark.parametrize("drains", [False, True])
async def test_a_node_that_cannot_relay(tmp_path, drains):
    """It fails, with the reason; if it drains, too."""
    async with running(node_config(tmp_path)) as node:
        if drains:
            node.drain(grace=60, force=True)
        node._ports.internal = ("127.0.0.1", 1)
        async with asyncio.timeout(10):
            while node.readiness.well:  # noqa: ASYNC110 - rounds come by the clock
                await asyncio.sleep(0.05)
            while node.state == "serving":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        code, text = await health("--socket", tmp_path / "admin.sock")
    assert code == 1
    assert text == (
        "an operator asked for a drain\n" if drains else f"{node.readiness.failure}\n"
    )


async def test_no_node(tmp_path):
    path = tmp_path / "admin.sock"
    said = f"{path}: No such file or directory; does derpd run?\n"
    assert await health("--socket", path) == (1, said)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/var/lib/derpd/admin.sock"),
        ({"DERPD_STATE_DIR": "/s"}, "/s/admin.sock"),
        ({"DERPD_STATE_DIR": "/s", "DERPD_ADMIN__SOCKET": "/a"}, "/a"),
    ],
)
def test_where_the_socket_is(environ, path):
    """Where the environment has derpd put it."""
    assert socket_path(environ) == Path(path)
