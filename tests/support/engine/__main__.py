"""Brings the engine of the tests up and down: `python -m tests.support.engine`."""

import argparse
import logging
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.support.engine.client import DockerFailed
from tests.support.engine.daemon import EngineFailed, NoEngine
from tests.support.engine.use import engine, keep, stop


_SHOWN = ("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_BUILDKIT", "PATH")


def main(arguments: Sequence[str] | None = None) -> int:
    """Start it, stop it, or run one command with it."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.engine")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start it, with its images; print how to use it")
    commands.add_parser("stop", help="stop it, if it was started here")
    run = commands.add_parser("run", help="run a command with it")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if given.command == "start":
            sys.stdout.write(_exports(keep()))
        elif given.command == "stop":
            stop()
        else:
            return subprocess.run(given.words, env=engine(), check=False).returncode
    except (NoEngine, EngineFailed, DockerFailed) as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - it says it all
        return 1
    return 0


def _exports(environment: Mapping[str, str]) -> str:
    named = [name for name in _SHOWN if name in environment]
    return "".join(
        f"export {name}={shlex.quote(environment[name])}\n" for name in named
    )


if __name__ == "__main__":
    sys.exit(main())
