"""`derpd`: its options, its exit codes, and its signals."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from derpmesh.daemon import app
from derpnode import __version__
from derpnode.server import certificates
from derpnode.wire.frames import FrameType
from derpnode.wire.payloads import parse_health, parse_restarting
from tests.conformance import programs
from tests.conformance.scene import LOOPBACK, MESH_KEY, Place, settings, until


CONFIG = 3
"""The exit code of a configuration that cannot be used."""


@pytest.fixture(autouse=True)
def restored(monkeypatch) -> Iterator[None]:
    """Have no settings of the outside, and give the root logger back."""
    for name in os.environ:
        if name.startswith("DERPD_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    before, level = root.handlers, root.level
    yield
    root.handlers = before
    root.setLevel(level)


def derpd(*arguments: str | Path, environ: dict[str, str] | None = None) -> Result:
    """Run it in this process, where it ends by itself."""
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environ)


def sets(*overrides: str) -> list[str]:
    """Write overrides as options."""
    return [word for override in overrides for word in ("--set", override)]


def refused(result: Result) -> str:
    """Check that nothing was started; return what was said."""
    assert result.exit_code == CONFIG
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith("derpd: ") for line in lines)
    return "\n".join(line.removeprefix("derpd: ") for line in lines)


# Options.


def test_version():
    """Its name and version."""
    result = derpd("--version")
    assert (result.exit_code, result.stdout) == (0, f"derpd {__version__}\n")


def test_help():
    """It says which signals it knows."""
    result = derpd("--help")
    assert result.exit_code == 0
    assert "HUP" in result.stdout


def test_check_config(tmp_path):
    """A good one is said to be, and nothing is made."""
    path = tmp_path / "derpd.yaml"
    path.write_text(
        f"state_dir: {tmp_path}/state\n"
        "admission: {mode: open}\n"
        "derp: {listen: ['127.0.0.1:0']}\n"
    )
    result = derpd("--config", path, "--check-config")
    assert (result.exit_code, result.stdout) == (0, "configuration is valid\n")
    assert not (tmp_path / "state").exists()


def test_the_file_by_its_variable(tmp_path):
    """DERPD_CONFIG names the file; it is no key."""
    path = tmp_path / "derpd.yaml"
    path.write_text("region: {id: 0}\n")
    result = derpd("--check-config", environ={"DERPD_CONFIG": str(path)})
    assert refused(result).startswith("region.id = 0: ")


def test_print_node(tmp_path):
    """The entry for the region's file, with the pin that the node will have."""
    overrides = settings(tmp_path, "node.name=901c", "derp.listen=['127.0.0.1:4443']")
    result = derpd("--print-node", *sets(*overrides, "stun.listen=['127.0.0.1:3479']"))
    assert result.exit_code == 0
    entry = yaml.safe_load(result.stdout)
    found = entry[0] if isinstance(entry, list) else entry
    pin = certificates.self_signed(tmp_path, LOOPBACK, datetime.now(UTC)).pin
    assert (found["name"], found["derp_port"], found["pin"]) == ("901c", 4443, pin)


# S8: what cannot be used ends with 3 and the name of the key, and is never open.


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ([], "admission"),
        (sets("nodes=1"), "nodes"),
        (sets("admission.mod=open"), "admission.mod"),
        (sets("admission.mode=opn"), "admission.mode"),
        (sets("region.id=x"), "region.id"),
        (sets("region.id"), "--set"),
        (sets("admission.mode=open"), "admission.mode"),
        (sets("admission.tailscaled=[]"), "admission"),
        (sets("admission.urls=['']"), "admission.urls.0"),
        (sets("registry.fil=x"), "registry.fil"),
        (sets("registry.file=x", "admission.urls=['http://x']"), "registry.file"),
        (["--config", "/missing/derpd.yaml"], "--config"),
        (["--config", "/"], "--config"),
    ],
)
def test_what_cannot_be_used(arguments, setting):
    """Checked or started, it is the same."""
    for more in ([], ["--check-config"]):
        said = refused(derpd(*arguments, *more))
        assert re.search(rf"^{re.escape(setting)} = ", said, re.MULTILINE), said


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("DERPD_ADMISION__MODE", "admision"),
        ("DERPD_ADMISSION__MODES", "admission.modes"),
        ("DERPD_ADMISSION_MODE", "admission_mode"),
    ],
)
def test_a_typo_in_the_environment(name, key):
    """It opens nothing."""
    said = refused(derpd(environ={name: "open"}))
    assert f"{key} = '…': unknown key" in said


