"""The unit of a node, as systemd's own tools judge it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from derpmesh.daemon import EXIT_CONFIG
from derpnode.config import NodeConfig
from tests.install.units import PACKAGING, UNIT, analyze, copy_for, exposure
from tests.support.docs import ROOT


pytestmark = [
    pytest.mark.install,
    pytest.mark.skipif(
        shutil.which("systemd-analyze") is None,
        reason="systemd-analyze is not on PATH; install systemd 252 or newer",
    ),
]

DERPD = Path(sys.executable).with_name("derpd")
SYSCTL = PACKAGING / "sysctl/60-derpmesh.conf"
WORST = 2.0


def settings(name):
    """List what the unit says of one setting, in its order."""
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert found, name
    return found


def test_the_unit_has_no_mistakes(tmp_path):
    """Systemd knows each line of it, and has nothing to say."""
    said = analyze("verify", "--man=no", copy_for(tmp_path, DERPD))
    assert (said.returncode, said.stdout) == (0, "")


def test_a_mistake_would_be_found(tmp_path):
    """A misspelt setting is named: the test above can fail."""
    unit = copy_for(tmp_path, DERPD)
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchDogSecs="))
    said = analyze("verify", "--man=no", unit)
    assert "WatchDogSecs" in said.stdout


def test_the_sandbox_is_tight():
    """Systemd's own score of what a broken node could do: 0 nothing, 10 everything."""
    said = analyze("security", "--offline=true", f"--threshold={int(WORST * 10)}", UNIT)
    assert said.returncode == 0, said.stdout
    assert exposure(said.stdout) <= WORST


def test_the_page_tells_the_score():
    """What the page says of it is what systemd says."""
    said = analyze("security", "--offline=true", UNIT)
    page = (ROOT / "docs/howto/systemd.md").read_text("utf-8")
    assert f"gives it {exposure(said.stdout):.1f} of 10" in page


def test_a_configuration_that_cannot_be_used_is_not_tried_again():
    """Systemd is told the exit code that `derpd` has for it."""
    assert settings("RestartPreventExitStatus") == [str(EXIT_CONFIG)]


def test_a_drain_is_not_cut_short():
    """Systemd waits longer than a node sends its clients away."""
    (patience,) = settings("TimeoutStopSec")
    assert float(patience) >= 2 * NodeConfig().drain_grace


def test_a_node_is_watched():
    """A hang is found within a minute; that it ends one, a running systemd shows."""
    (limit,) = settings("WatchdogSec")
    assert 5 <= float(limit) <= 60
    assert settings("Restart") == ["on-failure"]


def test_all_that_is_named_is_shipped():
    """The group of the unit is made, and the folder of its configuration is of it."""
    (group,) = settings("SupplementaryGroups")
    made = (PACKAGING / "sysusers/derpmesh.conf").read_text("utf-8").splitlines()
    folders = (PACKAGING / "tmpfiles/derpmesh.conf").read_text("utf-8").splitlines()
    assert f"g {group} -" in made
    assert f"d /etc/derpmesh 2750 root {group} -" in folders


def test_the_variables_are_keys():
    """What the unit sets for `derpd` is in its configuration."""
    named = [line.partition("=") for line in settings("Environment")]
    assert [name for name, _, _ in named] == ["DERPD_STATE_DIR", "DERPD_ADMIN__SOCKET"]
    tree = {"state_dir": named[0][2], "admin": {"socket": named[1][2]}}
    config = NodeConfig.model_validate(yaml.safe_load(yaml.safe_dump(tree)))
    assert config.admin_socket == Path(named[1][2])


@pytest.mark.skipif(os.geteuid() != 0, reason="not root; run the tests as root")
def test_the_kernel_takes_the_values():
    """What belongs to a network is set in one of its own, and read back."""
    pairs = re.findall(r"^-?(net\.ipv4\.\S+) = (.+)$", SYSCTL.read_text(), re.MULTILINE)
    assert len(pairs) > 5
    script = "".join(
        f"cd /proc/sys/{name.replace('.', '/').rpartition('/')[0]}\n"
        f"echo '{value}' > {name.rpartition('.')[2]}; cat {name.rpartition('.')[2]}\n"
        for name, value in pairs
    )
    said = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.replace("\t", " ").splitlines() == [value for _, value in pairs]
