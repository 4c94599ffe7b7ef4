"""Nodes under a real systemd: the package is installed into a machine of its own.

The tests of this file share the machine, and each leaves it as it was: the page has
been followed, and a node serves. At last the package is removed.
"""

import hashlib
import re
import shutil
import ssl
import sys
from contextlib import contextmanager

import pytest
import yaml

from derpctl.authority import Authority
from derpmesh.daemon import EXIT_CONFIG
from derpnode.wire.keys import PrivateKey, node_key_text
from tests.docs.blocks import blocks_of, configuration
from tests.install.nspawn import ADDRESS, machine
from tests.install.packages import PACKAGING, package
from tests.install.units import exposure
from tests.support.docs import ROOT
from tests.support.peers import MissingTool


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

UNIT = "derpd@900a"
STATE = "/var/lib/private/derpd/900a"
CONFIG = "/etc/derpmesh/900a.yaml"
PAGE, TUNE, PACKAGES = (
    ROOT / f"docs/howto/{name}.md" for name in ("systemd", "tune", "packages")
)

LISTED, UNLISTED = bytes([0x33]) * 32, bytes([0x44]) * 32
"""Private keys of clients."""

FIRST_DYNAMIC, LAST_DYNAMIC = 61_184, 65_519  # systemd.exec(5), DynamicUser=

TAILSCALED = """\
import http.server, os, socketserver, subprocess

class Whois(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"Node": {}}')

    def address_string(self):
        return "the node"

os.mkdir("/run/tailscale")
socket = "/run/tailscale/tailscaled.sock"
with socketserver.UnixStreamServer(socket, Whois) as server:
    os.chmod(socket, 0o666)
    subprocess.run(["systemd-notify", "--ready"], check=True)
    server.serve_forever()
"""
"""Knows everybody, as far as a node can tell."""

TAKEN = (
    "import os, signal, socket; taken = socket.create_server(('', 443));"
    " os.system('systemd-notify --ready'); signal.pause()"
)
"""Has the port of the relay."""

_FIRST_LINE = re.compile(r"# ((?:~|/etc)/\S+)\n")


@pytest.fixture(scope="module")
def bare():
    """A machine with systemd, on which there is the package and what pages copy."""
    try:
        deb = package()
        with machine() as found:
            shutil.copy(deb, found.path("/root/derpmesh.deb"))
            shutil.copytree(PACKAGING, found.path("/root/clone/packaging"))
            yield found
    except MissingTool as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def debian(bare):
    """The same with the package installed."""
    bare.run("dpkg -i /root/derpmesh.deb")
    return bare


@pytest.fixture(scope="module")
def node(debian):
    """The same, once somebody has done all that the page says."""
    lineage = "/etc/letsencrypt/live/derp.example.com"
    pair = Authority().issue(["derp.example.com"])
    debian.write(f"{lineage}/fullchain.pem", pair.certificate.decode(), 0o600)
    debian.write(f"{lineage}/privkey.pem", pair.key.decode(), 0o600)
    for block in blocks_of(PAGE):
        if block.mark != "sh clone":  # that is for those who have no package
            follow(debian, block)
    return debian


def follow(debian, block):
    """Do what a block of the page says: write a file, or run commands."""
    match block.mark:
        case "sh systemd" | "sh clone":
            place = "cd /root/clone\n" if block.mark == "sh clone" else ""
            said = debian.sh(f"{place}{block.text}")
            assert said.returncode == 0, f"{block}: {said.stdout}"
        case "yaml derpd" | "yaml derpd part":
            debian.write(CONFIG, configuration(block), 0o640)
            debian.run(f"derpd --check-config --config {CONFIG}")
        case "ini systemd" | "yaml":
            name = _FIRST_LINE.match(block.text)
            assert name is not None, block
            debian.write(name[1].replace("~", "/root"), block.text)


def pid(debian):
    return int(debian.shows(UNIT, "MainPID"))


def restarts(debian):
    return int(debian.shows(UNIT, "NRestarts"))


