"""Our wheels, sdist and Debian package, built by the scripts that are shipped."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.install.kept import kept, key_of
from tests.support.docs import ROOT
from tests.support.peers import MissingTool


PACKAGING = ROOT / "packaging"

MINOR = "3.11"
"""The Python of the Debian release that the package is tried on."""

QUICKLY = {"COMPRESSION": "none", "SOURCE_DATE_EPOCH": "1700000000"}
"""How tests have the Debian package built: large, and always the same."""

_PLATFORM = f"{sysconfig.get_platform()} {MINOR}"


def interpreter() -> str:
    """Find a Python as that Debian release has it.

    Raises:
        MissingTool: There is none on this machine.
    """
    if "{}.{}".format(*sys.version_info) == MINOR:
        return sys.executable
    found = shutil.which(f"python{MINOR}")
    if found is None:
        raise MissingTool(f"python{MINOR}", "install it; Debian bookworm has it")
    return found


def wheelhouse() -> Path:
    """Return a folder with all wheels, ours and its sdist too.

    Raises:
        MissingTool: There is no Python to build them with.
    """
    return kept("wheels", key_of([_PLATFORM, *_sources()]), _collect)


def package() -> Path:
    """Return the Debian package.

    Raises:
        MissingTool: There is no Python or no dpkg to build it with.
    """
    key = key_of([_PLATFORM, *_sources(), *_packaging()])
    (found,) = kept("deb", key, _build_package).glob("*.deb")
    return found


def _build_package(folder: Path) -> None:
    """Build the Debian package anew; quickly, so it is large.

    Raises:
        MissingTool: There is no Python or no dpkg to build it with.
    """
    if shutil.which("dpkg-deb") is None:
        raise MissingTool("dpkg-deb", "this is for Debian and its like")
    words = [PACKAGING / "debian/build", wheelhouse(), folder]
    run(*words, **QUICKLY)


def run(*words: object, **variables: str) -> str:
    """Run a script of ours; give what it printed, or fail with what it said."""
    said = subprocess.run(
        [str(word) for word in words],
        env={**_environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def _environment() -> Mapping[str, str]:
    # What measures tests would have its files in what is built.
    mine = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    return mine | {"PYTHON": interpreter()}


def _collect(folder: Path) -> None:
    """Fill a wheelhouse; what is not ours is taken from one that is kept."""
    requirements = ROOT / "requirements/run.txt"
    key = key_of([_PLATFORM, requirements])
    bare = kept("requirements", key, _script)
    for path in bare.iterdir():
        if not path.name.startswith("derpmesh-"):
            shutil.copy2(path, folder)
    _script(folder)


def _script(folder: Path) -> None:
    run(PACKAGING / "wheelhouse", folder)


def _sources() -> Iterator[Path]:
    yield from (ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))
    yield ROOT / "requirements/run.txt"
    yield PACKAGING / "wheelhouse"
    for name in ("node/derpnode", "mesh/derpmesh", "ctl/derpctl"):
        yield from sorted((ROOT / name).rglob("*.py"))


def _packaging() -> Iterator[Path]:
    yield from sorted(path for path in PACKAGING.rglob("*") if path.is_file())
    yield from (ROOT / "docs" / name for name in ("changelog.md", "howto/systemd.md"))
