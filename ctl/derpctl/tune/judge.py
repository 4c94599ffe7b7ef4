"""Judges what a kernel is set to. Pure."""

import resource
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from derpctl.documents import document
from derpctl.tune.kernel import AVAILABLE, Missed, Reading
from derpctl.tune.recommended import OPEN_FILES, SETTINGS, Setting


_KEEP = "to have it so after a restart: derpctl tune --print sysctl >"
_FILE = "/etc/sysctl.d/60-derpmesh.conf"


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting that will not do."""

    name: str
    value: str
    wanted: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value}: wanted is {self.wanted}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found on a machine."""

    looked_at: int
    """Settings that were read."""

    findings: Sequence[Finding]
    unread: Sequence[str]
    """What could not be read, and why, a line each; it is not known to be wrong."""

    def lines(self) -> Iterator[str]:
        """Say it to people: what is wrong, what is not known, and the sum."""
        yield from map(str, self.findings)
        yield from (f"note: {line}" for line in self.unread)
        wrong = len(self.findings)
        if wrong:
            yield f"{_KEEP} {_FILE}"
        yield f"{self.looked_at} settings · {wrong or 'none'} to be changed"

    def document(self) -> dict[str, object]:
        """Make the document of `derpctl tune --check`."""
        return document(
            "TuneCheck",
            lookedAt=self.looked_at,
            items=[
                {
                    "name": one.name,
                    "value": one.value,
                    "wanted": one.wanted,
                    "reason": one.reason,
                    "remedy": one.remedy,
                }
                for one in self.findings
            ],
            unread=list(self.unread),
        )


def judge(reading: Reading, open_files: int) -> Judgement:
    """Compare what is with what we recommend.

    Args:
        reading: What the settings are.
        open_files: Hard limit of descriptors of a process.
    """
    findings, unread, looked_at = [], [], 1
    for setting in SETTINGS:
        value = reading[setting.name]
        if isinstance(value, Missed):
            unread.append(f"{setting.name}: {_why(setting, value)}")
            continue
        looked_at += 1
        if not setting.is_met_by(value):
            findings.append(_finding(setting, value, _remedy(setting, reading)))
    findings += _files(open_files)
    return Judgement(looked_at, findings, unread)


def _why(setting: Setting, missed: Missed) -> str:
    if missed.is_absent and setting.needs:
        return f"{missed.reason}; {setting.needs} is not loaded"
    return missed.reason


def _finding(setting: Setting, value: str, remedy: str) -> Finding:
    return Finding(setting.name, value, setting.wanted, setting.reason, remedy)


def _remedy(setting: Setting, reading: Reading) -> str:
    """Say what to do; a module that is not there comes first."""
    change = f"sysctl -w {shlex.quote(f'{setting.name}={setting.value}')}"
    available = reading[AVAILABLE]
    if (
        setting.name == "net.ipv4.tcp_congestion_control"
        and isinstance(available, str)
        and setting.value not in available.split()
    ):
        return f"run: modprobe {setting.needs} && {change}"
    return f"run: {change}"


def _files(limit: int) -> Iterator[Finding]:
    if limit == resource.RLIM_INFINITY or limit >= OPEN_FILES:
        return
    yield Finding(
        "ulimit -Hn",
        str(limit),
        f"at least {OPEN_FILES}",
        "One descriptor a connection. It is the limit of what is started here; the"
        " unit of systemd has its own.",
        "set LimitNOFILE= of a unit, ulimits of a container, or limits.conf(5)",
    )
