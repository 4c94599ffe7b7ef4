"""An etcd for a demo, where none is given: one process, stopped with the rest."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from derpctl.demo.ports import ADMIN_HOST, free_ports
from derpctl.demo.processes import send
from derpctl.errors import CtlError
from derpctl.exits import Exit


_READY_WITHIN = 30.0
_POLL = 0.1
_QUESTION = 1.0
_STOP_WITHIN = 2.0  # seconds; then SIGKILL
_OK = 200


@asynccontextmanager
async def own_etcd(directory: Path) -> AsyncGenerator[str]:
    """Run an etcd on loopback until the block ends; give its URL.

    Its data is made for the occasion and goes with it; its log stays in `directory`.

    Raises:
        CtlError: There is none on this machine, or it does not come up.
    """
    binary = shutil.which("etcd")
    if binary is None:
        value, hint = (
            "--registry = etcd",
            "install etcd (apt install etcd-server), or name one with --etcd URL",
        )
        raise CtlError(value, "there is no etcd on PATH", hint, Exit.CONFIG)
    ports = free_ports(ADMIN_HOST, 1)[0]
    url, peer = (f"http://{ADMIN_HOST}:{port}" for port in (ports.derp, ports.http))
    log_file = directory / "etcd.log"
    with tempfile.TemporaryDirectory(prefix="derpctl-etcd-") as data:
        with log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(binary, "--name", "demo", "--data-dir", data),
                *("--listen-client-urls", url, "--advertise-client-urls", url),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"demo={peer}"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            await _wait_ready(process, url, log_file)
            yield url
        finally:
            await _stop(process)


async def _wait_ready(
    process: asyncio.subprocess.Process, url: str, log_file: Path
) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + _READY_WITHIN
    while not await _is_healthy(url):
        if process.returncode is not None or clock() > deadline:
            value, reason = f"etcd at {url}", "it does not come up"
            raise CtlError(value, reason, f"its log is {log_file}", Exit.CRITICAL)
        await asyncio.sleep(_POLL)


async def _is_healthy(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=_QUESTION)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/health") as answer,
        ):
            return answer.status == _OK and b"true" in await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    send(process, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_WITHIN):
            await process.wait()
    send(process, signal.SIGKILL)
    await process.wait()
