"""What must not change from one version of the chart to the next."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.install.charts import (
    HELMS,
    NAME,
    NAMESPACE,
    RELEASE,
    Objects,
    helm,
    objects_of,
    template,
    values_file,
)
from tests.install.cluster import cluster
from tests.support.chart import CHART
from tests.support.docs import ROOT


pytestmark = pytest.mark.install

FROZEN = Path(__file__).with_name("chart-identity.yaml")
"""What the chart was at its last release. A change of it loses somebody's region."""

EXAMPLES = ("minimal", "edge-daemonset", "eks", "external-etcd")


def identity(found: Objects) -> dict[str, object]:
    """Give what Kubernetes lets nobody change, and what a region is known by."""
    workloads = {}
    for tree in found.of("StatefulSet", "DaemonSet"):
        spec = tree["spec"]
        workloads[f"{tree['kind']}/{tree['metadata']['name']}"] = {
            "selector": spec["selector"]["matchLabels"],
            "serviceName": spec.get("serviceName"),
            "podManagementPolicy": spec.get("podManagementPolicy"),
            "volumeClaimTemplates": spec.get("volumeClaimTemplates"),
            "state": where_state_is(spec["template"]["spec"]),
        }
    derpd = yaml.safe_load(found.configuration("derpd.yaml.in"))
    return {
        "workloads": workloads,
        "services": sorted(
            f"{tree['metadata']['name']} {tree['spec'].get('clusterIP', '')}".strip()
            for tree in found.of("Service")
        ),
        "secrets": {
            tree["metadata"]["name"]: sorted(tree["data"])
            for tree in found.of("Secret")
        },
        "state_dir": derpd["state_dir"],
        "region": derpd["region"],
        "prefix": derpd["registry"]["etcd"]["prefix"],
        "etcd": sorted(
            f"{one['name']}={one['value']}"
            for tree in found.of("StatefulSet")
            for container in tree["spec"]["template"]["spec"]["containers"]
            for one in container["env"]
            if one["name"]
            in (
                "ETCD_NAME",
                "ETCD_DATA_DIR",
                "ETCD_INITIAL_CLUSTER",
                "ETCD_INITIAL_CLUSTER_TOKEN",
            )
        ),
    }


def where_state_is(spec: dict) -> dict[str, str]:
    """Give the folders of a pod that outlive it, behind those of the machine."""
    machine = {
        volume["name"]: f"{volume['hostPath']['path']}:"
        for volume in spec.get("volumes", [])
        if "hostPath" in volume
    }
    return {
        mount["name"]: machine.get(mount["name"], "") + mount["mountPath"]
        for container in spec["containers"]
        for mount in container["volumeMounts"]
        if mount["name"] in ("state", "data")
    }


def released() -> str | None:
    """Name the last tag that has the chart and is not this very commit."""
    words = ("tag", "--list", "v*", "--sort=-creatordate", "--no-contains", "HEAD")
    tags = git(*words).decode().split()
    return next((tag for tag in tags if git("ls-tree", tag, "helm/derp-cluster")), None)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "etcd.replicas=5",
            "etcd.replicas = 5: the release has 3, and members neither join nor leave ",
        ),
        (
            "etcd.replicas=1",
            "etcd.replicas = 1: the release has 3, and members neither join nor leave ",
        ),
        ("region.id=901", "region.id = 901: the release is region 900, which its "),
        ("config.region.id=901", "region.id = 901: the release is region 900, which "),
    ],
)
@pytest.mark.parametrize("name", HELMS)
def test_what_cannot_be_changed_is_refused(
    name: str, words: str, line: str, tmp_path: Path
):
    """An etcd would lose its quorum, and relays be of a region that nobody maps."""
    ended = upgraded(name, tmp_path, "--set", words)
    assert ended.returncode == 1
    assert line in ended.stderr


@pytest.mark.parametrize("name", HELMS)
def test_the_rest_can_be_changed(name: str, tmp_path: Path):
    """A release is found as it is, and not refused for that."""
    ended = upgraded(name, tmp_path, "--set", "workload.replicas=3")
    assert ended.returncode == 0, ended.stderr


