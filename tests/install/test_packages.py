"""Wheels, sdist and pipx: installed from a folder of wheels, without a network."""

import shutil
import subprocess
import zipfile

import pytest

from derpnode import __version__
from tests.install.packages import PACKAGING, interpreter, run, wheelhouse
from tests.support.docs import ROOT
from tests.support.peers import MissingTool


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def wheels():
    """The folder of wheels."""
    try:
        return wheelhouse()
    except MissingTool as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def environment(wheels, tmp_path_factory):
    """A fresh environment in which derpmesh was installed from that folder."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(interpreter(), "-m", "venv", folder)
    offline(folder / "bin/python", "install", wheels, "derpmesh")
    return folder


def offline(python, command, wheels, *words):
    """Run pip with nothing but the folder to take from."""
    options = ("--disable-pip-version-check", "--no-index", "--find-links", wheels)
    return run(python, "-m", "pip", "--quiet", command, *options, *words)


def test_the_folder_is_told_from_its_requirements(wheels):
    """Whoever fills it again for the same requirements needs no network."""
    locked = (ROOT / "requirements/run.txt").read_bytes()
    assert (wheels / "requirements.txt").read_bytes() == locked


def test_installs_without_a_network(environment):
    """Every program is there, and says what version it is."""
    folder = environment / "bin"
    assert run(folder / "derpd", "--version") == f"derpd {__version__}\n"
    assert run(folder / "derpctl", "version").startswith(f"derpctl {__version__} (")
    assert "admin socket of the node" in run(folder / "derpd-health", "--help")


def test_nothing_is_missing(environment):
    """What is installed has all that it asks for, in versions that it takes."""
    assert "No broken requirements" in run(
        environment / "bin/python", "-m", "pip", "check"
    )


def test_an_installed_node_checks_its_configuration(environment, tmp_path):
    """The installed code runs, not only its help."""
    path = tmp_path / "derpd.yaml"
    path.write_text("node: {host: 203.0.113.10}\nadmission: {key_file: clients}\n")
    words = ("--check-config", "--config", path)
    assert run(environment / "bin/derpd", *words) == "configuration is valid\n"


def test_the_sdist_builds_the_same_wheel(wheels, environment, tmp_path):
    """What is built from the sdist alone is the wheel, to the byte."""
    (sdist,) = wheels.glob("derpmesh-*.tar.gz")
    (wheel,) = wheels.glob("derpmesh-*.whl")
    words = ("--no-deps", "--wheel-dir", tmp_path, sdist)
    offline(environment / "bin/python", "wheel", wheels, *words)
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


def test_pipx(wheels, tmp_path):
    """`pipx install` works from the folder, too, with the pip that pipx wants."""
    tools, folder = tmp_path / "tools", tmp_path / "wheels"
    shutil.copytree(wheels, folder)
    run(interpreter(), "-m", "venv", tools)
    pip = (tools / "bin/python", "-m", "pip", "--quiet")
    run(*pip, "install", "pipx")
    run(*pip, "download", "--no-deps", "--dest", folder, "pip")
    run(
        *(tools / "bin/pipx", "install", "derpmesh"),
        f"--pip-args=--no-index --find-links={folder}",
        PIPX_HOME=str(tmp_path / "home"),
        PIPX_BIN_DIR=str(tmp_path / "bin"),
        PIPX_MAN_DIR=str(tmp_path / "man"),
    )
    assert run(tmp_path / "bin/derpd", "--version") == f"derpd {__version__}\n"
    assert run(tmp_path / "bin/derpctl", "version").startswith("derpctl ")


def test_usage():
    """Without its folder the script says how it is used, and makes none."""
    said = subprocess.run(
        [PACKAGING / "wheelhouse"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    assert said.stderr == "usage: packaging/wheelhouse FOLDER\n"
