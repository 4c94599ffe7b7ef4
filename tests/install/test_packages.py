"""Wheels, sdist and pipx: installed from a folder of wheels, without a network."""

import os
import re
import shutil
import subprocess
import zipfile

import pytest

from derpnode import __version__
from tests.docs.blocks import blocks_of
from tests.install.packages import (
    PACKAGING,
    QUICKLY,
    interpreter,
    package,
    run,
    wheelhouse,
)
from tests.support.docs import ROOT
from tests.support.peers import MissingTool


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

PAGE = ROOT / "docs/howto/packages.md"


@pytest.fixture(scope="session")
def wheels():
    """The folder of wheels."""
    try:
        return wheelhouse()
    except MissingTool as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def walked(wheels, tmp_path_factory):
    """A folder in which somebody did all that the page on packages says."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(wheels, folder / "wheels")
    tools = folder / "tools"
    run(interpreter(), "-m", "venv", tools)
    run(tools / "bin/python", "-m", "pip", "--quiet", "install", "pipx")
    (folder / "bin").mkdir()
    for block in blocks_of(PAGE):
        if block.mark == "sh packages":
            run(
                *("sh", "-ec", f"cd {folder}\n{translated(block.text, folder)}"),
                PATH=f"{tools}/bin:{os.environ['PATH']}",
                PIPX_HOME=str(folder / "pipx"),
                PIPX_BIN_DIR=str(folder / "pipx/bin"),
                PIPX_MAN_DIR=str(folder / "pipx/man"),
                PIP_DISABLE_PIP_VERSION_CHECK="1",
                **QUICKLY,
            )
    return folder


def translated(text, folder):
    """Have what the page does to a machine done in a folder, by scripts of the tree."""
    text = re.sub(r"(?<=\s)/(opt|usr/local)/", rf"{folder}/\1/", f"\n{text}")
    text = text.replace(f"{folder}/usr/local/bin", f"{folder}/bin")
    return text.replace("\n/opt/", f"\n{folder}/opt/").replace(
        "\npackaging/", f"\n{PACKAGING}/"
    )


def offline(python, command, wheels, *words):
    """Run pip with nothing but the folder to take from."""
    options = ("--disable-pip-version-check", "--no-index", "--find-links", wheels)
    return run(python, "-m", "pip", "--quiet", command, *options, *words)


def test_the_folder_is_told_from_its_requirements(wheels):
    """Whoever fills it again for the same requirements needs no network."""
    locked = (ROOT / "requirements/run.txt").read_bytes()
    assert (wheels / "requirements.txt").read_bytes() == locked


@pytest.mark.parametrize("place", ["bin", "pipx/bin"])
def test_installs_without_a_network(walked, place):
    """Every program is there, by pip and by pipx, and says what version it is."""
    folder = walked / place
    assert run(folder / "derpd", "--version") == f"derpd {__version__}\n"
    assert run(folder / "derpctl", "version").startswith(f"derpctl {__version__} (")
    assert "admin socket of the node" in run(folder / "derpd-health", "--help")


def test_nothing_is_missing(walked):
    """What is installed has all that it asks for, in versions that it takes."""
    said = run(walked / "opt/derpmesh/bin/python", "-m", "pip", "check")
    assert "No broken requirements" in said


def test_an_installed_node_checks_its_configuration(walked, tmp_path):
    """The installed code runs, not only its help."""
    path = tmp_path / "derpd.yaml"
    path.write_text("node: {host: 203.0.113.10}\nadmission: {key_file: clients}\n")
    words = ("--check-config", "--config", path)
    assert run(walked / "bin/derpd", *words) == "configuration is valid\n"


def test_the_page_builds_the_package(walked):
    """It is that of the tests, to the byte: the same wheels make the same package."""
    try:
        deb = package()
    except MissingTool as missing:
        pytest.skip(str(missing))
    built = walked / "packages" / deb.name
    assert built.read_bytes() == deb.read_bytes()


def test_the_sdist_builds_the_same_wheel(wheels, walked, tmp_path):
    """What is built from the sdist alone is the wheel, to the byte."""
    (sdist,) = wheels.glob("derpmesh-*.tar.gz")
    (wheel,) = wheels.glob("derpmesh-*.whl")
    words = ("--no-deps", "--wheel-dir", tmp_path, sdist)
    offline(walked / "opt/derpmesh/bin/python", "wheel", wheels, *words)
    (again,) = tmp_path.glob("*.whl")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_wheel_holds_the_code_and_nothing_else(wheels):
    """No tests, no caches; the licence, and that it is typed."""
    (wheel,) = wheels.glob("derpmesh-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    info = f"derpmesh-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {
        *("derpnode", "derpmesh", "derpctl"),
        info,
    }
    assert not [name for name in names if name.endswith(".pyc")]
    assert {f"{info}/licenses/LICENSE", "derpctl/py.typed"} <= set(names)


def test_usage():
    """Without its folder the script says how it is used, and makes none."""
    said = subprocess.run(
        [PACKAGING / "wheelhouse"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    assert said.stderr == "usage: packaging/wheelhouse FOLDER\n"
