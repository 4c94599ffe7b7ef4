"""The chart as a whole: what Helm and Kubernetes make of it, and what it refuses."""

import json
import tarfile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.install.charts import (
    EXAMPLES,
    HELMS,
    KUBERNETES,
    Objects,
    helm,
    objects_of,
    template,
    text_of,
    values_file,
    without_secrets,
)
from tests.support.chart import CHART, values


pytestmark = pytest.mark.install

FOREIGN = ("Certificate", "PodMonitor")
"""Kinds that are none of Kubernetes' own."""


@pytest.mark.parametrize("name", HELMS)
def test_lint_finds_nothing(name: str):
    """But that there is no picture."""
    words = ("--strict", "--kube-version", KUBERNETES, "--values")
    ended = helm(name, "lint", CHART, *words, values_file("minimal"))
    assert ended.returncode == 0, ended.stdout
    told = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    assert told == ["[INFO] Chart.yaml: icon is recommended"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_both_helms_write_the_same(example: str):
    """Helm 3 will be about for years."""
    one, other = (without_secrets(text_of(name, example)) for name in HELMS)
    assert one == other


@pytest.mark.parametrize("name", HELMS)
def test_package(name: str, tmp_path: Path):
    """What is published has no values of ours for tests in it."""
    ended = helm(name, "package", CHART, "--destination", tmp_path)
    assert ended.returncode == 0, ended.stderr
    (archive,) = tmp_path.glob("derp-cluster-*.tgz")
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert "derp-cluster/values.schema.json" in names
    assert not [name for name in names if "/ci/" in name]


@pytest.mark.parametrize("version", ["1.25", "1.30", "1.34", "1.37"])
def test_kubernetes_takes_every_object(version: str):
    """By its own schemas, unknown fields refused; what is alike is judged once."""
    rendered_for = "1.25.0" if version == "1.25" else KUBERNETES
    texts = {
        json.dumps(tree, sort_keys=True)
        for example in EXAMPLES
        for tree in objects_of(example, "--kube-version", rendered_for).trees
        if tree["kind"] not in (*FOREIGN, "Secret")
    }
    secrets = objects_of("minimal").of("Secret")
    for tree in [*map(json.loads, texts), *secrets]:
        kubernetes_validate.validate(tree, version, strict=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("workload.kid=DaemonSet", "at '/workload': additional properties 'kid' not"),
        ("regions.id=1", "at '': additional properties 'regions' not allowed"),
        ("region.id=0", "at '/region/id': minimum: got 0, want 1"),
        ("region.id=frankfurt", "at '/region/id': got string, want "),
        ("etcd.replicas=2", "at '/etcd/replicas': value must be one of 1, 3, 5"),
        ("exposure.mode=hostport", "at '/exposure/mode': value must be one of "),
        ("address.sources={magic}", "at '/address/sources/0': value must be one of "),
        ("image.digest=latest", "at '/image/digest': 'latest' does not match pattern"),
        ("admission.clients={me}", "at '/admission/clients/0': 'me' does not match"),
        ("persistence.size=big", "at '/persistence/size': 'big' does not match"),
        ("fullnameOverride=A_B", "at '/fullnameOverride': 'A_B' does not match"),
        ("extraEnv[0].nam=x", "at '/extraEnv/0': "),
    ],
)
@pytest.mark.parametrize("name", HELMS)
def test_a_schema_refuses_typos(name: str, words: str, line: str):
    """With the place, and what may be there."""
    ended = template(name, "--set", "region.id=900", "--set", words)
    assert ended.returncode == 1
    assert line in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("region.code=x,region.id=null", "region.id: not set; say --set region.id=900"),
        ("secrets.generate=false", "mesh.existingSecret: empty, and secrets.generate "),
        (
            "secrets.generate=false,mesh.existingSecret=a",
            "admin.existingSecret: empty, and secrets.generate is false; ",
        ),
        (
            "secrets.generate=false,mesh.existingSecret=a,admin.existingSecret=b",
            "etcd.existingSecret: empty, and secrets.generate is false; ",
        ),
        ("etcd.mode=external", "etcd.external.endpoints: empty, and etcd.mode is "),
        (
            "etcd.mode=external,etcd.external.endpoints={http://a:1},"
            "etcd.external.user=u",
            "etcd.external.user: it goes together with passwordKey; ",
        ),
        (
            "etcd.mode=external,etcd.external.endpoints={http://a:1},"
            "etcd.external.caKey=ca",
            "etcd.external.existingSecret: empty, though keys of it are named; ",
        ),
        ("tls.mode=files", "tls.existingSecret: empty, and tls.mode is files; "),
        ("tls.mode=certManager", "tls.certManager.issuerRef.name: empty, and "),
        (
            "tls.mode=certManager,tls.certManager.issuerRef.name=x",
            "tls.certManager.dnsNames: empty, and address.hosts has no DNS name; ",
        ),
        ("admission.open=true", "admission.open = true: an open relay carries "),
        (
            "workload.kind=DaemonSet,exposure.mode=perPodLoadBalancer",
            "exposure.mode = perPodLoadBalancer: a DaemonSet has no Service for ",
        ),
        ("address.sources={stun}", "address.stunServers: empty, and address.sources "),
        (
            "address.sources={loadBalancer}",
            "address.sources: with exposure.mode = hostPort there is no Service to ",
        ),
        ("workload.drainSeconds=140", "workload.terminationGracePeriodSeconds = 150: "),
        (
            "exposure.mode=nodePort,exposure.nodePort.derp={30443}",
            "exposure.nodePort.derp: 1 ports for 2 relays; ",
        ),
        (
            "admission.existingSecret.name=a,admission.existingConfigMap.name=b",
            "admission: clients, existingConfigMap and existingSecret are one list ",
        ),
        (
            "serviceAccount.create=false,rbac.create=false",
            "serviceAccount.name: empty, and rbac.create is false, though ",
        ),
    ],
)
@pytest.mark.parametrize("name", HELMS)
def test_what_a_schema_cannot_refuse(name: str, words: str, line: str):
    """One line: key, reason, remedy."""
    ended = template(name, "--set", "region.id=900", "--set", words)
    assert ended.returncode == 1
    assert line in ended.stderr
    assert ended.stdout == ""