def admit(debian):
    """List a client in the file of the page, and have the node read it."""
    key = node_key_text(PrivateKey(LISTED).public)
    debian.write("/etc/derpmesh/clients", f"{key}\n", 0o640)
    debian.run(f"systemctl reload {UNIT}")


@contextmanager
def visiting(debian, private):
    """A client on the machine; yields what it hears, a line each."""
    pem = debian.path(f"{STATE}/{ADDRESS}.crt").read_text()
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    words = (sys.executable, "-m", "tests.install.visitor")
    with debian.on_network(*words, ADDRESS, private.hex(), pin) as process:
        try:
            yield process.stdout
        finally:
            process.kill()


def test_without_the_package(bare):
    """What the page copies by hand gives the unit, the group and its folder."""
    for block in blocks_of(PAGE):
        if block.mark == "sh clone":
            follow(bare, block)
    assert "DynamicUser=yes" in bare.run("systemctl cat derpd@900a")
    assert bare.run("stat -c '%a %U %G' /etc/derpmesh") == "2750 root derpmesh"
    bare.run("rm /etc/*/derpmesh.conf /etc/systemd/system/derpd@.service")
    bare.run("rmdir /etc/derpmesh; groupdel derpmesh; systemctl daemon-reload")


def test_nothing_is_started_by_installing_it(debian):
    """It brings what a node needs, and waits for somebody to configure one."""
    assert debian.run("systemctl list-units --all --plain --no-legend 'derpd@*'") == ""
    assert debian.run("stat -c '%a %U %G' /etc/derpmesh") == "2750 root derpmesh"
    example = "/etc/derpmesh/example.yaml"
    assert "valid" in debian.run(f"derpd --check-config --config {example}")


def test_no_configuration(debian):
    """A node without its file fails at once, and says so; it is not tried again."""
    said = debian.sh("systemctl start derpd@nobody")
    assert said.returncode == 1
    assert debian.shows("derpd@nobody", "ExecMainStatus") == str(EXIT_CONFIG)
    assert debian.shows("derpd@nobody", "SubState") == "failed"
    log = debian.journal("derpd@nobody")
    assert "'/etc/derpmesh/nobody.yaml': cannot be read: No such file" in log


def test_the_page(node):
    """What the page says, done from top to bottom, gives a node that serves."""
    assert node.shows(UNIT, "ActiveState") == "active"
    assert node.shows(UNIT, "StatusText") == "serving: it takes clients"
    assert node.shows(UNIT, "UnitFileState") == "enabled"
    socket = "/run/derpd/900a/admin.sock"
    assert node.run(f"derpd-health --socket {socket}") == "ready"
    assert node.shows(UNIT, "MemoryMax") == str(2 << 30)


