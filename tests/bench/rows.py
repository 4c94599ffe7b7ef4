"""The rows of the table: which load, which figure of its report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


# A generator that needs more of its core than this may be what was measured.
SHARE_LIMIT = 0.8

# A paced load below this share of its rate was not the load that was meant.
OFFERED_LIMIT = 0.98


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    unit: str
    load: Sequence[str]
    """Words for the generator; ``{seconds}`` stands for the measured time."""
    figure: str
    """Where in the generator's report the figure is, dotted."""
    beside: str | None = None
    """Where a second figure is, to be shown beside the first."""
    share: str | None = "measured.generator.share"
    """Where the generator's share of its core is; none when it does not matter."""
    paced: bool = False
    better: Literal["less", "more"] = "less"
    port: Literal["derp", "stun"] = "derp"
    meshed: bool = False
    """Whether senders are at one node, receivers at another; both cost."""


CPU = "measured.relay.cpu_us_each"
P99 = "measured.latency_us.p99"


def _pairs(name: str, title: str, *load: str, meshed: bool = False) -> Row:
    words = ("pairs", *load, "--seconds", "{seconds}")
    paced = "--rate" in load
    return Row(
        *(name, title, "µs/packet", words, CPU, P99 if paced else None),
        paced=paced,
        meshed=meshed,
    )


def _meshed(name: str, title: str, *load: str) -> Row:
    return _pairs(name, f"{title}, two nodes", *load, meshed=True)


def _login(name: str, title: str, *load: str) -> Row:
    return Row(name, title, "µs/login", ("handshakes", "--count", "1000", *load), CPU)


ROWS = (
    _pairs("10x32", "10 pairs x 32 in flight", "--pairs", "10", "--window", "32"),
    _pairs("10x4", "10 pairs x 4 in flight", "--pairs", "10", "--window", "4"),
    _pairs("100x2", "100 pairs x 2 in flight", "--pairs", "100", "--window", "2"),
    _pairs("5k", "100 pairs, 5,000/s in all", "--pairs", "100", "--rate", "5000"),
    _pairs("20k", "100 pairs, 20,000/s in all", "--pairs", "100", "--rate", "20000"),
    _pairs("128B", "10 pairs x 32, 128 B", "--pairs", "10", "--size", "128"),
    _meshed("mesh-10x32", "10 pairs x 32", "--pairs", "10", "--window", "32"),
    _meshed("mesh-5k", "100 pairs, 5,000/s", "--pairs", "100", "--rate", "5000"),
    Row(
        "overload",
        "10 pairs x 1,024 in flight",
        "delivered",
        ("overload", "--pairs", "10", "--window", "1024", "--seconds", "{seconds}"),
        "measured.delivered_share",
        better="more",
    ),
    _login("login", "TLS and login, as Go's client", "--hybrid"),
    _login("login-x25519", "TLS and login, X25519 only"),
    Row(
        "idle",
        "idle TLS client, of 2,000",
        "KiB RSS",
        ("idle", "--clients", "2000"),
        "memory.rss_kib_each",
        share=None,
    ),
    Row(
        "silent",
        "silent TCP connection, of 2,000",
        "KiB RSS",
        ("silent", "--rate", "2000", "--seconds", "1", "--watch", "1.5"),
        "rss_kib.each",
        share=None,
    ),
    Row(
        "stun",
        "STUN, 20,000/s by 32",
        "µs/request",
        ("stun", "--rate", "20000", "--burst", "32", "--seconds", "{seconds}"),
        CPU,
        P99,
        paced=True,
        port="stun",
    ),
)

BY_NAME = {row.name: row for row in ROWS}
