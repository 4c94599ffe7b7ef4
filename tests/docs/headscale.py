"""The headscale that a page speaks of, started anew whenever the page configures it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from tests.docs.machine import Machine
from tests.interop.headscaled import RELEASE, headscale
from tests.support.peers import MissingTool, peer


DEBUG = "http://127.0.0.1:9191"
"""Where pages have its debug pages."""


def provide_headscale(machine: Machine) -> None:
    """Have its command on the machine, or skip; on CI there is no skipping."""
    try:
        machine.provide(peer(f"headscale-{RELEASE}").parent)
    except MissingTool as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@contextmanager
def headscale_on(machine: Machine, printed: str) -> Iterator[None]:
    """Run it by a printed configuration until the block ends."""
    derp = yaml.safe_load(machine.text(printed))["derp"]
    with headscale(machine.root / "etc/headscale", derp, os.environ) as server:
        machine.translate(DEBUG, server.debug_url)
        yield
