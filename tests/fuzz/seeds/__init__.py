"""Where fuzzers begin: what stock clients said, and what was once wrong.

One text file a target, one seed a line, in hexadecimal; ``#`` begins a comment.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path


HERE = Path(__file__).parent


def read(target: str) -> list[bytes]:
    """Read the seeds of a target."""
    return list(_read(HERE / f"{target}.txt"))


def _read(path: Path) -> Iterator[bytes]:
    for line in path.read_text().splitlines() if path.exists() else ():
        digits = line.partition("#")[0].strip()
        if digits:
            yield bytes.fromhex(digits)


def write(target: str, seeds: Sequence[bytes]) -> None:
    """Add seeds to a target, those that are not there yet."""
    path = HERE / f"{target}.txt"
    known = set(read(target))
    with path.open("a") as file:
        for seed in seeds:
            if seed not in known:
                file.write(f"{seed.hex()}\n")
