"""A stand-in for the image that ours is built on, where no registry is in reach.

It looks as the official one does to a Dockerfile: Python 3.11 on Debian bookworm, found
in /usr/local/bin. This machine's trust and its settings of pip are in it, so that the
shipped Dockerfile needs to know neither.
"""

import hashlib
import logging
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.engine.client import KEY, docker, is_there
from tests.support.engine.daemon import NoEngine
from tests.support.engine.debian import mirror
from tests.support.engine.home import Home


logger = logging.getLogger(__name__)

BASE = "python:3.11-slim-bookworm"
"""The name that the Dockerfile has for it."""

RELEASE = "bookworm"

_PACKAGES = "ca-certificates,netbase,python3,python3-pip,python3-venv,tzdata"

_OURS = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf"))
"""What of this machine is put into the image."""

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

_FINISH = """
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
cd /usr/local/bin
for name in python python3 python3.11; do ln -s /usr/bin/python3.11 $name; done
for name in pip pip3; do ln -s /usr/bin/pip3 $name; done
"""

_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def base(home: Home, environment: Mapping[str, str]) -> None:
    """Have the base image in the engine.

    Raises:
        NoEngine: A tool is missing.
    """
    key = _key()
    if is_there(environment, BASE, key):
        return
    archive = home.debian / f"base-{key}.tar"
    if not archive.exists():
        _make(archive)
    changes = [f"ENV PATH={_PATH}", "ENV LANG=C.UTF-8", 'CMD ["python3"]']
    changes.append(f"LABEL {KEY}={key}")
    words = [word for change in changes for word in ("--change", change)]
    with archive.open("rb") as stdin:
        docker(environment, "import", *words, "-", BASE, stdin=stdin)
    logger.info("image %s is there, as a stand-in", BASE)


def _key() -> str:
    digest = hashlib.sha256()
    for text in (RELEASE, _PACKAGES, *_LEFT_OUT, _FINISH, _PATH):
        digest.update(text.encode() + b"\0")
    for path in _given():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _given() -> list[Path]:
    return [path for path in _OURS if path.exists()]


def _make(archive: Path) -> None:
    """Make the image's files; renamed when whole, so a half is never seen."""
    if shutil.which("mmdebstrap") is None:
        raise NoEngine("mmdebstrap", "apt install mmdebstrap")
    logger.info("making the files of %s", BASE)
    half = archive.with_name("half.tar")
    hooks = [f"upload {path} {path}" for path in _given()]
    hooks.append(f"chroot \"$1\" sh -ec '{_FINISH}'")
    command = [
        *("mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(RELEASE, str(half), mirror()),
    ]
    for old in archive.parent.glob("*.tar"):
        old.unlink()
    subprocess.run(command, check=True)
    half.rename(archive)
