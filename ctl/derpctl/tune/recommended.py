"""The settings of the kernel that we recommend, each with its reason: the one place.

The files under ``packaging`` are printed from here, and `derpctl tune --check` judges
by it. What is usual is so on Debian 12.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from derpctl.documents import document


class Comparison(StrEnum):
    """Which values will do."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    EXACTLY = "exactly"
    COVERS = "all of"
    """A range of numbers, `FIRST LAST`; a wider one will do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the kernel."""

    name: str
    """As `sysctl` has it: words with dots between them."""

    value: str
    comparison: Comparison
    reason: str
    """What is wrong without it."""

    needs: str = ""
    """The module that brings it, where it may not be there."""

    is_written: bool = True
    """Whether it is in the file. False: systemd raises it higher than we would."""

    def is_met_by(self, value: str) -> bool:
        """Tell whether a value of the kernel will do; what is none does not."""
        try:
            return _MEETS[self.comparison](value.split(), self.value.split())
        except (ValueError, IndexError):
            return False

    @property
    def wanted(self) -> str:
        """Say what will do."""
        if self.comparison is Comparison.EXACTLY:
            return self.value
        return f"{self.comparison.value} {self.value}"


def _at_least(found: Sequence[str], wanted: Sequence[str]) -> bool:
    return int(found[0]) >= int(wanted[0])


def _at_most(found: Sequence[str], wanted: Sequence[str]) -> bool:
    return int(found[0]) <= int(wanted[0])


def _covers(found: Sequence[str], wanted: Sequence[str]) -> bool:
    first, last = map(int, found)
    return first <= int(wanted[0]) and last >= int(wanted[1])


_MEETS: dict[Comparison, Callable[[Sequence[str], Sequence[str]], bool]] = {
    Comparison.AT_LEAST: _at_least,
    Comparison.AT_MOST: _at_most,
    Comparison.EXACTLY: lambda found, wanted: found == wanted,
    Comparison.COVERS: _covers,
}


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the kernel that must be there before its settings can be made."""

    name: str
    reason: str


SETTINGS = (
    Setting(
        "net.core.somaxconn",
        "4096",
        Comparison.AT_LEAST,
        "When a node starts, all clients come at once. Its listeners ask for a queue of"
        " 4096 and get no more than this; what finds no room waits a second or more.",
    ),
    Setting(
        "net.ipv4.tcp_max_syn_backlog",
        "8192",
        Comparison.AT_LEAST,
        "The same, for connections that are half open: clients far away stay that for a"
        " third of a second. Usual: 128 to 4096, by memory.",
    ),
    Setting(
        "net.ipv4.tcp_syncookies",
        "1",
        Comparison.AT_LEAST,
        "A flood of half-open connections does not lock clients out.",
    ),
    Setting(
        "net.core.netdev_max_backlog",
        "16384",
        Comparison.AT_LEAST,
        "Relayed packets are small and come in bursts; beyond this the kernel drops"
        " them before anybody sees them. Usual: 1000.",
    ),
    Setting(
        "net.core.rmem_max",
        "1048576",
        Comparison.AT_LEAST,
        "STUN asks for room for a burst of 1 MiB and gets no more than this. A request"
        " that is lost makes a client believe that the node is far. Usual: 212992.",
    ),
    Setting(
        "net.core.default_qdisc",
        "fq",
        Comparison.EXACTLY,
        "Sends what connections have to send in turns, so that one that downloads does"
        " not delay the others; and paces it, as bbr wants. It is for interfaces that"
        " come up later: restart the machine. Usual: pfifo_fast or fq_codel.",
        needs="sch_fq",
    ),
    Setting(
        "net.ipv4.tcp_congestion_control",
        "bbr",
        Comparison.EXACTLY,
        "A relay is for those who have a bad path. cubic takes every lost packet for a"
        " full pipe and slows down; bbr measures the pipe. Usual: cubic.",
        needs="tcp_bbr",
    ),
    Setting(
        "net.ipv4.tcp_notsent_lowat",
        "131072",
        Comparison.AT_MOST,
        "Packets for a slow client wait in the node, which drops the oldest, rather"
        " than in the kernel, where they grow stale by megabytes. Usual: no limit.",
    ),
    Setting(
        "net.ipv4.tcp_slow_start_after_idle",
        "0",
        Comparison.EXACTLY,
        "Clients are silent for minutes and then want all of it. Usual: 1, each time"
        " slowly at first.",
    ),
    Setting(
        "net.ipv4.tcp_mtu_probing",
        "1",
        Comparison.AT_LEAST,
        "Finds a size that gets through where a firewall swallows the message that"
        " packets are too large: such a client would connect, and then hang. Usual: 0.",
    ),
    Setting(
        "net.ipv4.ip_local_port_range",
        "10240 65535",
        Comparison.COVERS,
        "With a proxy in front on this machine each client takes one port of these."
        " Usual: 32768 60999, which is for 28,000.",
    ),
    Setting(
        "net.netfilter.nf_conntrack_max",
        "524288",
        Comparison.AT_LEAST,
        "A firewall with states has one for each client, and one for each that asks by"
        " STUN. When all are taken, new clients are dropped, and the kernel's log says"
        " `table full`. Takes about 320 bytes for each that there is. Usual: 262144"
        " or less.",
        needs="nf_conntrack",
    ),
    Setting(
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        "86400",
        Comparison.AT_MOST,
        "A client that vanished keeps its state for so many seconds. Those that are"
        " there say something each minute. Usual: 432000, five days.",
        needs="nf_conntrack",
    ),
    Setting(
        "fs.file-max",
        "2097152",
        Comparison.AT_LEAST,
        "Files and connections of the whole machine.",
        is_written=False,
    ),
    Setting(
        "fs.nr_open",
        "1048576",
        Comparison.AT_LEAST,
        "Files and connections that a process may ask for; the unit asks for so many.",
        is_written=False,
    ),
)
"""In the order of the file: by what they are about."""

MODULES = (
    Module("tcp_bbr", "net.ipv4.tcp_congestion_control = bbr needs it."),
    Module("sch_fq", "net.core.default_qdisc = fq needs it."),
    Module(
        "nf_conntrack",
        "So that its settings are made before a firewall loads it, and not missed. By"
        " itself it tracks nothing.",
    ),
)
"""What must be loaded before the file can be applied."""

OPEN_FILES = 65_536
"""Connections that a node should at least be allowed: one descriptor each.

The unit asks for 1,048,576; this is what a shell or a container should give.
"""


def listing() -> dict[str, object]:
    """Make the document of `derpctl tune`."""
    return document(
        "Tune",
        settings=[
            {
                "name": setting.name,
                "value": setting.value,
                "comparison": setting.comparison.value,
                "reason": setting.reason,
                "module": setting.needs or None,
                "written": setting.is_written,
            }
            for setting in SETTINGS
        ],
        modules=[{"name": one.name, "reason": one.reason} for one in MODULES],
    )
