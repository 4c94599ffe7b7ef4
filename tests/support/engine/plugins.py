"""Compose v2 and buildx, for a client that came without them."""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.engine.debian import unpack
from tests.support.engine.home import Home


logger = logging.getLogger(__name__)

RELEASE = "trixie"
"""The first release of Debian with Compose v2."""

PACKAGES = {"compose": "docker-compose", "buildx": "docker-buildx"}
"""What packages the plugins are in."""


def install(home: Home, environment: Mapping[str, str]) -> None:
    """Have both plugins found by the client.

    Raises:
        NoEngine: They are missing, and this is no Debian.
    """
    missing = [name for name in PACKAGES if not _works(name, environment)]
    if not missing:
        return
    with tempfile.TemporaryDirectory(dir=home.debian, prefix="plugins-") as made:
        files = Path(made) / "files"
        files.mkdir()
        unpack(RELEASE, [PACKAGES[name] for name in missing], files)
        for found in files.rglob("docker-*"):
            if found.parent.name == "cli-plugins" and not found.is_symlink():
                shutil.copy2(found, home.client / "cli-plugins" / found.name)
    logger.info("plugins are there: %s", ", ".join(missing))


def _works(name: str, environment: Mapping[str, str]) -> bool:
    command = ["docker", name, "version"]
    asked = subprocess.run(command, env=environment, capture_output=True, check=False)
    return asked.returncode == 0
