"""The pods of the chart as containers: an etcd of three, two relays, `helm test`."""

import json
import os
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.install.charts import HELMS, NAME, Objects, template, values_file
from tests.install.kubelet import PATIENCE, Machine, Pod
from tests.support.engine import NoEngine, engine
from tests.support.engine.etcd import ETCD
from tests.support.engine.project import IMAGE


pytestmark = [pytest.mark.install, pytest.mark.timeout(300)]

_ETCD = f"{NAME}-etcd"


def rendered(*words: str) -> Objects:
    """Render the least, with the images that are here, and no API to ask."""
    ours, theirs = IMAGE.rpartition(":"), ETCD.rpartition(":")
    ended = template(
        HELMS[-1],
        *("--values", values_file("minimal")),
        *("--set", "address.follow=true"),
        *("--set", f"image.repository={ours[0]},image.tag={ours[2]}"),
        *("--set", f"etcd.image.repository={theirs[0]},etcd.image.tag={theirs[2]}"),
        *("--set", "address.sources={annotation,hostIP}"),
        *words,
    )
    assert ended.returncode == 0, ended.stderr
    return Objects.read(ended.stdout)


class Region:
    """What was installed."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.etcds = [machine.pod(_ETCD, ordinal) for ordinal in range(3)]
        self.relays = [machine.pod(NAME, ordinal) for ordinal in range(2)]

    def install(self) -> None:
        """Start everything at once, as Kubernetes does, and wait until it is ready."""
        for pod in self.etcds:
            pod.prepare()
            pod.start()
        for pod in self.relays:
            pod.prepare()
            pod.start()
        for pod in (*self.etcds, *self.relays):
            pod.until("startupProbe")
            assert pod.probe("readinessProbe")
            assert pod.probe("livenessProbe")

    def until_linked(self) -> None:
        """Wait until `derpctl status`, asked in a pod, finds nothing amiss."""
        deadline = time.monotonic() + PATIENCE
        while True:
            status, said = self.relays[0].execute("derpctl", "status")
            if status == 0:
                return
            assert time.monotonic() < deadline, said

    def map(self) -> dict[str, dict[str, object]]:
        """Give the nodes of the map that a pod prints, by their names."""
        status, said = self.relays[1].execute(
            "derpctl", "map", "export", "-f", "derpmap"
        )
        assert status == 0, said
        # What it warns of, private addresses, may stand before the map and behind it.
        tree, _end = json.JSONDecoder().raw_decode(said, said.index("{"))
        return {node["Name"]: node for node in tree["Regions"]["900"]["Nodes"]}


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Give an engine with the image of this tree."""
    try:
        return dict(engine())
    except NoEngine as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def region(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Region]:
    """Install the chart, once."""
    machine = Machine(environment, tmp_path_factory.mktemp("machine"), rendered())
    try:
        found = Region(machine)
        found.install()
        found.until_linked()
        yield found
    finally:
        machine.close()


def test_helm_test_relays_a_packet(region: Region):
    """Every relay serves and is linked, and a packet goes from each to each."""
    pod = region.machine.lone(f"{NAME}-test")
    pod.prepare()
    status, said = pod.run(pod.main)
    assert status == 0, said
    pod.close()


def test_the_map_has_both_by_their_addresses(region: Region):
    """Pinned, on the usual ports, with names that etcd gave."""
    nodes = region.map()
    assert sorted(nodes) == ["900a", "900b"]
    hosts = {node["HostName"] for node in nodes.values()}
    assert hosts == {pod.ip for pod in region.relays}
    for node in nodes.values():
        assert str(node["CertName"]).startswith("sha256-raw:")
        assert "DERPPort" not in node


def test_admin_listeners_are_known_by_the_names_of_the_pods(region: Region):
    """Derpctl in one pod asks the other by its name, and believes its certificate."""
    status, said = region.relays[0].execute("derpctl", "node", "list", "-o", "json")
    assert status == 0, said
    for pod in region.relays:
        assert f"https://{pod.name}.{NAME}-nodes.net.svc:9090" in said