def test_every_value_is_described_and_in_the_schema():
    """So the README's table, which is made of that, is whole."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    for value in values():
        assert value.meaning.endswith((".", "**Required.**")), value.key
        below = schema
        for name in value.path:
            below = below["properties"][name]


def test_the_schema_closes_every_section():
    """A typo is refused wherever it is, but in what is Kubernetes' own."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def look(tree: dict, path: str) -> None:
        if "properties" in tree:
            assert tree["additionalProperties"] is False, path
        for name, below in tree.get("properties", {}).items():
            look(below, f"{path}.{name}")
        look(tree["items"], f"{path}[]") if isinstance(
            tree.get("items"), dict
        ) else None

    look(schema, "")


def test_a_digest_wins_over_a_tag():
    """What was looked at is what runs."""
    images = {
        container["image"]
        for name, _, spec in objects_of("existing-secrets").pods()
        if not name.endswith("-etcd")
        for container in [*spec.get("initContainers", []), *spec["containers"]]
    }
    digest = "0123456789abcdef" * 4
    assert images == {f"ghcr.io/derpmesh/derpmesh@sha256:{digest}"}


def test_the_version_of_the_chart_is_that_of_the_image():
    """A chart without a tag runs what it was made for."""
    from derpnode import __version__  # noqa: PLC0415 - of this test alone

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_notes_say_what_to_do_next():
    """How to get the map, and what is not well yet. Helm 3 wants a cluster for it."""
    words = ("--dry-run=client", "--namespace", "net", "--set", "region.id=900")
    ended = helm(HELMS[-1], "install", "derp", CHART, *words)
    assert ended.returncode == 0, ended.stderr
    notes = ended.stdout.partition("NOTES:")[2]
    run = "kubectl -n net exec statefulset/derp-derp-cluster -- derpctl"
    assert f"  {run} map export\n" in notes
    assert "WARNING: nobody may relay yet." in notes
    assert "pod-security.kubernetes.io/enforce=privileged" in notes
    assert "List addresses in address.hosts, or say address.follow=true." in notes


def test_objects_more_are_templates(tmp_path: Path):
    """As texts and as trees."""
    found = objects_of("existing-secrets").of("ConfigMap")
    names = {tree["metadata"]["name"] for tree in found}
    assert {"derp-note", "derp-tree"} < names


@pytest.mark.parametrize("name", HELMS)
def test_a_name_begins_with_a_letter(name: str):
    """Kubernetes would refuse the Services, after it has made half of the release."""
    ended = template(name, "--set", "region.id=900", release="900")
    assert ended.returncode == 1
    assert "release name = 900: names of Services begin with a letter; " in ended.stderr
    named = ("--set", "region.id=900,fullnameOverride=derp")
    assert template(name, *named, release="900").returncode == 0


def test_a_long_name_is_cut_where_names_end():
    """63 characters is the most, and Kubernetes adds some itself."""
    release = "a-release-whose-name-is-as-long-as-helm-allows-it-53x"
    words = ("--values", values_file("node-port"))
    ended = template(HELMS[-1], *words, release=release)
    found = Objects.read(ended.stdout)
    assert found.trees
    for tree in found.trees:
        assert len(tree["metadata"]["name"]) <= 63 - len("-0123456789")
