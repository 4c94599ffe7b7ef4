"""Compiles what tests need beside Python: `python -m tests.support.build`.

Real peers with Go, the load generator with Rust. What lacks its tool is left out:
the tests that need it say so themselves.
"""

import sys

from tests.bench.build import CrateNotBuilt, derpload
from tests.support.peers import PEERS, BuildFailed, MissingTool, peer


def main() -> int:
    """Build everything; say what could not be."""
    try:
        derpload()
    except (MissingTool, CrateNotBuilt) as exc:
        print(f"build: {exc}", file=sys.stderr)  # noqa: T201
    try:
        for name in PEERS:
            peer(name)
    except (MissingTool, BuildFailed) as exc:
        print(f"build: {exc}", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
