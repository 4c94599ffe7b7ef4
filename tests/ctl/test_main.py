"""The command line itself: help, versions, completion, and how commands end."""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from derpctl.exits import Exit
from derpctl.settings import Settings, settings_of
from derpnode import __version__


ROOT = Path(__file__).parents[2]
COMMANDS = ("demo", "status", "tune", "version", "completion", "map", "probe")


def test_help(derpctl):
    """Every command has its line; without a command, help is what is printed."""
    ended = derpctl("--help")
    assert ended.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in ended.out
    assert derpctl("-h").out == ended.out
    bare = derpctl()
    assert bare.code == 2
    assert "Usage: derpctl [OPTIONS] COMMAND" in bare.out + bare.err


@pytest.mark.parametrize("command", [*COMMANDS, "map export", "probe node"])
def test_help_of_commands(derpctl, command: str):
    """Each says what it does."""
    ended = derpctl(*command.split(), "--help")
    assert ended.code == 0
    assert f"Usage: derpctl {command} " in ended.out


def test_usage_errors(derpctl):
    """2, on stderr, with no traceback."""
    for words in (
        ["nonsense"],
        ["--timeout", "0", "version"],
        ["-o", "xml", "version"],
    ):
        ended = derpctl(*words)
        assert (ended.code, ended.out) == (2, "")
        assert "Error: " in ended.err
        assert "Traceback" not in ended.err


def test_version(derpctl):
    """As text, and as a document."""
    python = platform.python_version()
    assert derpctl("version") == (0, f"derpctl {__version__} (Python {python})\n", "")
    assert json.loads(derpctl("version", "-o", "json").out) == {
        "apiVersion": "derpctl/v1",
        "kind": "Version",
        "version": __version__,
        "python": python,
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(derpctl, shell: str):
    """A script for each shell, that calls us back."""
    ended = derpctl("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert f"_DERPCTL_COMPLETE=complete_{shell}" in ended.out
    assert derpctl("completion", "tcsh").code == 2


def test_completion_answers(derpctl, monkeypatch: pytest.MonkeyPatch):
    """What the script asks for, when a word was begun."""
    monkeypatch.setenv("_DERPCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "derpctl pro")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert derpctl().out.split() == ["probe"]


def test_exit_codes_never_change():
    """Scripts rely on these numbers."""
    assert {code.name: code.value for code in Exit} == {
        "OK": 0,
        "ERROR": 1,
        "USAGE": 2,
        "CONFIG": 3,
        "UNREACHABLE": 4,
        "NOT_FOUND": 5,
        "REFUSED": 6,
        "INVALID": 7,
        "DIFFERENT": 8,
        "DEGRADED": 9,
        "CRITICAL": 10,
        "DEADLINE": 11,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(("flags", "level"), [("-v", "INFO"), ("-vv", "DEBUG")])
def test_verbose(derpctl, monkeypatch: pytest.MonkeyPatch, flags: str, level: str):
    """Logs go to stderr, and only if asked for."""
    found: list[object] = []

    def record(**options: object) -> None:
        found.append(options["level"])

    monkeypatch.setattr(logging, "basicConfig", record)
    derpctl("version")
    derpctl(flags, "version")
    assert found == [getattr(logging, level)]


def test_settings_need_the_root():
    """A command outside the tree is a bug of ours, and is heard."""
    command = typer.main.get_command(typer.Typer(callback=lambda: None))
    context = typer.Context(command)
    with pytest.raises(TypeError, match="the root callback has not run"):
        settings_of(context)
    context.obj = {"settings": Settings(Path("x"))}
    assert settings_of(context, timeout=2.0).timeout == 2.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user does, with the three roots on its path."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("node", "mesh", "ctl"))
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": roots, "HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_module():
    """`python -m derpctl` is derpctl."""
    ended = run("-m", "derpctl", "version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("derpctl ")


def test_help_imports_nothing_heavy():
    """What commands need, they import when they run."""
    heavy = (
        "aiohttp",
        "pydantic_core",
        "cryptography",
        "rich.table",
        "yaml",
        "asyncio",
    )
    code = (
        "import sys, derpctl.main\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    bare = run(
        "-c", f"import sys, typer; print([n for n in {heavy!r} if n in sys.modules])"
    )
    assert run("-c", code).stdout == bare.stdout


def test_help_is_fast():
    """Within three times what Python needs to import typer, in the same run."""

    def best(*arguments: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            run(*arguments)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best("-m", "derpctl", "--help") < 3 * best("-c", "import typer")


@pytest.mark.parametrize("words", [("version",), ("map", "lint", "--rules")])
def test_a_full_disk(words):
    """It is said in a line; a traceback would mean a bug of ours."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "derpctl", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 3
    assert ended.stderr == (
        b"derpctl: standard output: no space is left on its device; give it one that"
        b" has room\n"
    )


def test_context(derpctl, tmp_path):
    """One of several regions, by its name; a path is not one, and two are too many."""
    ended = derpctl("--context", "fra", "status")
    file = tmp_path / "home/.config/derpctl/fra.yaml"
    assert (ended.code, ended.err.split(": ")[1]) == (3, str(file))
    assert derpctl("--context", "a/b", "status").code == 2
    both = derpctl("--context", "fra", "--config", "x.yaml", "status")
    assert (both.code, "--config names a file already" in both.err) == (2, True)