def test_a_relay_that_is_replaced_comes_back_as_itself(region: Region):
    """Drained first, then ended in good order; elsewhere the map follows it.

    A record that still said where it was would send every client there in vain.
    """
    before = {node["HostName"]: node["Name"] for node in region.map().values()}
    old = region.relays[0]
    hook, said, status = old.end()
    assert (hook, status) == (0, 0), said
    other = region.machine.pod(NAME, 6)
    other.hold_network()  # has the address that has become free
    new = region.machine.pod(NAME, 0)
    region.relays[0] = new
    said = new.prepare()
    assert new.ip != old.ip
    name = before[old.ip]
    assert f"{name}: recorded as {new.ip} from now on, was {old.ip}" in said
    new.start()
    new.until("startupProbe")
    region.until_linked()
    after = {node["HostName"]: node["Name"] for node in region.map().values()}
    assert (after[new.ip], old.ip in after) == (name, False)


def test_an_annotation_of_the_pod_says_the_address(region: Region):
    """Somebody annotated it; the kubelet writes that into a file."""
    pod = annotated(region, "203.0.113.77")
    tree = yaml.safe_load((pod.volume("run") / "derpd.yaml").read_text())
    assert tree["node"]["host"] == "203.0.113.77"


def annotated(region: Region, host: str) -> Pod:
    """Prepare one more pod, with an annotation."""
    pod = region.machine.pod(NAME, 7)
    pod._notes = {**pod._notes, "derpmesh.io/host": host}
    pod.prepare()
    return pod


def another(region: Region, *words: str) -> Objects:
    """Render another region, which is recorded in the same etcd."""
    found = rendered("--set", "region.id=901", *words)
    others = [tree for tree in found.trees if tree["kind"] != "Secret"]
    return Objects([*others, *region.machine.found.of("Secret")])


