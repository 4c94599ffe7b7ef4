"""Who a pod is, and what an address is made of."""

import pytest

from derpmesh.address.place import Place, Pod, annotated, listed, place_of


POD = Pod(
    name="derp-12",
    namespace="net",
    ip="10.244.1.7",
    machine="metal-1",
    machine_ip="192.0.2.1",
)


def test_the_number_of_a_pod_is_the_end_of_its_name():
    """A pod of a DaemonSet has none."""
    assert POD.ordinal == "12"
    daemon = Pod(
        name="derp-x7k2p", namespace="net", ip="", machine="metal-1", machine_ip=""
    )
    assert daemon.ordinal is None


@pytest.mark.parametrize(
    ("ip", "label"), [("10.244.1.7", "10-244-1-7"), ("fd00:10::7", "fd00-10--7")]
)
def test_the_label_is_what_coredns_answers_to(ip: str, label: str):
    """Source: coredns plugin/kubernetes, ``endpointHostname``."""
    pod = Pod(name="d", namespace="n", ip=ip, machine="", machine_ip="")
    assert pod.label == label


@pytest.mark.parametrize("key", ["derp-12", "12", "metal-1"])
def test_hosts_are_listed_by_pod_by_number_or_by_machine(key: str):
    """Each key does, and others do not."""
    assert listed({key: "203.0.113.1", "0": "203.0.113.9"}, POD) == ["203.0.113.1"]
    assert listed({"1": "203.0.113.1"}, POD) == []


def test_an_annotation_is_a_quoted_line_of_the_file():
    """The kubelet escapes what other annotations hold; ours has nothing to escape."""
    text = (
        'checksum/config="4f2a"\n'
        'derpmesh.io/host="203.0.113.5, 2001:db8::5"\n'
        'note="derpmesh.io/host=\\"x\\"\\nderpmesh.io/host=y"\n'
    )
    assert annotated(text, "derpmesh.io/host") == ["203.0.113.5", "2001:db8::5"]
    assert annotated(text, "host") == []


@pytest.mark.parametrize(
    ("hosts", "place"),
    [
        ([], None),
        (["203.0.113.1"], Place("203.0.113.1")),
        (["2001:db8::1"], Place("2001:db8::1")),
        (["2001:db8::1", "203.0.113.1"], Place("203.0.113.1", None, "2001:db8::1")),
        (["derp.example.com"], Place("derp.example.com")),
        (
            ["203.0.113.1", "derp.example.com", "2001:db8::1"],
            Place("derp.example.com", "203.0.113.1", "2001:db8::1"),
        ),
    ],
)
def test_a_name_comes_first_then_ipv4(hosts: list[str], place: Place | None):
    """The other family is for the map beside it."""
    assert place_of(hosts) == place
