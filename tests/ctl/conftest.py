"""Runs derpctl as a function, and servers for it to talk to beside the test."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
import yaml

from derpctl.main import main


_Value = TypeVar("_Value")


class Ended(NamedTuple):
    """How a command ended: exit code, whole stdout, whole stderr."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same terminal and the same nothing in the environment, for every test."""
    for name in ("DERPCTL_CONFIG", "NO_COLOR", "FORCE_COLOR", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def derpctl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line; give how it ended."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


class Beside:
    """A loop in a thread of its own, for servers that a synchronous test talks to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._open: list[AbstractAsyncContextManager[object]] = []

    def run(self, job: Awaitable[_Value]) -> _Value:
        """Do something there; give what it gives."""

        async def wait() -> _Value:
            return await job

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(10)

    def start(self, server: AbstractAsyncContextManager[_Value]) -> _Value:
        """Start a server, until the test ends."""
        value = self.run(server.__aenter__())
        self._open.append(server)
        return value

    def close(self) -> None:
        """Stop everything."""
        for server in reversed(self._open):
            self.run(server.__aexit__(None, None, None))
        self.run(_cancel_what_is_left())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_what_is_left() -> None:
    """End requests under way, or the collector finds them in somebody else's test."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0)  # transports that were closed are gone a turn later


@pytest.fixture
def beside() -> Iterator[Beside]:
    """A place for servers."""
    found = Beside()
    yield found
    found.close()


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Path]:
    """Write derpctl's own file for nodes, `name=url`; give its path."""

    def write(region: int = 900, /, *, extra: object = None, **nodes: str) -> Path:
        path = tmp_path / "derpctl.yaml"
        tree = {
            "region": region,
            "nodes": [
                {"name": name.removeprefix("_"), "admin": url}
                for name, url in nodes.items()
            ],
        }
        path.write_text(yaml.safe_dump(tree | dict(extra or {})))
        return path

    return write
