"""Names that are looked up and published."""

import asyncio
import socket

import pytest

from derpnode.server import bootstrap
from derpnode.server.bootstrap import REFRESH, BootstrapNames


class Stop(Exception):
    """Enough rounds were made."""


@pytest.fixture
def published(monkeypatch):
    """Look names up in a table, for two rounds; return what was published."""

    async def look(*names: str, table: dict[str, list[str] | Exception]):
        async def getaddrinfo(name, port, **options):
            found = table[name]
            if isinstance(found, Exception):
                raise found
            return [(0, 0, 0, "", (address, 0)) for address in found]

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        values: list[dict[str, list[str]]] = []
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                raise Stop

        with pytest.raises(Stop):
            await BootstrapNames(names, values.append).run(sleep)
        assert slept == [REFRESH] * 2
        assert values[0].keys() == values[1].keys()
        return values[0]

    return look


async def test_addresses(published):
    """All of them, once each, in any order."""
    table = {"a": ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1"]}
    found = await published("a", table=table)
    assert sorted(found["a"]) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


@pytest.mark.parametrize(
    "failure",
    [socket.gaierror("no such name"), TimeoutError(), UnicodeError("too long"), []],
)
async def test_a_name_that_cannot_be_looked_up(published, failure):
    """It is left out, and the others are not."""
    found = await published(
        "bad", "good", table={"bad": failure, "good": ["192.0.2.1"]}
    )
    assert found == {"good": ["192.0.2.1"]}


async def test_a_name_that_takes_too_long(published, monkeypatch, caplog):
    """It is left out, and somebody is told."""
    monkeypatch.setattr(bootstrap, "TIMEOUT", 0.01)

    async def hang(*_args, **_options):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    assert await bootstrap._look_up("slow") == []
    assert caplog.messages[0].startswith("bootstrap-dns: slow: ")


async def test_no_names():
    """There is nothing to do."""
    await BootstrapNames([], lambda _: pytest.fail("published")).run(asyncio.sleep)
