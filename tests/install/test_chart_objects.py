"""What must be true between the objects of a rendering, for every set of values."""

import json

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.install.charts import (
    EXAMPLES,
    NAME,
    NAMESPACE,
    RELEASE,
    Objects,
    containers,
    objects_of,
    values_file,
)


pytestmark = pytest.mark.install

OURS = 65532

every_example = pytest.mark.parametrize("example", EXAMPLES)


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Tell whether labels match, pods of a StatefulSet by their own name, too."""
    pod = "statefulset.kubernetes.io/pod-name"
    return {k: v for k, v in selector.items() if k != pod}.items() <= labels.items()


def selected(found: Objects, selector: dict[str, str]) -> list[dict]:
    """Give the pods that a selector takes."""
    return [spec for _, labels, spec in found.pods() if selects(selector, labels)]


def ports_of(spec: dict) -> dict[str, tuple[int, str]]:
    """Give the named ports of a pod."""
    return {
        port["name"]: (port["containerPort"], port.get("protocol", "TCP"))
        for container in spec["containers"]
        for port in container.get("ports", [])
    }


@every_example
def test_a_workload_has_its_own_pods(example: str):
    """And nobody else's: those of relays, of etcd and of tests are told apart."""
    found = objects_of(example)
    for tree in found.of("StatefulSet", "DaemonSet"):
        selector = tree["spec"]["selector"]["matchLabels"]
        assert selected(found, selector) == [tree["spec"]["template"]["spec"]]


@every_example
def test_services_lead_to_ports_that_are_there(example: str):
    """By name, and with the right protocol."""
    found = objects_of(example)
    for tree in found.of("Service"):
        (spec,) = selected(found, tree["spec"]["selector"])
        ports = ports_of(spec)
        for port in tree["spec"]["ports"]:
            assert ports[port["targetPort"]][1] == port.get("protocol", "TCP")


@every_example
def test_each_relay_has_a_service_of_its_own(example: str):
    """Where clients come in by Services; and it is never one for all."""
    found = objects_of(example)
    relay = found.relay()
    pods: dict[str, set[str]] = {}
    for tree in found.of("Service"):
        spec = tree["spec"]
        names = {port["name"] for port in spec["ports"]}
        if names & {"derp", "stun"}:
            pod = spec["selector"]["statefulset.kubernetes.io/pod-name"]
            assert names.isdisjoint(pods.get(pod, set()))
            pods.setdefault(pod, set()).update(names)
            assert spec["type"] == "ClusterIP" or spec["externalTrafficPolicy"] == (
                "Local"
            )
    if pods:
        wanted = [f"{NAME}-{n}" for n in range(relay["spec"]["replicas"])]
        assert list(pods) == wanted
        assert all({"derp", "stun"} <= names for names in pods.values())


@every_example
def test_probes_and_policies_name_ports_that_are_there(example: str):
    """And a policy leaves no port of a pod out."""
    found = objects_of(example)
    for _, _, spec in found.pods():
        for container in spec["containers"]:
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if kind in container:
                    assert container[kind]["httpGet"]["port"] in ports_of(spec)
    for tree in found.of("NetworkPolicy"):
        rules = tree["spec"]
        assert rules["policyTypes"] == ["Ingress"]
        (spec,) = selected(found, rules["podSelector"]["matchLabels"])
        allowed = {
            (port["port"], port["protocol"])
            for rule in rules["ingress"]
            for port in rule["ports"]
        }
        there = {(name, protocol) for name, (_, protocol) in ports_of(spec).items()}
        assert allowed == there


@every_example
def test_budgets_and_spread_are_about_the_right_pods(example: str):
    """One budget for relays, if any, one for an etcd of the release's own.

    A DaemonSet has no scale subresource: a budget would let nobody drain a machine.
    """
    found = objects_of(example)
    for tree in found.of("PodDisruptionBudget"):
        selector = tree["spec"]["selector"]["matchLabels"]
        assert len(selected(found, selector)) == 1
        for daemon in found.of("DaemonSet"):
            labels = daemon["spec"]["template"]["metadata"]["labels"]
            assert not selects(selector, labels)
    for name, labels, spec in found.pods():
        for rule in spec.get("topologySpreadConstraints", []):
            assert selects(rule["labelSelector"]["matchLabels"], labels), name


