"""`derpctl tune`: what is recommended of a kernel, shipped, and found."""

import json
import resource
from pathlib import Path

import pytest

from derpctl.tune.files import File, text_of
from derpctl.tune.judge import judge
from derpctl.tune.kernel import AVAILABLE, Missed, read_kernel
from derpctl.tune.recommended import (
    MODULES,
    OPEN_FILES,
    SETTINGS,
    Comparison,
    Setting,
)
from derpnode.plane.python.acceptor import BACKLOG
from derpnode.server.stun import _RECEIVE_BUFFER
from tests.support.docs import ROOT


SHIPPED = {
    File.SYSCTL: ROOT / "packaging/sysctl/60-derpmesh.conf",
    File.MODULES: ROOT / "packaging/modules-load/derpmesh.conf",
}
BY_NAME = {setting.name: setting for setting in SETTINGS}


@pytest.fixture
def proc(tmp_path):
    """The files of a kernel that is set as we wish; tests spoil one."""
    for setting in SETTINGS:
        write(tmp_path, setting.name, setting.value.replace(" ", "\t"))
    write(tmp_path, AVAILABLE, "reno bbr cubic")
    return tmp_path


@pytest.fixture
def many_files(monkeypatch):
    """A shell that may open as many files as it likes."""
    limit = (OPEN_FILES, OPEN_FILES)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limit)


def place(proc, name):
    return proc / "sys" / name.replace(".", "/")


