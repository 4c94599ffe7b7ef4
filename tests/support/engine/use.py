"""Finds an engine or starts one; the last process that uses it stops it."""

import atexit
import fcntl
import functools
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress

from tests.support.engine import daemon, plugins
from tests.support.engine.base import base
from tests.support.engine.etcd import etcd
from tests.support.engine.home import Home
from tests.support.engine.project import project


@functools.cache
def engine() -> Mapping[str, str]:
    """Return the environment of a running engine that has the images of the tests.

    The one that `DOCKER_HOST` names or that answers by itself is used as it is; else
    one is started, and stopped when the last process that asked for it ends. Safe to
    call from several processes at once: one works, the others wait.

    Raises:
        NoEngine: There is none, and a tool to start one is missing; skip what needs it.
        EngineFailed: It was started, and did not become ready.
        DockerFailed: An image cannot be made.
    """
    home = Home.here()
    with home.alone():
        if os.environ.get("DOCKER_HOST") != home.url and _answers(os.environ):
            project(os.environ)
            return os.environ
        daemon.start(home)
        _use(home)
        environment = home.environment
        plugins.install(home, environment)
        base(home, environment)
        etcd(home, environment)
        project(environment)
    return environment


def keep() -> Mapping[str, str]:
    """Do as `engine`, and let it run on until `stop`."""
    Home.here().kept.touch()
    return engine()


def stop() -> None:
    """Stop the engine that was started here, whoever uses it; another one never."""
    home = Home.here()
    with home.alone():
        home.kept.unlink(missing_ok=True)
        daemon.stop(home)


def _answers(environment: Mapping[str, str]) -> bool:
    """Tell whether there is an engine already."""
    with suppress(FileNotFoundError):
        asked = subprocess.run(
            ["docker", "info"], env=environment, capture_output=True, check=False
        )
        return asked.returncode == 0
    return False


def _use(home: Home) -> None:
    """Hold a share of the engine until this process ends."""
    # Never closed: the kernel lets go of the lock when the process ends.
    share = os.open(home.folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(share, fcntl.LOCK_SH)
    atexit.register(_leave, home, share)


def _leave(home: Home, share: int) -> None:
    with home.alone(), suppress(BlockingIOError):
        fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not home.kept.exists():
            daemon.stop(home)
