"""The delays between attempts."""

from itertools import islice

import pytest

from derpmesh.link.backoff import FIRST, MOST, delays


def test_bounds_double_up_to_a_limit():
    """From a quarter of a second to a quarter of a minute."""
    asked = []

    def uniform(low, high):
        asked.append((low, high))
        return high

    found = list(islice(delays(uniform), 9))
    assert found == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert asked == [(0, high) for high in found]
    assert (FIRST, MOST) == (0.25, 15.0)


def test_jitter_is_full():
    """Nodes that lost the same peer do not march in step: any delay is as likely."""
    found = [list(islice(delays(), 8))[-1] for _ in range(400)]
    assert min(found) < MOST / 10
    assert max(found) > MOST * 9 / 10
    assert sum(found) / len(found) == pytest.approx(MOST / 2, rel=0.2)
