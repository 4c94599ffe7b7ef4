"""`derpctl demo --registry etcd`: real nodes that record themselves in a real etcd."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from derpctl.demo.etcd import own_etcd
from derpctl.errors import CtlError


pytestmark = pytest.mark.interop

DEMO = (sys.executable, "-m", "derpctl", "demo", "--registry", "etcd")


@pytest.fixture(autouse=True)
def _etcd() -> None:
    if shutil.which("etcd") is None:
        reason = "NOT RUN against real etcd: install it (apt install etcd-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def held(*words: str | Path) -> Iterator[dict]:
    """Hold a demo up; it must be gone within 5 s of SIGTERM."""
    command = [str(word) for word in (*DEMO, "--hold", "-o", "json", *words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def derpctl(document: dict, *words: str) -> dict:
    """Ask the region of a demo."""
    command = [sys.executable, "-m", "derpctl", "--config", document["derpctl_config"]]
    ended = subprocess.run(
        [*command, *words, "-o", "json"], stdout=subprocess.PIPE, text=True, check=False
    )
    return json.loads(ended.stdout)


def until(true: Callable[[], bool], within: float = 30.0) -> float:
    """Ask until it is so; give the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within
        time.sleep(0.05)
    return time.monotonic() - began


def test_proof():
    """The same proof as with a file: packets over nine pairs, and 0."""
    ended = subprocess.run(DEMO, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "derpctl: mesh: 6 of 6 links are up\n" in ended.stderr
    assert "packets compared" in ended.stdout


def test_fourth_node_joins(tmp_path: Path):
    """It is told of etcd and of nothing else; no other node restarts."""
    with held("--dir", tmp_path / "demo") as document:
        first = document["nodes"][0]
        tree = yaml.safe_load(Path(first["config"]).read_text())
        tree["node"]["name"] = "900d"
        tree["state_dir"] = str(tmp_path / "900d")
        tree["admin"] = {"listen": [], "socket": str(tmp_path / "d.sock")}
        for section in ("derp", "http", "stun"):
            tree[section]["listen"] = ["127.0.0.1:0"]
        config = tmp_path / "900d.yaml"
        config.write_text(yaml.safe_dump(tree))
        command = [sys.executable, "-m", "derpmesh.daemon", "--config", str(config)]
        with (tmp_path / "900d.log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log)

        def joined() -> bool:
            items = derpctl(document, "mesh", "links")["items"]
            return sum(i["to"] == "900d" and i["state"] == "up" for i in items) == 3

        with process:
            try:
                until((tmp_path / "d.sock").exists)
                until(joined)
            finally:
                process.terminate()
                assert process.wait(30) == 0
        assert [
            derpctl(document, "node", "show", one["name"])["state"]
            for one in document["nodes"]
        ] == ["serving"] * 3


def test_etcd_that_is_given(tmp_path: Path):
    """It is used twice; a region there that is not a demo's is left alone: 6."""
    with held("--dir", tmp_path / "one") as document:
        config = yaml.safe_load(Path(document["nodes"][0]["config"]).read_text())
        [url] = config["registry"]["etcd"]["endpoints"]
        more = ("--etcd", url, "--region", "901")
        for folder in ("two", "three"):
            with held("--dir", tmp_path / folder, *more) as other:
                assert derpctl(other, "status")["mesh"] == {"up": 6, "expected": 6}
        value = json.dumps(
            {"node": {"name": "902a", "host": "a.example"}, "author": "x"}
        )
        key = "/derpmesh/v1/regions/902/intent/902a"
        subprocess.run(
            ["etcdctl", "--endpoints", url, "put", key, value],
            env={**os.environ, "ETCDCTL_API": "3"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        command = [*DEMO, "--etcd", url, "--region", "902"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 6
    assert "902a is in it, which x wrote" in ended.stderr


async def test_no_etcd_on_this_machine(monkeypatch, tmp_path: Path):
    """It says how to get one, and what else would do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CtlError, match="--etcd URL"):
        async with own_etcd(tmp_path):
            pass


def test_etcd_that_does_not_answer():
    """Nothing is left running: 4."""
    command = [*DEMO, "--etcd", "http://127.0.0.1:9"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert "check --etcd" in ended.stderr
