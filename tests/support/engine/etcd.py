"""A stand-in for etcd's image, where no registry is in reach: programs, no shell."""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.engine.client import KEY, docker, is_there
from tests.support.engine.debian import unpack
from tests.support.engine.home import Home


logger = logging.getLogger(__name__)

ETCD = "quay.io/coreos/etcd:v3.5.35"
"""The name that compose and chart have for it. Debian's is a 3.5 as well."""

RELEASE = "trixie"

_KEY = "1"  # of what is written below; to be counted up with it

_PROGRAMS = ("etcd", "etcdctl")

_CHANGES = (
    "ENV PATH=/usr/local/bin",
    "EXPOSE 2379 2380",
    'CMD ["/usr/local/bin/etcd"]',
    f"LABEL {KEY}={_KEY}",
)


def etcd(home: Home, environment: Mapping[str, str]) -> None:
    """Have etcd's image in the engine.

    Raises:
        NoEngine: This is no Debian.
    """
    if is_there(environment, ETCD, _KEY):
        return
    words = [word for change in _CHANGES for word in ("--change", change)]
    with tempfile.TemporaryDirectory(dir=home.debian, prefix="etcd-") as made:
        files, root = Path(made) / "files", Path(made) / "root"
        files.mkdir()
        unpack(RELEASE, ["etcd-server", "etcd-client", "libc6"], files)
        _lay_out(files, root)
        with subprocess.Popen(
            ["tar", "-C", str(root), "--owner=0", "--group=0", "-c", "."],
            stdout=subprocess.PIPE,
        ) as packed:
            docker(environment, "import", *words, "-", ETCD, stdin=packed.stdout)
    logger.info("image %s is there, as a stand-in", ETCD)


def _lay_out(files: Path, root: Path) -> None:
    """Take the programs, and what the loader loads for them; nothing else."""
    for name in _PROGRAMS:
        _copy(files / "usr/bin" / name, root / "usr/local/bin" / name)
    for name in ("lib", "lib64"):
        for pattern in ("**/libc.so.6", "**/ld-linux*.so*"):
            for found in (files / "usr" / name).glob(pattern):
                _copy(found, root / found.relative_to(files))
        if (root / "usr" / name).is_dir():
            (root / name).symlink_to(f"usr/{name}")
    for name in ("etc", "tmp", "var/lib/etcd"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\n")
    (root / "tmp").chmod(0o1777)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
