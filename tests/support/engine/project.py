"""The image of this project, built from the Dockerfile that is shipped."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tests.support.engine.base import BASE
from tests.support.engine.client import KEY, DockerFailed, docker, is_there


logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]

IMAGE = "derpmesh:dev"
"""What tests, compose and chart call it here."""

INPUTS = (
    *("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"),
    *("requirements/run.txt", "node/derpnode", "mesh/derpmesh", "ctl/derpctl"),
)
"""What it is made of."""


def project(environment: Mapping[str, str]) -> None:
    """Have the image of this tree in the engine.

    Raises:
        DockerFailed: It cannot be built; the last lines are in the message.
    """
    key = _key(environment)
    if is_there(environment, IMAGE, key):
        return
    logger.info("building %s", IMAGE)
    docker(environment, *build_words(key), "--tag", IMAGE, str(ROOT))
    docker(environment, "image", "prune", "--force", "--filter", f"label={KEY}")
    logger.info("image %s is there", IMAGE)


def build_words(key: str) -> list[str]:
    """Say how it is built: on the network of the machine, as the engine has none."""
    label = f"{KEY}={key}"
    return ["build", "--network", "host", "--progress", "plain", "--label", label]


def _key(environment: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    with suppress(DockerFailed):  # where it is pulled, the builder keeps it to itself
        base = docker(environment, "image", "inspect", "--format", "{{.Id}}", BASE)
        digest.update(base.encode())
    for path in _files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _files() -> Iterator[Path]:
    for name in INPUTS:
        path = ROOT / name
        if path.is_file():
            yield path
        for found in sorted(path.rglob("*")):
            if found.is_file() and "__pycache__" not in found.parts:
                yield found