def files(folder: Path) -> dict[str, tuple[str, str]]:
    """Settings that name files that cannot be used, and the key to be named."""
    (folder / "exposed.key").write_text(MESH_KEY.hex())
    (folder / "exposed.key").chmod(0o644)
    (folder / "empty.key").write_text("")
    (folder / "empty.key").chmod(0o600)
    (folder / "file").write_text("not a directory")
    return {
        "missing mesh key": (f"mesh.key_file={folder}/none", "mesh.key_file"),
        "exposed mesh key": (f"mesh.key_file={folder}/exposed.key", "mesh.key_file"),
        "empty mesh key": (f"mesh.key_file={folder}/empty.key", "mesh.key_file"),
        "missing key file": (
            f"admission={{mode: any, key_file: {folder}/none}}",
            "admission.key_file",
        ),
        "state in a file": (f"state_dir={folder}/file/x", "state_dir"),
        "missing certificate": (
            f"tls={{certificate: {folder}/none, key: {folder}/none}}",
            "tls.key",
        ),
    }


CASES = (
    "missing mesh key",
    "exposed mesh key",
    "empty mesh key",
    "missing key file",
    "state in a file",
    "missing certificate",
)


@pytest.mark.parametrize("case", CASES)
def test_files_that_cannot_be_used(tmp_path, case):
    """They are looked at before anything listens."""
    override, setting = files(tmp_path)[case]
    said = refused(derpd(*sets(*settings(tmp_path), override)))
    assert said.startswith(f"{setting} = ")
    assert MESH_KEY.hex() not in said


@pytest.mark.parametrize("kind", ["derp", "http", "stun", "admin"])
def test_a_port_in_use(tmp_path, kind):
    """One line, that names the key and the address."""
    family = socket.SOCK_DGRAM if kind == "stun" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, family) as taken:
        taken.bind((LOOPBACK, 0))
        if kind != "stun":
            taken.listen()
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        more = settings(tmp_path, f"{kind}.listen=['{address}']", "log.level=error")
        said = refused(derpd(*sets(*more)))
    (line,) = said.splitlines()
    assert line.startswith(f"{kind}.listen = ")
    assert address in line
    assert "in use" in line


# Signals.


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *more: str
) -> AsyncIterator[tuple[subprocess.Popen[bytes], Place]]:
    """Run it as a process."""
    with programs.derpd(folder, *more) as (process, place):
        yield process, place
        await place.close()


async def ended(process: subprocess.Popen[bytes], within: float) -> int:
    """Wait for the end; return the exit code."""
    await until(lambda: process.poll() is not None, within)
    assert process.returncode is not None
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_orderly_end(tmp_path, number):
    """TCP is refused, clients are told and closed, and the exit code is 0."""
    async with serving(tmp_path, "drain_grace=8") as (process, place):
        clients = [await place.login() for _ in range(3)]
        process.send_signal(number)
        for client in clients:
            health = parse_health(await client.until(FrameType.HEALTH))
            assert health == "this relay is restarting"
            restarting = await client.until(FrameType.RESTARTING)
            assert parse_restarting(restarting) == (0, 8)
            assert await client.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await place.dial_plain(place.derp_port)
        assert await ended(process, 8) == 0
    log = (tmp_path / "derpd.log").read_text()
    assert '"message": "node 900a: stopped"' in log
    assert "Traceback" not in log


async def test_twice_is_at_once(tmp_path):
    """M10: whatever the grace period."""
    async with serving(tmp_path, "drain_grace=600") as (process, place):
        clients = [await place.login() for _ in range(60)]
        for client in clients:
            await client.send(client, b"traffic")
        process.send_signal(signal.SIGTERM)
        await clients[0].until(FrameType.HEALTH)
        process.send_signal(signal.SIGTERM)
        assert await ended(process, 5) == 0


async def test_a_reload(tmp_path):
    """SIGHUP reads the certificate again: handshakes prove it, nobody is cut off."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        certificates.self_signed(tmp_path / name, LOOPBACK, datetime.now(UTC))
    old = certificates.self_signed_files(tmp_path / "old", LOOPBACK)
    new = certificates.self_signed_files(tmp_path / "new", LOOPBACK)
    tls = (f"tls.certificate={old.certificate}", f"tls.key={old.key}")

    async def shown(place: Place) -> bytes:
        peer = await place.dial()
        return peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async with serving(tmp_path, *tls) as (process, place):
        client, before = await place.login(), await shown(place)
        new.key.replace(old.key)
        new.certificate.replace(old.certificate)
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(5):
            while await shown(place) == before:
                pass
        assert await client.sync() == []


async def test_a_reload_of_nonsense(tmp_path):
    """The certificate in use stays, and the log says so."""
    async with serving(tmp_path) as (process, place):
        files = certificates.self_signed_files(tmp_path, LOOPBACK)
        files.certificate.write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        log = tmp_path / "derpd.log"
        await until(lambda: "the one in use stays" in log.read_text())
        await place.login()
