"""The Debian package: what is in it.

That it is built the same each time is tried in ``test_packages.py``; that it installs,
runs and is removed, in ``test_systemd.py``.
"""

import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from derpnode import __version__
from tests.install.packages import MINOR, PACKAGING, package, run
from tests.support.docs import ROOT
from tests.support.peers import MissingTool


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

SCRIPTS = (
    PACKAGING / "wheelhouse",
    PACKAGING / "debian/build",
    *sorted((PACKAGING / "debian/scripts").iterdir()),
)
COPIES = {
    "packaging/systemd/derpd@.service": "usr/lib/systemd/system/derpd@.service",
    "packaging/sysusers/derpmesh.conf": "usr/lib/sysusers.d/derpmesh.conf",
    "packaging/tmpfiles/derpmesh.conf": "usr/lib/tmpfiles.d/derpmesh.conf",
    "packaging/sysctl/60-derpmesh.conf": "usr/lib/sysctl.d/60-derpmesh.conf",
    "packaging/modules-load/derpmesh.conf": "usr/lib/modules-load.d/derpmesh.conf",
    "packaging/debian/example.yaml": "etc/derpmesh/example.yaml",
    "LICENSE": "usr/share/doc/derpmesh/copyright",
}


@pytest.fixture(scope="session")
def deb():
    """The package."""
    try:
        return package()
    except MissingTool as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def files(deb):
    """What it holds, by path."""
    found = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True
    )
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        yield archive, {one.name.removeprefix("./"): one for one in archive}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_known_mistakes(script):
    """Neither what builds nor what runs as root on somebody's machine."""
    assert run(Path(sys.executable).with_name("shellcheck"), script) == ""


def test_fields(deb):
    """Its name is its version and architecture; it asks for the Python that it has."""
    words = ("dpkg-deb", "--field", deb)
    architecture = run("dpkg", "--print-architecture").strip()
    assert run(*words, "Version") == f"{__version__}\n"
    assert deb.name == f"derpmesh_{__version__}_{architecture}.deb"
    depends = run(*words, "Depends").strip().split(", ")
    major, minor = MINOR.split(".")
    assert f"python3 (>= {MINOR})" in depends
    assert f"python3 (<< {major}.{int(minor) + 1})" in depends
    assert run("dpkg-deb", "-I", deb, "conffiles") == "/etc/derpmesh/example.yaml\n"
    assert int(run(*words, "Installed-Size")) > 10_000


@pytest.mark.parametrize("source", COPIES)
def test_files_are_those_of_the_tree(files, source):
    """What is shipped is installed, where the system looks for it."""
    archive, found = files
    content = archive.extractfile(found[COPIES[source]]).read()
    assert content == (ROOT / source).read_bytes()


PROGRAMS = ("derpd", "derpctl", "derpd-health", "derpd-address")


def test_programs(files):
    """Each is on PATH, and runs by the package's own Python, whatever the user has."""
    archive, found = files
    for name in PROGRAMS:
        assert found[f"usr/bin/{name}"].linkname == f"../lib/derpmesh/bin/{name}"
        script = archive.extractfile(found[f"usr/lib/derpmesh/bin/{name}"])
        assert script.readline() == b"#!/usr/lib/derpmesh/bin/python -I\n"
    programs = [name for name in found if name.startswith("usr/lib/derpmesh/bin/")]
    assert len(programs) == len((*PROGRAMS, "python"))


def test_owners_and_modes(files):
    """All of it is root's, nobody else can write to it, and nothing runs as root."""
    _, found = files
    for one in found.values():
        assert (one.uid, one.gid) == (0, 0), one.name
        assert one.issym() or not one.mode & 0o6022, one.name


def test_nothing_tells_where_it_was_built(files):
    """No path of the folders that it was made in, which would be a dead end."""
    archive, found = files
    folders = (b"/tmp/tmp.", str(ROOT).encode())
    for name, one in found.items():
        if one.isfile():
            content = archive.extractfile(one).read()
            assert not any(folder in content for folder in folders), name


def test_every_module_is_compiled(files):
    """A node may not write there, so it would compile all of it at each start."""
    _, found = files
    sources = [name for name in found if name.endswith(".py")]
    assert len(sources) > 300
    for name in sources:
        folder, _, file = name.rpartition("/")
        tag = f"cpython-{MINOR.replace('.', '')}"
        assert f"{folder}/__pycache__/{file[:-3]}.{tag}.pyc" in found, name


def test_it_is_not_built_of_nothing(tmp_path):
    """Without our wheel in the folder the script says what makes one."""
    said = subprocess.run(
        [PACKAGING / "debian/build", tmp_path, tmp_path / "deb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert said.stderr == (
        f"{tmp_path}: no wheel of derpmesh, or several; run packaging/wheelhouse\n"
    )


def test_versions_before_a_release_sort_before_it():
    """Python's 1.0rc1 is Debian's 1.0~rc1, which is older than 1.0."""
    (line,) = [
        line
        for line in (PACKAGING / "debian/build").read_text().splitlines()
        if line.startswith("debian_version=")
    ]
    for version, wanted in {
        "1.0rc1": "1.0~rc1",
        "1.0": "1.0",
        "2.1.0a3": "2.1.0~a3",
        "2.0.dev4": "2.0~dev4",
    }.items():
        script = f'version={version}; {line}; echo "$debian_version"'
        assert run("bash", "-c", script) == f"{wanted}\n"
