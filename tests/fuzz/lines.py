"""Fuzzes with hypothesis, where there is no atheris: towards inputs that reach more."""

import random
import sys
import time
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.slow import bounded
from tests.fuzz.targets import Fuzzed


Line = tuple[CodeType, int]

_EXAMPLES = 100  # of one round


def fuzz(fuzzed: Fuzzed, seconds: float) -> int:
    """Fuzz a target for so many seconds; return how often it was run.

    Raises:
        Exception: Whatever a target let through, with the input in its notes.
    """
    reached: set[Line] = set()
    corpus = [b"", *fuzzed.seeds]
    deadline = time.monotonic() + seconds
    executions = 0
    while time.monotonic() < deadline:
        found = _round(fuzzed, tuple(corpus))
        executions += len(found)
        for said, lines in found.items():
            if not lines <= reached:
                reached |= lines
                corpus.append(said)
    return executions


def _round(fuzzed: Fuzzed, corpus: Sequence[bytes]) -> dict[bytes, set[Line]]:
    """Try some inputs; return the lines that each came by."""
    run = bounded(fuzzed.run)
    found: dict[bytes, set[Line]] = {}

    @hypothesis.seed(random.getrandbits(64))
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.target, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(_inputs(corpus, fuzzed.longest))
    def explore(said: bytes) -> None:
        found[said] = _lines(run, said)
        hypothesis.target(float(len(found[said])))

    explore()
    return found


@st.composite
def _inputs(draw: st.DrawFn, corpus: Sequence[bytes], longest: int) -> bytes:
    """Make an input: of nothing, or of one or two that are known."""
    base = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(base)))
        end = min(len(base), start + draw(st.sampled_from([0, 1, 2, 4, 40])))
        if draw(st.booleans()):
            base[start:end] = draw(st.binary(max_size=8))
        else:
            other = draw(st.sampled_from(corpus))
            cut = draw(st.integers(0, len(other)))
            base[start:end] = other[cut : cut + draw(st.integers(0, 64))]
    return bytes(base[:longest])


def _lines(run: Any, said: bytes) -> set[Line]:
    """Run a target; return the lines of ours that it came by."""
    found: set[Line] = set()

    def line(frame: FrameType, _event: str, _argument: object) -> Any:
        found.add((frame.f_code, frame.f_lineno))
        return line

    def call(frame: FrameType, _event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        return line if "/derpnode/" in name or "/derpctl/" in name else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        run(said)
    finally:
        sys.settrace(before)
    return found
