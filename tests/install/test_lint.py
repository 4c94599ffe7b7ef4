"""What is shipped beside Python code, read by the linters of its kind."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.docs import ROOT
from tests.support.peers import MissingTool, peer


BIN = Path(sys.executable).parent

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))

_SHELL = re.compile(rb"#!.*\b(sh|bash)\b")
_USES = re.compile(r"uses: +(\S+)(.*)")
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
_RELEASE = re.compile(r" # v\d+\.\d+\.\d+")


@cache
def files() -> tuple[Path, ...]:
    """List what belongs to the tree, whether it is committed already or not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = (ROOT / name.decode() for name in listed.split(b"\0") if name)
    return tuple(path for path in paths if path.is_file())


def scripts() -> list[Path]:
    """List the shell scripts, by their first line."""
    found = []
    for path in files():
        with path.open("rb") as file:
            if _SHELL.match(file.readline(80)):
                found.append(path)
    return found


def lint(tool: str, *words: str | Path) -> None:
    """Run a linter that is installed beside Python; it must find nothing."""
    command = [str(BIN / tool), *map(str, words)]
    said = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout


def test_dockerfiles():
    """hadolint, with nothing ignored."""
    found = [path for path in files() if path.name.startswith("Dockerfile")]
    assert ROOT / "Dockerfile" in found
    lint("hadolint", *found)


def test_the_dockerfile_needs_no_newer_builder():
    """The one of Docker 20.10, Debian 12's, knows none of these."""
    text = (ROOT / "Dockerfile").read_text()
    for word in (
        "# syntax",
        "--mount",
        "--link",
        "--parents",
        "<<",
        "--start-interval",
    ):
        assert word not in text, word


def test_yaml():
    """yamllint, as `.yamllint` has it."""
    assert WORKFLOWS
    lint("yamllint", "--strict", ".")


def test_shell():
    """shellcheck, on whatever begins as a shell script."""
    found = scripts()
    assert ROOT / ".ci/run" in found
    lint("shellcheck", *found)


def test_workflows_have_their_form():
    """Keys and types are those that GitHub reads."""
    lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    settings = ROOT / ".github/dependabot.yaml"
    lint("check-jsonschema", "--builtin-schema", "vendor.dependabot", settings)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned(path):
    """To a commit, with the release beside it that dependabot renews."""
    used = _USES.findall(path.read_text())
    assert used
    for action, comment in used:
        assert _PINNED.fullmatch(action), action
        assert _RELEASE.fullmatch(comment), action


@pytest.mark.interop
def test_workflows_mean_something():
    """actionlint: expressions, outputs, needs, and the shell in `run`."""
    try:
        actionlint = peer("actionlint-1.7.9")
    except MissingTool as exc:
        pytest.skip(str(exc))
    lint(
        str(actionlint), "-shellcheck", BIN / "shellcheck", "-pyflakes", "", *WORKFLOWS
    )