def test_its_user_is_nobody_else(node):
    """A uid of the dynamic ones, in the group of readers; one capability."""
    status = node.run(f"cat /proc/{pid(node)}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = int(fields["Uid"].split()[0])
    readers = int(node.run("getent group derpmesh").split(":")[2])
    assert FIRST_DYNAMIC <= uid <= LAST_DYNAMIC
    assert readers in map(int, fields["Groups"].split())
    assert int(fields["CapEff"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    limits = node.run(f"grep 'open files' /proc/{pid(node)}/limits").split()
    assert limits[3] == limits[4]  # as many as the machine gives, at once
    assert "file descriptors: the limit of" not in node.journal(UNIT)
    assert "derpd" not in node.path("/etc/passwd").read_text()


def test_the_sandbox_as_it_runs(node):
    """The score of the running unit, drop-ins and all."""
    assert exposure(node.run(f"systemd-analyze security --no-pager {UNIT}")) <= 2.0


def test_it_writes_nothing_but_its_state(node):
    """From inside, the file system is read-only, and homes are not there."""
    inside = f"nsenter -t {pid(node)} -m"
    for place in ("/etc/derpmesh", "/usr/lib/derpmesh", "/root"):
        said = node.sh(f"{inside} touch {place}/x")
        assert said.returncode != 0, place
    node.run(f"{inside} touch {STATE}/x && rm {STATE}/x")


def test_reload_takes_new_files(node):
    """A client that is listed is let in after a reload, by the same process."""
    before = pid(node)
    admit(node)
    with visiting(node, LISTED) as heard:
        assert heard.readline() == "in\n"
    assert pid(node) == before
    assert node.shows(UNIT, "ActiveState") == "active"
    assert f"Reloaded {UNIT}" in node.journal(UNIT)


def test_a_credential_is_read(node):
    """The token that only root can read came to the node, and is what it asks for."""
    environ = node.run(f"tr '\\0' '\\n' </proc/{pid(node)}/environ")
    named = "/run/credentials/derpd@900a.service/token"
    assert f"DERPD_ADMIN__TOKEN_FILE={named}" in environ
    assert node.run("stat -c %a /etc/derpmesh/token") == "400"


def test_the_hook_of_certbot(node):
    """What it copied, a node can read, and nobody beyond its group."""
    group = node.run("getent group derpmesh").split(":")[2]
    user = f"setpriv --reuid=65000 --regid=65000 --groups={group}"
    assert "PRIVATE KEY" in node.run(f"{user} cat /etc/derpmesh/derp.key")
    assert node.run("stat -c '%a %U %G' /etc/derpmesh/derp.key") == "440 root derpmesh"


def test_the_mesh_key_is_rotated(node):
    """The node writes beside its key, so an operator needs one command."""
    before = node.path(f"{STATE}/mesh.key").read_text()
    node.run("derpctl key mesh rotate --key-file /root/new-mesh.key")
    after = node.path(f"{STATE}/mesh.key").read_text()
    assert after == node.path("/root/new-mesh.key").read_text() != before
    assert not node.path(f"{STATE}/mesh.key.previous").exists()


def test_kill(node):
    """A node that is killed is there again, and is the same one."""
    identity = node.path(f"{STATE}/derper.key").read_bytes()
    before, count, mark = pid(node), restarts(node), node.cursor()
    node.run(f"kill -9 {before}")
    node.await_journal(UNIT, f"Started {UNIT}", mark)
    assert pid(node) != before
    assert restarts(node) == count + 1
    assert node.path(f"{STATE}/derper.key").read_bytes() == identity


def test_a_node_that_hangs(node):
    """An event loop that does not turn is found by the watchdog, and started anew."""
    drop_in = "/etc/systemd/system/derpd@900a.service.d/watchdog.conf"
    node.write(drop_in, "[Service]\nWatchdogSec=2\n")
    node.run(f"systemctl daemon-reload; systemctl restart {UNIT}")
    before, mark = pid(node), node.cursor()
    node.run(f"kill -STOP {before}")
    node.await_journal(UNIT, "Watchdog timeout (limit 2s)!", mark)
    node.await_journal(UNIT, f"Started {UNIT}", mark)
    assert pid(node) != before
    node.run(f"rm {drop_in}; systemctl daemon-reload; systemctl restart {UNIT}")


def test_stop_tells_the_clients(node):
    """A client is told before it is closed, and the stop is a success."""
    admit(node)
    with visiting(node, LISTED) as heard:
        assert heard.readline() == "in\n"
        mark = node.cursor()
        node.run(f"systemctl stop {UNIT}")
        told = heard.read()
    assert "Restarting\n" in told
    assert told.splitlines()[-1].startswith("out: ")
    node.await_journal(UNIT, f"Stopped {UNIT}", mark)
    assert node.shows(UNIT, "Result") == "success"
    node.run(f"systemctl start {UNIT}")


def test_a_bad_configuration_is_not_tried_again(node):
    """It ends with 3 and a line that names the key; what is right starts it again."""
    good = node.path(CONFIG).read_text()
    node.write(CONFIG, good.replace("host: 203.0.113.10", "hots: 203.0.113.10"), 0o640)
    mark = node.cursor()
    assert node.sh(f"systemctl restart {UNIT}").returncode == 1
    assert node.shows(UNIT, "ExecMainStatus") == str(EXIT_CONFIG)
    assert node.shows(UNIT, "SubState") == "failed"
    assert node.shows(UNIT, "NRestarts") == "0"
    log = node.journal(UNIT, mark)
    assert "derpd: node.hots = '…': unknown key; did you mean host?" in log
    node.write(CONFIG, good, 0o640)
    node.run(f"systemctl start {UNIT}")


def test_a_port_that_is_taken(node):
    """Another program has it: one line names the address, and nothing spins."""
    node.run(f"systemctl stop {UNIT}")
    listen = "--unit=taken --service-type=notify -p NotifyAccess=all python3 -c"
    node.run(f'systemd-run {listen} "{TAKEN}"')
    mark = node.cursor()
    try:
        assert node.sh(f"systemctl start {UNIT}").returncode == 1
        assert node.shows(UNIT, "ExecMainStatus") == str(EXIT_CONFIG)
        log = node.journal(UNIT, mark)
    finally:
        node.run(f"systemctl stop taken; systemctl start {UNIT}")
    (line,) = [line for line in log.splitlines() if line.startswith("derpd: ")]
    assert line.startswith("derpd: derp.listen = "), log
    assert "already in use" in line, log
    assert "Traceback" not in log


def test_a_local_tailscaled(node):
    """Its socket, made by root for everybody, is within reach of the sandbox."""
    tree = yaml.safe_load(node.path(CONFIG).read_text())
    assert tree["admission"]["tailscaled"] == ["/run/tailscale/tailscaled.sock"]
    node.run(f"systemctl restart {UNIT}")
    with visiting(node, UNLISTED) as heard:
        assert heard.readline().startswith("out: ")
    node.write("/root/tailscaled.py", TAILSCALED)
    unit = "--unit=tailscaled --service-type=notify -p NotifyAccess=all"
    node.run(f"systemd-run {unit} python3 /root/tailscaled.py")
    with visiting(node, UNLISTED) as heard:
        assert heard.readline() == "in\n"


def test_rules_of_the_firewall(node):
    """Nft takes the example that is shipped."""
    node.run("nft -c -f /usr/share/doc/derpmesh/examples/derpmesh.nft")


def test_the_page_on_tuning(node):
    """Its commands run; where the kernel is shared with others they change nothing."""
    for block in blocks_of(TUNE):
        follow(node, block)
    for kind, place in {
        "sysctl": "/etc/sysctl.d/60-derpmesh.conf",
        "modules": "/etc/modules-load.d/derpmesh.conf",
    }.items():
        printed = node.path(place).read_text()
        assert f"derpctl tune --print {kind}" in printed
        assert printed == node.path(place.replace("/etc", "/usr/lib")).read_text()
    node.run("nft -c -f /etc/nftables.d/derpmesh.nft")


def test_an_upgrade_restarts_what_runs(node):
    """Installed again, the package restarts the node that runs and starts no other."""
    before = pid(node)
    identity = node.path(f"{STATE}/derper.key").read_bytes()
    node.run("dpkg -i /root/derpmesh.deb")
    assert pid(node) not in (0, before)
    assert node.path(f"{STATE}/derper.key").read_bytes() == identity
    assert node.shows("derpd@nobody", "SubState") == "failed"


def test_removal(node):
    """The node is stopped; what is somebody's own stays, purged too."""
    node.run("dpkg -r derpmesh")
    assert node.shows(UNIT, "ActiveState") == "inactive"
    assert not node.path("/usr/lib/derpmesh").exists()
    assert node.path("/etc/derpmesh/example.yaml").exists()
    node.run("dpkg -P derpmesh")
    assert not node.path("/etc/derpmesh/example.yaml").exists()
    wanted = node.path(f"/etc/systemd/system/multi-user.target.wants/{UNIT}.service")
    assert not wanted.is_symlink()
    assert node.path(CONFIG).exists()
    assert node.path(f"{STATE}/derper.key").exists()
    for block in blocks_of(PACKAGES):
        follow(node, block)
    assert not node.path(CONFIG).exists()
    assert not node.path(STATE).exists()