def test_fewer_relays_are_told_of(tmp_path: Path):
    """Those that go stay in the map, which nobody would guess."""
    before = objects_of("minimal", "--set", "workload.replicas=3").relay()
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{NAME}"
    releases = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    empty = {"apiVersion": "v1", "kind": "SecretList", "items": []}
    with cluster({path: owned(before), releases: empty}, tmp_path) as environ:
        ended = helm(
            HELMS[-1],
            *("install", RELEASE, CHART, "--namespace", NAMESPACE),
            *("--values", values_file("minimal"), "--dry-run=server"),
            "--disable-openapi-validation",
            environ=environ,
        )
    assert ended.returncode == 0, ended.stderr
    notes = ended.stdout.partition("NOTES:")[2]
    assert "NOTE: there were 3 relays. Those that went stay in the map" in notes
    assert "-- derpctl node remove NAME" in notes


def upgraded(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Render for a cluster in which the release is."""
    found = objects_of("minimal", "--set", "region.id=900")
    paths = {
        "ConfigMap": "/api/v1/namespaces/{}/configmaps/{}",
        "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
    }
    there = {
        paths[tree["kind"]].format(NAMESPACE, tree["metadata"]["name"]): tree
        for tree in found.of(*paths)
    }
    with cluster({**there, **left(found.of("Secret"))}, folder) as environ:
        return template(
            name,
            *("--values", values_file("minimal"), "--set", "region.id=900", *words),
            *("--dry-run=server", "--disable-openapi-validation", "--is-upgrade"),
            environ=environ,
        )


def git(*words: str) -> bytes:
    """Ask the repository; nothing where there is none."""
    ended = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    return ended.stdout if ended.returncode == 0 else b""


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_region_stays_what_it_is(example: str):
    """Selectors, volumes, names and Secrets: an upgrade would fail, or lose them."""
    frozen = yaml.safe_load(FROZEN.read_text("utf-8"))
    assert identity(objects_of(example)) == frozen[example]


def test_the_last_release_is_what_was_frozen(tmp_path: Path):
    """Nobody may have changed the file with the chart."""
    tag = released()
    if tag is None:
        return  # nothing was released yet: the file is all that there is
    with tarfile.open(fileobj=io.BytesIO(git("archive", tag, "helm"))) as packed:
        packed.extractall(tmp_path, filter="data")
    chart = tmp_path / "helm" / "derp-cluster"
    for example in EXAMPLES:
        words = ("--values", values_file(example))
        ended = template(HELMS[-1], *words, chart=chart)
        assert ended.returncode == 0, ended.stderr
        assert identity(Objects.read(ended.stdout)) == identity(objects_of(example))


def left(secrets: list[dict]) -> dict[str, object]:
    """Give Secrets as a release left them, which Helm takes up again, by their path."""
    folder = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    return {f"{folder}/{tree['metadata']['name']}": owned(tree) for tree in secrets}


def owned(tree: dict) -> dict[str, object]:
    """Give an object as one of the release."""
    owner = {
        "meta.helm.sh/release-name": RELEASE,
        "meta.helm.sh/release-namespace": NAMESPACE,
    }
    notes = {**tree["metadata"].get("annotations", {}), **owner}
    return {**tree, "metadata": {**tree["metadata"], "annotations": notes}}


@pytest.mark.parametrize("name", HELMS)
def test_what_was_made_once_is_found_again(name: str, tmp_path: Path):
    """A key that was new at each upgrade would take the region apart."""
    first = objects_of("minimal")
    with cluster(left(first.of("Secret")), tmp_path) as environ:
        ended = template(
            name,
            *("--values", values_file("minimal")),
            *("--dry-run=server", "--disable-openapi-validation"),
            environ=environ,
        )
    assert ended.returncode == 0, ended.stderr
    second = Objects.read(ended.stdout)
    for tree in first.of("Secret"):
        secret = tree["metadata"]["name"]
        assert second.secret(secret) == first.secret(secret)


@pytest.mark.parametrize("name", HELMS)
def test_what_was_lost_is_made_anew(name: str, tmp_path: Path):
    """One Secret that is gone changes no other."""
    first = objects_of("minimal")
    mesh = f"{NAME}-mesh"
    with cluster(left([first.one("Secret", mesh)]), tmp_path) as environ:
        ended = template(
            name,
            *("--values", values_file("minimal")),
            *("--dry-run=server", "--disable-openapi-validation"),
            environ=environ,
        )
    assert ended.returncode == 0, ended.stderr
    second = Objects.read(ended.stdout)
    assert second.secret(mesh) == first.secret(mesh)
    admin = f"{NAME}-admin"
    assert second.secret(admin)["token"] != first.secret(admin)["token"]
