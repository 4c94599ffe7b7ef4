"""What a node tells the service manager that started it, over a real socket."""

import asyncio
import os
import socket
from datetime import UTC, datetime

import pytest

from derpnode.kinds import Kind
from derpnode.server.journal import Journal
from derpnode.server.servicemanager import ServiceManager
from tests.node.server.adminnode import node_config, running


class Systemd:
    """The end of the socket that a service manager has."""

    def __init__(self, name):
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name.replace("@", "\0"))
        self._socket.setblocking(False)

    async def heard(self):
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            return (await loop.sock_recv(self._socket, 4096)).decode().split("\n")

    def close(self):
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "file" else "@derpmesh-test"
    found = Systemd(name)
    yield found
    found.close()


async def test_a_node_from_start_to_stop(systemd, tmp_path):
    """Ready once it has proved itself; then each change, and the end."""
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name}, patience=25.0)
    async with running(node_config(tmp_path / "state"), manager) as node:
        assert (await systemd.heard())[0].startswith("STATUS=starting: derpd ")
        assert await systemd.heard() == ["READY=1", "STATUS=serving: it takes clients"]
        node.reload()
        reloading, moment = await systemd.heard()
        assert reloading == "RELOADING=1"
        assert int(moment.removeprefix("MONOTONIC_USEC=")) > 0
        assert await systemd.heard() == ["READY=1"]
        node.drain(grace=0.1, force=True)
        assert (await systemd.heard())[0].startswith("STATUS=draining: ")
        assert (await systemd.heard())[0].startswith("STATUS=drained: ")
        node.undrain()
        assert (await systemd.heard())[0].startswith("STATUS=serving: ")
        assert (await systemd.heard())[0].startswith("STATUS=serving: ")
        node.stop()
        stopping, _, more = await systemd.heard()
    assert stopping == "STOPPING=1"
    assert more == "EXTEND_TIMEOUT_USEC=25000000"


async def test_a_node_that_starts_empty(systemd):
    """It is up, though it takes no clients, or its start would be given up."""
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    journal = Journal(lambda: datetime.now(UTC))
    journal.add(Kind.DRAINED, text="it is to take no clients")
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(manager.run(journal))
        text = "STATUS=drained: it is to take no clients"
        assert await systemd.heard() == ["READY=1", text]
        journal.close()


async def test_signs_of_life(systemd):
    """Twice in the time that is allowed, from the loop that moves packets."""
    environ = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "3000000"}
    manager = ServiceManager(environ | {"WATCHDOG_PID": str(os.getpid())})
    assert manager.interval == 1.5
    waited = []

    async def sleep(seconds):
        waited.append(seconds)
        await asyncio.sleep(0 if len(waited) < 3 else 3600)

    task = asyncio.get_running_loop().create_task(
        manager.run(Journal(lambda: datetime.now(UTC)), sleep)
    )
    assert [await systemd.heard() for _ in range(3)] == [["WATCHDOG=1"]] * 3
    assert waited == [1.5] * 3
    task.cancel()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "3000000"},
        {"NOTIFY_SOCKET": "/nowhere"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "x"},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
    ],
)
async def test_nobody_waits_for_signs(environ):
    """There is no watchdog, or it watches another process."""
    assert ServiceManager(environ).interval == 0


async def test_a_manager_that_is_away(tmp_path):
    """It is no reason not to relay."""
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    async with running(node_config(tmp_path / "state"), manager) as node:
        node.reload()
        assert node.state == "serving"