@every_example
def test_what_is_mounted_is_there(example: str):
    """Volumes are mounted, mounts have volumes, what those name is made or given."""
    found = objects_of(example)
    values = values_file(example).read_text()
    for name, _, spec in found.pods():
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claims = {
            claim["metadata"]["name"]
            for tree in found.of("StatefulSet")
            if tree["metadata"]["name"] == name
            for claim in tree["spec"]["volumeClaimTemplates"]
        }
        mounted = {
            mount["name"] for one in containers(spec) for mount in one["volumeMounts"]
        }
        assert mounted == volumes.keys() | claims
        for kind, wanted in named(list(volumes.values())):
            made = {tree["metadata"]["name"] for tree in found.of(kind)}
            issued = {t["spec"]["secretName"] for t in found.of("Certificate")}
            is_given = wanted == "kube-root-ca.crt" or f" {wanted}" in values
            assert wanted in made | issued or is_given, wanted


def named(volumes: list[dict]) -> list[tuple[str, str]]:
    """Give kind and name of what volumes are filled from."""
    found = []
    for volume in volumes:
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                found.append(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                secret = source["secret"]
                found.append(("Secret", secret.get("secretName") or secret["name"]))
    return found


@every_example
def test_secrets_are_readable_by_our_group_alone(example: str):
    """Root owns them, as Kubernetes makes them; 0400 would be unreadable, but for root.

    A group that root would have them with is one that derpd refuses.
    """
    for _, _, spec in objects_of(example).pods():
        context = spec["securityContext"]
        is_root = context["runAsUser"] == 0
        assert context.get("fsGroup") == (None if is_root else OURS)
        for volume in spec.get("volumes", []):
            for kind in ("secret", "projected"):
                if kind in volume:
                    mode = volume[kind]["defaultMode"]
                    assert mode == (0o400 if is_root else 0o440)


@every_example
def test_no_secret_is_outside_of_a_secret(example: str):
    """Whoever may read ConfigMaps and pods reads no key."""
    found = objects_of(example)
    others = [tree for tree in found.trees if tree["kind"] != "Secret"]
    text = json.dumps(others)
    assert "PRIVATE KEY" not in text
    for tree in found.of("Secret"):
        for key, value in found.secret(tree["metadata"]["name"]).items():
            if not key.endswith(".crt"):
                assert value.decode() not in text
                assert tree["data"][key] not in text


@every_example
def test_no_pod_may_more_than_it_needs(example: str):
    """Only the host network with low ports is root's, and only it has a capability."""
    found = objects_of(example)
    for name, _, spec in found.pods():
        context = spec["securityContext"]
        as_root = context["runAsUser"] == 0
        assert as_root == (example == "bare-metal" and name == NAME)
        assert as_root or context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        assert not spec["enableServiceLinks"]
        for container in containers(spec):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"]
            assert not own["allowPrivilegeEscalation"]
            assert own["capabilities"]["drop"] == ["ALL"]
            more = ["NET_BIND_SERVICE"] if as_root else []
            if container["name"] == "folder":
                more = ["CHOWN", "DAC_OVERRIDE"]
            assert own["capabilities"].get("add", []) == more
            assert container["resources"]["requests"]


@every_example
def test_the_host_network_has_no_sysctl_of_ours(example: str):
    """Kubernetes refuses the pod; elsewhere it is how low ports are bound."""
    spec = objects_of(example).relay()["spec"]["template"]["spec"]
    assert ("sysctls" in spec["securityContext"]) != spec.get("hostNetwork", False)
    is_host = spec.get("hostNetwork", False)
    assert (spec.get("dnsPolicy") == "ClusterFirstWithHostNet") == is_host


@every_example
def test_only_who_asks_the_api_may(example: str):
    """The first container alone, and it may read what its sources need."""
    found = objects_of(example)
    spec = found.relay()["spec"]["template"]["spec"]
    asks = yaml.safe_load(found.configuration("address.yaml"))
    reads_service = bool({"loadBalancer", "clusterIP"} & set(asks["sources"]))
    reads_service |= asks.get("node_ports", False)
    reads_node = "nodeExternalIP" in asks["sources"]
    is_ours = example != "existing-secrets"  # the account is given there
    assert bool(found.of("Role")) == (reads_service and is_ours)
    assert bool(found.of("ClusterRole")) == (reads_node and is_ours)
    with_token = {
        container["name"]
        for container in containers(spec)
        for mount in container["volumeMounts"]
        if mount["name"] == "api"
    }
    assert with_token == ({"address"} if reads_service or reads_node else set())
    for tree in found.of("Role", "ClusterRole"):
        assert {verb for rule in tree["rules"] for verb in rule["verbs"]} == {"get"}


@every_example
def test_etcd_knows_its_members(example: str):
    """And relays ask all of them, by names that its certificate has."""
    found = objects_of(example)
    etcds = [t for t in found.of("StatefulSet") if t["metadata"]["name"] != NAME]
    if not etcds:
        assert "external" in example
        return
    (tree,) = etcds
    name, count = tree["metadata"]["name"], tree["spec"]["replicas"]
    (container,) = tree["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    hosts = [f"{name}-{n}.{name}.{NAMESPACE}.svc" for n in range(count)]
    members = [f"{host.partition('.')[0]}=https://{host}:2380" for host in hosts]
    assert env["ETCD_INITIAL_CLUSTER"] == ",".join(members)
    derpd = yaml.safe_load(found.configuration("derpd.yaml.in"))
    endpoints = derpd["registry"]["etcd"]["endpoints"]
    assert endpoints == [f"https://{host}:2379" for host in hosts]
    secrets = {tree["metadata"]["name"] for tree in found.of("Secret")}
    if f"{name}-tls" in secrets:
        certificate = x509.load_pem_x509_certificate(
            found.secret(f"{name}-tls")["tls.crt"]
        )
        assert set(hosts) <= names_of(certificate)
        # Etcd's HTTP gateway refuses a client whose certificate has one.
        assert not certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)


def names_of(certificate: x509.Certificate) -> set[str]:
    """Give the DNS names of a certificate."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName))


def test_the_admin_certificate_is_good_for_the_names_of_the_pods():
    """Else derpctl would refuse every relay but its own."""
    found = objects_of("minimal")
    pair = found.secret(f"{NAME}-admin")
    names = names_of(x509.load_pem_x509_certificate(pair["admin.crt"]))
    asks = yaml.safe_load(found.configuration("address.yaml"))
    pattern = asks["admin_host"]
    assert pattern == f"{{pod}}.{NAME}-nodes.{NAMESPACE}.svc"
    assert pattern.replace("{pod}", "*") in names
    service = found.one("Service", f"{NAME}-nodes")["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)


def test_pods_restart_for_a_configuration_and_not_for_clients():
    """The list of clients is watched; a restart would cost every client of a relay."""
    usual = objects_of("clients")
    assert checksum(usual) != checksum(objects_of("clients", "--set=config.a=1"))
    more = f"--set=admission.clients={{nodekey:{'3' * 64}}}"
    assert checksum(usual) == checksum(objects_of("clients", more))


def checksum(found: Objects) -> str:
    """Give what changes with the configuration of relays."""
    return found.relay()["spec"]["template"]["metadata"]["annotations"][
        "checksum/config"
    ]


def test_pods_do_not_restart_for_a_version_of_the_chart():
    """Labels of pods have no version; etcd stays where it is in an upgrade."""
    for _, labels, _ in objects_of("minimal").pods():
        assert labels.keys() <= {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
            "app.kubernetes.io/version",
            "app.kubernetes.io/managed-by",
            "helm.sh/chart",
        }
    for tree in objects_of("minimal").of("StatefulSet"):
        labels = tree["spec"]["template"]["metadata"]["labels"]
        assert "helm.sh/chart" not in labels


def test_a_relay_is_drained_before_it_ends():
    """The clients are sent away first, for less time than Kubernetes gives."""
    spec = objects_of("minimal").relay()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[3:] == [
        *("node", "drain", "self", "--force", "--wait"),
        *("--grace", "90", "--timeout", "95"),
    ]
    assert spec["terminationGracePeriodSeconds"] == 150


def test_a_relay_lives_without_etcd_and_is_ready_when_it_relays():
    """A restart would cut clients off because something else is away."""
    spec = objects_of("minimal").relay()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    looks = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert looks == {
        "startupProbe": "/readyz?draining=ok",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }


def test_prometheus_is_told_whom_to_believe():
    """The schemas of Kubernetes do not know a PodMonitor."""
    found = objects_of("node-port")
    tree = found.one("PodMonitor")
    assert tree["apiVersion"] == "monitoring.coreos.com/v1"
    assert tree["metadata"]["labels"]["release"] == "prometheus"
    (spec,) = selected(found, tree["spec"]["selector"]["matchLabels"])
    (look,) = tree["spec"]["podMetricsEndpoints"]
    assert look["port"] in ports_of(spec)
    assert (look["scheme"], look["path"]) == ("https", "/metrics")
    tls = look["tlsConfig"]
    assert tls["ca"] == {"secret": {"name": f"{NAME}-admin", "key": "ca.crt"}}
    certificate = x509.load_pem_x509_certificate(
        found.secret(f"{NAME}-admin")["admin.crt"]
    )
    _, _, parent = tls["serverName"].partition(".")
    assert f"*.{parent}" in names_of(certificate)
    derpd = yaml.safe_load(found.configuration("derpd.yaml.in"))
    assert derpd["admin"]["public_metrics"] is True
    assert found.configuration("derpd.yaml.in").count("public_metrics: true") == 1
    usual = yaml.safe_load(objects_of("minimal").configuration("derpd.yaml.in"))
    assert usual["admin"]["public_metrics"] is False


def test_cert_manager_is_asked_for_what_clients_dial():
    """The schemas of Kubernetes do not know a Certificate."""
    found = objects_of("eks")
    spec = found.one("Certificate", f"{NAME}-tls")["spec"]
    assert spec["dnsNames"] == ["derp-a.example.com", "derp-b.example.com"]
    assert spec["issuerRef"] == {
        "name": "letsencrypt",
        "kind": "ClusterIssuer",
        "group": "cert-manager.io",
    }
    assert spec["privateKey"]["rotationPolicy"] == "Always"
    (volume,) = [
        volume
        for volume in found.relay()["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "tls"
    ]
    assert volume["secret"]["secretName"] == spec["secretName"]


def test_a_folder_is_mounted_where_files_are_followed():
    """A file that is mounted by itself never changes, and no renewal is seen."""
    for example in EXAMPLES:
        for _, _, spec in objects_of(example).pods():
            for container in containers(spec):
                assert not [m for m in container["volumeMounts"] if "subPath" in m]


def test_a_relay_of_a_machine_keeps_its_identity_there():
    """Without it every pod would be another relay, and the map would change."""
    found = objects_of("edge-daemonset")
    spec = found.relay()["spec"]["template"]["spec"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "state"]
    assert volume["hostPath"] == {
        "path": f"/var/lib/derpmesh/{NAMESPACE}/{RELEASE}",
        "type": "DirectoryOrCreate",
    }
    first = spec["initContainers"][0]
    assert first["command"] == [
        *("chown", "--recursive", f"{OURS}:{OURS}", "/var/lib/derpd"),
    ]


@every_example
def test_the_state_is_given_to_who_runs(example: str):
    """They may be another one than before; "restricted" namespaces have no root."""
    found = objects_of(example)
    relay = found.relay()
    spec = relay["spec"]["template"]["spec"]
    given = [one for one in spec["initContainers"] if one["name"] == "folder"]
    is_of_machine = relay["kind"] == "DaemonSet" or any(
        "hostPort" in port for one in spec["containers"] for port in one["ports"]
    )
    assert len(given) == is_of_machine
    for one in given:
        user = spec["securityContext"]["runAsUser"]
        assert one["command"][2] == f"{user}:{OURS}"


def test_the_state_is_given_where_that_is_wished():
    """After the host network, behind Services."""
    usual = objects_of("eks", "--set=persistence.adopt=true").relay()
    first = usual["spec"]["template"]["spec"]["initContainers"][0]
    assert first["name"] == "folder"


def test_what_is_made_stays():
    """Uninstalled by mistake, the region comes back with the same pins and keys."""
    found = objects_of("minimal")
    assert len(found.of("Secret")) == 3
    for tree in found.of("Secret"):
        notes = tree["metadata"]["annotations"]
        assert notes["helm.sh/resource-policy"] == "keep"
    kept = found.relay()["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}