def test_in_the_host_network_root_has_one_capability(region: Region):
    """It is what low ports of a machine take: added to another user it helps nobody."""
    found = another(region, "--set", "exposure.mode=hostNetwork")
    pod = region.machine.pod(NAME, 20, found)
    pod.prepare()
    pod.start()
    pod.until("startupProbe")
    _, said = pod.execute("cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert (facts["Uid"].split()[0], int(facts["CapEff"], 16)) == ("0", 1 << 10)
    pod.close()


@pytest.mark.parametrize(
    ("one", "other", "ordinal"),
    [("hostPort", "hostNetwork", 23), ("hostNetwork", "hostPort", 24)],
)
def test_the_way_in_can_be_changed(region: Region, one: str, other: str, ordinal: int):
    """Another user runs then; the volume is given to it, and the key stays.

    The first try had relays that could not read their own key, and did not start.
    """
    keys = []
    for mode in (one, other):
        found = another(region, "--set", f"exposure.mode={mode}")
        pod = region.machine.pod(NAME, ordinal, found)
        pod.prepare()
        pod.start()
        pod.until("startupProbe")
        key = pod.volume("state") / "derper.key"
        assert key.stat().st_uid == pod.spec["securityContext"]["runAsUser"]
        keys.append(key.read_text())
        pod.close()
    assert keys[0] == keys[1]


def test_in_the_host_network_without_its_sysctl_the_reason_is_said(region: Region):
    """Who says `nodeSysctl`, and has not set it."""
    words = ("--set", "exposure.mode=hostNetwork,exposure.bindPrivileged=nodeSysctl")
    pod = region.machine.pod(NAME, 21, another(region, *words))
    pod.prepare()
    status, said = pod.run(pod.main)
    problems = [line for line in said.splitlines() if line.startswith("derpd: ")]
    assert len(problems) == 1, said
    assert "Permission denied" in problems[0]
    assert status == 3
    pod.close()


def test_without_etcd_a_new_relay_says_what_it_waits_for(region: Region):
    """It has no name yet. The probe of its start fails, and the log says why."""
    endpoint = "https://127.0.0.1:1"
    words = f"etcd.mode=external,etcd.external.endpoints={{{endpoint}}}"
    pod = region.machine.pod(NAME, 22, another(region, "--set", words))
    pod.prepare()
    pod.start()
    deadline = time.monotonic() + PATIENCE
    while "etcd: waiting for a name: " not in pod.log:
        assert time.monotonic() < deadline, pod.log
        time.sleep(0.1)
    assert not pod.probe("startupProbe")
    pod.close()


def test_a_relay_of_a_daemon_set_keeps_its_identity_on_the_machine(region: Region):
    """Its folder is root's at first; nobody but the first container is root."""
    pod = region.machine.daemon(NAME, another(region, "--set=workload.kind=DaemonSet"))
    pod.prepare()
    pod.start()
    pod.until("startupProbe")
    assert pod.execute("id", "-u") == (0, "65532\n")
    kept = pod.volume("state") / "derper.key"
    assert kept.stat().st_uid == 65532
    pod.close()


def test_a_pod_may_do_nothing_but_relay(region: Region):
    """No root, no capability, none to gain, and a root filesystem that is read only."""
    pod = region.relays[0]
    status, said = pod.execute("cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == ["65532"] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[name], 16) == 0
    assert facts["NoNewPrivs"] == "1"
    status, said = pod.execute("touch", "/etc/derpmesh/x")
    assert (status, "Read-only file system" in said) == (1, True)


@pytest.fixture(scope="module")
def spare(region: Region) -> Pod:
    """Prepare one more pod, which does not run."""
    pod = region.machine.pod(NAME, 8)
    pod.prepare()
    return pod


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        (
            "mesh.key",
            "secret",
            "mesh.key_file = '/etc/derpmesh/keys/mesh.key': ",
        ),
        (
            "admin/token",
            None,
            "admin.token_file = '/etc/derpmesh/keys/admin/token': cannot be read: ",
        ),
        (
            "admin/admin.key",
            "key",
            "admin.certificate = '/etc/derpmesh/keys/admin/admin.crt': ",
        ),
        (
            "etcd/ca.crt",
            None,
            "registry.etcd = '/etc/derpmesh/keys/etcd/ca.crt': cannot be read: ",
        ),
    ],
)
def test_a_wrong_secret_is_one_line(
    spare: Pod, file: str, content: str | None, line: str
):
    """Not a traceback, and no crash loop without a reason. No secret is shown."""
    path = spare.volume("keys") / file
    was, mode = path.read_bytes(), path.stat().st_mode
    path.unlink() if content is None else path.write_text(content)
    try:
        assert_one_line(spare, line)
    finally:
        path.write_bytes(was)
        os.chown(path, 0, 65532)
        path.chmod(mode)


def test_a_volume_that_cannot_be_written_is_one_line(spare: Pod):
    """As of a storage that knows no groups."""
    folder = spare.volume("state")
    for path in folder.iterdir():
        path.unlink()
    folder.chmod(0o555)
    line = "state_dir = '/var/lib/derpd/derper.key': the node's key cannot be written"
    assert_one_line(spare, line)


def test_a_wrong_setting_is_one_line(spare: Pod):
    """One that the schema of the chart leaves to derpd."""
    path = spare.volume("run") / "derpd.yaml"
    path.write_text(path.read_text() + "homing: {shar: 1}\n")
    assert_one_line(spare, "homing.shar = '…': unknown key; did you mean share?")


def assert_one_line(pod: Pod, line: str) -> None:
    """Run the relay of a pod, which cannot start; see what is said."""
    status, said = pod.run(pod.main)
    problems = [text for text in said.splitlines() if text.startswith("derpd: ")]
    assert len(problems) == 1, said
    assert problems[0].startswith(f"derpd: {line}")
    assert "Traceback" not in said
    assert status == 3
