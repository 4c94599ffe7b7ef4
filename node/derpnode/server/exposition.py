"""Families of metrics, and the text that Prometheus reads.

The client library adds `_total` to the names of counters and sorts labels. derper
does neither, and its names are what dashboards know, so the text is written here.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What the text is, for the header of that name."""

Rows = Iterable[tuple[dict[str, str], float]]
"""Labels and values."""

_TEXT_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def family(kind: str, name: str, text: str, rows: Rows) -> Metric:
    """Make a family whose samples bear its own name, whatever its type."""
    metric = Metric(name, text, kind)
    metric.samples = [Sample(name, labels, value) for labels, value in rows]
    return metric


def counter(name: str, text: str, value: float) -> Metric:
    """Make a counter with no labels."""
    return family("counter", name, text, [({}, value)])


def gauge(name: str, text: str, value: float) -> Metric:
    """Make a gauge with no labels."""
    return family("gauge", name, text, [({}, value)])


def untyped(name: str, text: str, value: float) -> Metric:
    """Make what derper gives no type, with no labels."""
    return family("untyped", name, text, [({}, value)])


def by(
    label: str, values: Mapping[str, float], known: Iterable[str] = ()
) -> Iterator[tuple[dict[str, str], float]]:
    """Yield a row for each value of a label; those known are there from the start."""
    for value in dict.fromkeys([*known, *values]):
        yield {label: value}, values.get(value, 0)


def histogram(
    name: str,
    text: str,
    bounds: Sequence[float],
    counts: Iterable[tuple[float, int]],
    total: float,
) -> Metric:
    """Make a histogram with no labels.

    Args:
        name: Its name.
        text: Its help.
        bounds: Upper bounds of its buckets, without +Inf.
        counts: Values and how often; any value of the same bucket will do.
        total: Sum of what was observed.
    """
    buckets: Counter[int] = Counter()
    for value, count in counts:
        buckets[bisect.bisect_left(bounds, value)] += count
    metric = Metric(name, text, "histogram")
    so_far = 0
    for index, bound in enumerate([*bounds, math.inf]):
        so_far += buckets[index]
        metric.samples.append(Sample(f"{name}_bucket", {"le": number(bound)}, so_far))
    metric.samples.append(Sample(f"{name}_sum", {}, total))
    metric.samples.append(Sample(f"{name}_count", {}, so_far))
    return metric


def exposition(metrics: Iterable[Metric]) -> str:
    """Write families as text, in the order they come."""
    return "".join(line for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    # The library strips `_total` from the names of its own counters, not of samples.
    name = metric.name
    if metric.type == "counter" and metric.samples:
        name = metric.samples[0].name
    kind = "untyped" if metric.type == "unknown" else metric.type
    yield f"# HELP {name} {metric.documentation.translate(_TEXT_ESCAPES)}\n"
    yield f"# TYPE {name} {kind}\n"
    for sample in metric.samples:
        labels = ",".join(
            f'{label}="{value.translate(_LABEL_ESCAPES)}"'
            for label, value in sample.labels.items()
        )
        braces = f"{{{labels}}}" if labels else ""
        yield f"{sample.name}{braces} {number(sample.value)}\n"


def number(value: float) -> str:
    """Write a value as Go does; whole numbers have no point."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value):
        return str(int(value))
    return repr(float(value))
