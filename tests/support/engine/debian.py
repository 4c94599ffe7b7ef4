"""Packages of any Debian release, unpacked into a folder; this system stays as it is.

They come from where this machine has its own packages from, by a state of apt of their
own. What Debian does not have of the newest is not needed here.
"""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.engine.daemon import NoEngine


logger = logging.getLogger(__name__)

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def mirror() -> str:
    """Return the URL that this machine's own packages of Debian come from.

    Raises:
        NoEngine: This is no Debian.
    """
    if shutil.which("apt-get") is None:
        raise _no_debian()
    form = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        _release, component, url = line.split()
        if component == "main" and url.rstrip("/").endswith("/debian"):
            return url
    raise _no_debian()


def _no_debian() -> NoEngine:
    remedy = "start an engine yourself, or name one in DOCKER_HOST"
    return NoEngine("a source of Debian's packages", remedy)


def unpack(release: str, packages: Sequence[str], folder: Path) -> None:
    """Download packages of a release, without what they depend on, and unpack them."""
    logger.info("downloading %s of Debian %s", ", ".join(packages), release)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="apt-") as made:
        place = Path(made)
        sources = place / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {mirror()} {release} main\n")
        for name in ("state/lists/partial", "cache/archives/partial"):
            (place / name).mkdir(parents=True)
        settings = {
            "Dir::State": f"{place}/state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": f"{place}/cache",
            "Dir::Etc::sourcelist": str(sources),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        for words in (["update", "-qq"], ["download", "-qq", *packages]):
            subprocess.run(["apt-get", *options, *words], cwd=place, check=True)
        for archive in place.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
