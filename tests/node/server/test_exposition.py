"""The text that Prometheus reads: names as they are, labels in their order."""

import math
import re

from derpnode.server.exposition import counter, exposition, family, histogram, number


def test_numbers():
    """Whole numbers have no point; infinities are as Go writes them."""
    values = [0, 5.0, 1.5, 2**63, True, math.inf, -math.inf, 1e-9]
    written = ["0", "5", "1.5", "9223372036854775808", "1", "+Inf", "-Inf", "1e-09"]
    assert [number(value) for value in values] == written


def test_escapes():
    """Help and labels may hold what would end a line or a value."""
    metric = family("gauge", "x", "a\\b\nc", [({"l": 'q"\\\n'}, 1)])
    assert exposition([metric]) == (
        '# HELP x a\\\\b\\nc\n# TYPE x gauge\nx{l="q\\"\\\\\\n"} 1\n'
    )


def test_counters_keep_their_names():
    """The client library would write `derp_accepts_total`."""
    assert exposition([counter("derp_accepts", "Text.", 1)]) == (
        "# HELP derp_accepts Text.\n# TYPE derp_accepts counter\nderp_accepts 1\n"
    )


def test_histogram_bounds_are_inclusive():
    """A value that is a bound is in that bucket. Source: Prometheus, `le`."""
    text = exposition([histogram("h", "Text.", (1, 2), [(1, 1), (1.5, 1)], 2.5)])
    assert re.findall(r"h_bucket(\S+ \d+)", text) == [
        '{le="1"} 1',
        '{le="2"} 2',
        '{le="+Inf"} 2',
    ]
