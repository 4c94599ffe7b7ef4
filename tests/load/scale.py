"""How large the loads are: whole with `DERPMESH_SOAK=1`, else a tenth of it.

CI runs a tenth, in size or in time, whichever the fact does not depend on.
"""

import os
from typing import TypeVar


T = TypeVar("T")

WHOLE = os.environ.get("DERPMESH_SOAK") == "1"

LIMIT = 1_200 if WHOLE else 170
"""Seconds that one test may take, on a machine that others keep busy."""


def sized(whole: T, tenth: T) -> T:
    """Choose by the size of this run."""
    return whole if WHOLE else tenth
