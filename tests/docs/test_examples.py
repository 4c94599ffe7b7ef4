"""Every configuration in the documentation is accepted, and is that of a node."""

import pytest
from typer.testing import CliRunner

import derpmesh.daemon
from derpctl.config import load_ctl_config
from tests.docs.blocks import blocks, configuration, whole


EXAMPLES = blocks("yaml derpd", "yaml derpd part")


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_configuration_is_accepted(block, tmp_path):
    """`derpd --check-config` has nothing to say against it, to the letter."""
    path = tmp_path / "derpd.yaml"
    path.write_text(configuration(block))
    words = ["--check-config", "--config", str(path)]
    said = CliRunner().invoke(derpmesh.daemon.app, words)
    assert said.output == "configuration is valid\n"


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_node_gets_ready(block, machine):
    """With the files that it names, a node starts, serves, and stops when told to."""
    machine.configure(configuration(block))
    with machine.node() as view:
        assert view.ready


@pytest.mark.parametrize("block", blocks("yaml derpctl"), ids=str)
def test_derpctl_reads_its_configuration(block, machine):
    """`derpctl` finds the node that the configuration names."""
    machine.configure_derpctl(block.text)
    machine.configure(whole(block.page).text)
    with machine.node():
        said = machine.run("derpctl status")
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize("block", blocks("yaml derpctl region"), ids=str)
def test_derpctl_accepts_a_region(block, tmp_path):
    """The nodes are on other machines, so it is only read."""
    path = tmp_path / "config.yaml"
    path.write_text(block.text)
    assert load_ctl_config(path).nodes