def write(proc, name, value):
    path = place(proc, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


@pytest.mark.parametrize("file", SHIPPED)
def test_shipped_files_are_printed(derpctl, file):
    """What the package installs is what `--print` prints; else print it there anew."""
    ended = derpctl("tune", "--print", file.value)
    assert ended == (0, SHIPPED[file].read_text("utf-8"), "")


def test_the_usual_file(derpctl):
    """Without a word more it is that of sysctl."""
    assert derpctl("tune").out == text_of(File.SYSCTL)


def test_listing(derpctl):
    """As JSON it is all settings, those that are only checked too."""
    found = json.loads(derpctl("tune", "-o", "json").out)
    assert found["kind"] == "Tune"
    assert [one["name"] for one in found["settings"]] == list(BY_NAME)
    assert [one["name"] for one in found["modules"]] == [one.name for one in MODULES]


def test_lines_of_the_file_are_settings():
    """One line each, and a dash before those that a kernel may not have."""
    lines = text_of(File.SYSCTL).splitlines()
    found = [line for line in lines if line and not line.startswith("#")]
    assert "net.core.somaxconn = 4096" in found
    assert "-net.ipv4.tcp_congestion_control = bbr" in found
    assert len(found) == sum(setting.is_written for setting in SETTINGS)


def test_what_systemd_raises_is_not_lowered():
    """Systemd sets these to all that can be, so the file must be silent on them."""
    text = text_of(File.SYSCTL)
    assert "fs.file-max" not in text
    assert "fs.nr_open" not in text


def test_every_module_that_is_needed_is_loaded():
    """A setting whose module nobody loads would silently not be made."""
    needed = {setting.needs for setting in SETTINGS} - {""}
    assert needed == {module.name for module in MODULES}


def test_what_we_ask_for_is_given():
    """The kernel caps what listeners ask for: it must not be less than that."""
    assert int(BY_NAME["net.core.somaxconn"].value) >= BACKLOG
    assert int(BY_NAME["net.core.rmem_max"].value) >= _RECEIVE_BUFFER


@pytest.mark.usefixtures("many_files")
def test_all_is_well(derpctl, proc):
    """Exits 0, and says how many were looked at."""
    ended = derpctl("tune", "--check", "--proc", proc)
    assert ended == (0, f"{len(SETTINGS) + 1} settings · none to be changed\n", "")


@pytest.mark.usefixtures("many_files")
def test_one_is_off(derpctl, proc):
    """Exits 9, and names value, wish and remedy."""
    write(proc, "net.core.somaxconn", "128")
    ended = derpctl("tune", "--check", "--proc", proc)
    assert (ended.code, ended.err) == (9, "")
    assert ended.out.splitlines() == [
        "net.core.somaxconn = 128: wanted is at least 4096;"
        " run: sysctl -w net.core.somaxconn=4096",
        "to have it so after a restart: derpctl tune --print sysctl >"
        " /etc/sysctl.d/60-derpmesh.conf",
        f"{len(SETTINGS) + 1} settings · 1 to be changed",
    ]


@pytest.mark.usefixtures("many_files")
def test_one_is_off_as_json(derpctl, proc):
    """The same for programs, with the reason."""
    write(proc, "fs.nr_open", "1024")
    ended = derpctl("tune", "--check", "--proc", proc, "-o", "json")
    found = json.loads(ended.out)
    assert (ended.code, found["kind"]) == (9, "TuneCheck")
    assert found["items"] == [
        {
            "name": "fs.nr_open",
            "value": "1024",
            "wanted": "at least 1048576",
            "reason": BY_NAME["fs.nr_open"].reason,
            "remedy": "run: sysctl -w fs.nr_open=1048576",
        }
    ]


@pytest.mark.usefixtures("many_files")
def test_no_bbr(derpctl, proc):
    """Where the kernel has no bbr now, its module comes first."""
    write(proc, "net.ipv4.tcp_congestion_control", "cubic")
    write(proc, AVAILABLE, "reno cubic")
    ended = derpctl("tune", "--check", "--proc", proc)
    assert ended.code == 9
    assert "= cubic: wanted is bbr; run: modprobe tcp_bbr && sysctl" in ended.out


@pytest.mark.usefixtures("many_files")
def test_no_firewall_with_states(derpctl, proc):
    """What a kernel does not have is not wrong, but told."""
    name = "net.netfilter.nf_conntrack_max"
    place(proc, name).unlink()
    ended = derpctl("tune", "--check", "--proc", proc)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == (
        f"note: {name}: this kernel has no such setting now; nf_conntrack is not loaded"
    )


@pytest.mark.usefixtures("many_files")
def test_unreadable(derpctl, proc):
    """What cannot be read is told with the reason, and is not a traceback."""
    name = "net.core.somaxconn"
    place(proc, name).unlink()
    place(proc, name).mkdir()
    ended = derpctl("tune", "--check", "--proc", proc)
    assert ended.code == 0
    path = place(proc, name)
    assert f"note: {name}: {path} cannot be read: is a directory\n" in ended.out


def test_few_files(proc):
    """A low limit of descriptors is found; none at all is well."""
    reading = read_kernel(proc)
    (finding,) = judge(reading, 1024).findings
    assert str(finding) == (
        "ulimit -Hn = 1024: wanted is at least 65536; set LimitNOFILE= of a unit,"
        " ulimits of a container, or limits.conf(5)"
    )
    assert judge(reading, resource.RLIM_INFINITY).findings == []


@pytest.mark.parametrize(
    ("comparison", "wanted", "well", "wrong"),
    [
        (Comparison.AT_LEAST, "5", ["5", "6"], ["4"]),
        (Comparison.AT_MOST, "5", ["5", "4"], ["6"]),
        (Comparison.EXACTLY, "fq", ["fq"], ["fq_codel"]),
        (Comparison.COVERS, "10 20", ["10\t20", "1 30"], ["11 20", "10 19"]),
    ],
)
def test_comparisons(comparison, wanted, well, wrong):
    """A machine that was given more than we ask for is not complained of."""
    setting = Setting("a.b", wanted, comparison, "because")
    assert all(setting.is_met_by(value) for value in well)
    assert not any(setting.is_met_by(value) for value in wrong)


def test_nonsense_of_a_kernel(proc):
    """A value that is none of what Linux writes is told, and is not a traceback."""
    write(proc, "net.core.somaxconn", "many")
    (finding,) = judge(read_kernel(proc), OPEN_FILES).findings
    assert (finding.name, finding.value) == ("net.core.somaxconn", "many")


def test_this_kernel():
    """The kernel of this machine is read: names are spelt as Linux has them."""
    reading = read_kernel(Path("/proc"))
    assert not isinstance(reading["fs.nr_open"], Missed)
    judgement = judge(reading, OPEN_FILES)
    assert judgement.looked_at + len(judgement.unread) == len(SETTINGS) + 1


def test_check_and_print(derpctl):
    """Both at once mean nothing."""
    ended = derpctl("tune", "--check", "--print", "sysctl")
    assert ended.code == 2
    assert ended.err == (
        "derpctl: --print sysctl: --check prints no file; give one of both\n"
    )
