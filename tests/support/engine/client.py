"""The docker command, for what tests arrange."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO


_TAIL = 30  # lines of a failed command that are worth showing


@dataclass(eq=False)
class DockerFailed(Exception):
    """A docker command did not succeed."""

    words: Sequence[str]
    output: str

    def __str__(self) -> str:
        tail = "\n".join(self.output.splitlines()[-_TAIL:])
        return f"docker {' '.join(self.words)}:\n{tail}"


def docker(
    environment: Mapping[str, str], *words: str, stdin: IO[bytes] | None = None
) -> str:
    """Run one command of docker, and return what it printed, without the last newline.

    Raises:
        DockerFailed: It said no.
    """
    result = subprocess.run(
        ["docker", *words],
        env=dict(environment),
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise DockerFailed(words, result.stdout + result.stderr)
    return result.stdout.strip()


def is_there(environment: Mapping[str, str], image: str, key: str) -> bool:
    """Tell whether an image is there, and made of what the key stands for."""
    form = f'{{{{index .Config.Labels "{KEY}"}}}}'
    try:
        return docker(environment, "image", "inspect", "--format", form, image) == key
    except DockerFailed:
        return False


KEY = "derpmesh.key"
"""Label of images that are made here; its value changes with what they are made of."""
