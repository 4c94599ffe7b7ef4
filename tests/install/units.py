"""What is shipped for systemd, and how its tools judge it unless it runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.docs import ROOT
from tests.support.peers import MissingTool


PACKAGING = ROOT / "packaging"
UNIT = PACKAGING / "systemd" / "derpd@.service"

_SCORE = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `systemd-analyze`; what it says is in one piece.

    Raises:
        MissingTool: It is not on this machine.
    """
    found = shutil.which("systemd-analyze")
    if found is None:
        raise MissingTool("systemd-analyze", "install systemd 252 or newer")
    return subprocess.run(
        [found, *map(str, words)],
        env=os.environ | {"SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def copy_for(folder: Path, derpd: Path) -> Path:
    """Copy the unit for a machine where `derpd` is somewhere else; give where it is."""
    copy = folder / UNIT.name
    text = UNIT.read_text("utf-8")
    copy.write_text(text.replace("ExecStart=derpd ", f"ExecStart={derpd} "))
    return copy


def exposure(judged: str) -> float:
    """Read the score out of what `systemd-analyze security` says: 0 safe, 10 not."""
    found = _SCORE.search(judged)
    assert found is not None, judged
    return float(found[1])
