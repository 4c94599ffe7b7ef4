"""Where the admin listener listens, and what it finds there."""

import os
import socket
import stat

import pytest

from derpnode.errors import ConfigError
from derpnode.server.admin import AdminServer
from tests.node.server.adminnode import (
    built,
    node_config,
    refused,
    running,
    serving,
    status_of,
)


async def test_addresses(tmp_path):
    """The Unix socket first, then TCP as configured, with the ports in use."""
    admin = {"listen": ["127.0.0.1:0", "[::1]:0"]}
    async with serving(node_config(tmp_path, admin=admin)) as server:
        unix, tcp4, tcp6 = server.addresses
        assert unix == f"unix:{tmp_path / 'admin.sock'}"
        assert tcp4.startswith("http://127.0.0.1:")
        assert tcp6.startswith("http://[::1]:")
        assert not tcp4.endswith(":0")
        assert await status_of(tcp6, "/livez") == 200


async def test_no_tcp_at_all(tmp_path):
    """An empty list leaves the Unix socket alone."""
    async with serving(node_config(tmp_path, admin={"listen": []})) as server:
        assert server.addresses == [f"unix:{tmp_path / 'admin.sock'}"]


async def test_socket_file(tmp_path):
    """Its mode is 0660 whatever the umask; it goes away with the listener."""
    path = tmp_path / "elsewhere.sock"
    before = os.umask(0)
    try:
        async with serving(node_config(tmp_path, admin={"socket": path})):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)
    assert not path.exists()


async def test_stale_socket(tmp_path):
    """What a dead process left is replaced."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(node_config(tmp_path)) as server:
        assert await status_of(server.addresses[1], "/livez") == 200


async def test_live_socket(tmp_path):
    """Another node with the same state directory is not pushed aside."""
    config = node_config(tmp_path)
    async with serving(config) as server:
        error = await refused(config)
        assert await status_of(server.addresses[1], "/livez") == 200
        assert (tmp_path / "admin.sock").exists()
    assert (error.setting, error.reason) == (
        "admin.socket",
        "another process answers there",
    )


async def test_crowded_socket(tmp_path):
    """One whose backlog is full is alive, too."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as other:
        live.bind(str(path))
        live.listen(0)
        other.connect(str(path))
        error = await refused(node_config(tmp_path))
    assert error.reason.startswith("is in use: ")


async def test_not_a_socket(tmp_path):
    """A file of somebody's is not removed."""
    (tmp_path / "admin.sock").write_text("precious")
    error = await refused(node_config(tmp_path))
    assert error.reason == "is there, and is no socket"
    assert (tmp_path / "admin.sock").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/admin.sock", "cannot listen: No such file or directory"),
        ("x" * 120, "cannot listen: AF_UNIX path too long"),
    ],
)
async def test_socket_that_cannot_be(tmp_path, name, reason):
    """Where the system says no, its reason is given."""
    error = await refused(node_config(tmp_path, admin={"socket": tmp_path / name}))
    assert (error.setting, error.reason) == ("admin.socket", reason)


async def test_port_in_use(tmp_path):
    """Nothing stays open, the Unix socket included."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        error = await refused(node_config(tmp_path, admin={"listen": [taken]}))
    assert (error.setting, error.value) == ("admin.listen", taken)
    assert error.reason == "cannot listen: Address already in use"
    assert error.hint == "stop the other server, or choose another port"
    assert not (tmp_path / "admin.sock").exists()


async def test_close_is_safe(tmp_path):
    """Before the start, and twice; a socket that took our place is left alone."""
    path = tmp_path / "admin.sock"
    async with built(node_config(tmp_path)) as node:
        server = AdminServer(node)
        await server.close()
        await server.start()
        path.unlink()
        path.write_text("somebody else's")
        await server.close()
        await server.close()
    assert path.exists()


async def test_node_refuses_to_start(tmp_path):
    """The node as a whole says what is wrong, and leaves nothing behind."""
    (tmp_path / "admin.sock").mkdir(parents=True)
    with pytest.raises(ExceptionGroup) as caught:
        async with running(node_config(tmp_path)):
            pass
    assert caught.group_contains(ConfigError, match=r"admin\.socket")
    assert (tmp_path / "admin.sock").is_dir()
