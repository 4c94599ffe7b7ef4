"""Runs one target under libFuzzer, guided by coverage; it ends when the process does.

Started by ``python -m tests.fuzz``. Needs atheris: requirements/fuzz.in.
"""

import sys
import tempfile
from pathlib import Path

import atheris


INSTRUMENTED = ["derpctl", "derpnode", "h11", "wsproto", "yarl"]

with atheris.instrument_imports(include=INSTRUMENTED):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.slow import bounded  # noqa: E402 - the order is the point


RSS_LIMIT = 1024
"""Megabytes that a run may take, its corpus included."""


def main(name: str, seconds: str) -> None:
    """Fuzz a target for so many seconds."""
    fuzzed = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(fuzzed.seeds):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        options = {
            "max_total_time": seconds,
            "max_len": fuzzed.longest,
            "rss_limit_mb": RSS_LIMIT,
            "timeout": 30,
            "print_final_stats": 1,
            "verbosity": 0,
            "artifact_prefix": f"{tempfile.gettempdir()}/fuzz-{name}-",
        }
        arguments = [f"-{key}={value}" for key, value in options.items()]
        atheris.Setup([sys.argv[0], *arguments, corpus], bounded(fuzzed.run))
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
