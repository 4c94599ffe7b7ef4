"""Pages whose commands can be run are walked from top to bottom."""

import contextlib
import shutil

import pytest

from tests.docs.blocks import blocks, blocks_of, whole
from tests.docs.etcd import etcd_on
from tests.docs.headscale import headscale_on, provide_headscale
from tests.interop.region import free_ports
from tests.support.docs import ROOT


PAGES = list(
    dict.fromkeys(block.page for block in blocks("sh test", "sh node", "sh etcd"))
)
WITH_ETCD = {block.page for block in blocks("sh etcd")}
WITH_HEADSCALE = {block.page for block in blocks("sh headscale")}

TOOLS = ("curl", "openssl")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=[pytest.mark.interop] if page in WITH_ETCD | WITH_HEADSCALE else [],
            id=str(page.relative_to(ROOT)),
        )
        for page in PAGES
    ],
)
def test_commands_succeed(page, machine):
    """What the page configures, starts and runs, in its order, works."""
    for tool in [*TOOLS, *(("etcd", "etcdctl") if page in WITH_ETCD else ())]:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH; install it")
    if page in WITH_HEADSCALE:
        provide_headscale(machine)
    with contextlib.ExitStack() as running:
        if page in WITH_ETCD:
            running.enter_context(etcd_on(machine))
        Reader(machine, running).follow(page)


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, machine, running):
        self._machine = machine
        self._running = running
        self._headscale = running.enter_context(contextlib.ExitStack())
        self._has_node = False

    def follow(self, page):
        self._machine.configure(whole(page).text)
        if any("key mesh generate" in block.text for block in blocks_of(page)):
            self._machine.mesh_key.unlink()  # the page makes it
        for block in blocks_of(page):
            match block.mark:
                case "yaml derpctl":
                    self._machine.configure_derpctl(block.text)
                case "sh start":
                    self._start(block.text.strip())
                case "sh node":
                    self._start("derpd")
                    self._run(block)
                case "sh test" | "sh etcd":
                    self._run(block)
                case _:
                    self._follow_headscale(block)

    def _follow_headscale(self, block):
        match block.mark:
            case "sh serve":
                self._serve(block.text.strip())
            case "yaml headscale":
                self._headscale.close()
                server = headscale_on(self._machine, block.text)
                self._headscale.enter_context(server)
            case "sh headscale":
                self._run(block)

    def _start(self, command):
        if not self._has_node:
            view = self._running.enter_context(self._machine.node(command))
            self._find(view)
        self._has_node = True

    def _find(self, view):
        """Have the names of the page lead to the ports that the node has."""
        if view.listeners["http"]:
            plain = f"http://{view.listeners['http'][0]}/"
            self._machine.translate("https://derp.example.net/", plain)

    def _serve(self, command):
        (port,) = free_ports(1)
        self._machine.translate("127.0.0.1:8053", f"127.0.0.1:{port}")
        self._running.enter_context(self._machine.beside(command))

    def _run(self, block):
        said = self._machine.run(block.text)
        assert said.returncode == 0, f"{block}: {said.stdout}"
