"""Sources of an address, against an API that answers over HTTPS."""

import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from derpmesh.address.config import AddressConfig
from derpmesh.address.errors import NoAddress
from derpmesh.address.kubernetes import Api
from derpmesh.address.place import Place, Pod
from derpmesh.address.sources import Finder
from derpnode.config import Address
from derpnode.server.stun import StunServer
from tests.mesh.address.kubeapi import KubeApi, kube_api, machine, service


POD = Pod(
    name="derp-0",
    namespace="net",
    ip="10.244.1.7",
    machine="metal-1",
    machine_ip="192.0.2.1",
)
SERVICE = "/api/v1/namespaces/net/services/derp-0"
NODE = "/api/v1/nodes/metal-1"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApi]:
    """Serve an API that has nothing yet."""
    async with kube_api(tmp_path) as found:
        yield found


class Asked:
    """A finder, and what it said meanwhile."""

    def __init__(self, api: KubeApi | None, sources: Sequence[str], **more) -> None:
        self.said: list[str] = []
        self.slept: list[float] = []
        config = AddressConfig.model_validate(
            {
                "template": "/t",
                "output": "/o",
                "sources": sources,
                "timeout": 6,
                "annotations": {"file": "/nowhere/annotations"},
                **more,
            }
        )
        cluster = Api(api.url, api.account) if api is not None else None
        self.finder = Finder(config, POD, cluster, self.said.append, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def place(self) -> Place:
        return await self.finder.place()


async def test_the_first_source_that_has_one_counts(api: KubeApi):
    """What a person listed is not overruled by what the cluster says."""
    api.objects[NODE] = machine(("ExternalIP", "198.51.100.1"))
    asked = Asked(api, ["hosts", "nodeExternalIP"], hosts={"0": "203.0.113.1"})
    assert await asked.place() == Place("203.0.113.1")
    assert api.asked == []
    assert asked.said == ["203.0.113.1: from hosts"]


async def test_a_machine_without_an_external_address_is_passed_over(api: KubeApi):
    """Many have none; then its address in the network of machines is next."""
    api.objects[NODE] = machine(("InternalIP", "192.0.2.1"))
    asked = Asked(api, ["hosts", "annotation", "nodeExternalIP", "hostIP"])
    assert await asked.place() == Place("192.0.2.1")
    assert asked.said == [
        "hosts: nothing there",
        "annotation: nothing there",
        "nodeExternalIP: nothing there",
        "192.0.2.1: from hostIP",
    ]


async def test_both_families_of_a_machine(api: KubeApi):
    """The second is for the map."""
    api.objects[NODE] = machine(
        ("InternalIP", "192.0.2.1"),
        ("ExternalIP", "2001:db8::1"),
        ("ExternalIP", "198.51.100.1"),
    )
    asked = Asked(api, ["nodeExternalIP"])
    assert await asked.place() == Place("198.51.100.1", None, "2001:db8::1")


async def test_a_balancer_is_waited_for(api: KubeApi):
    """Clouds take a minute; who looks at the log sees why nothing starts."""
    api.objects[SERVICE] = [
        service(),
        service(),
        service(ingress=[{"ip": "198.51.100.7", "ipMode": "VIP"}]),
    ]
    asked = Asked(api, ["loadBalancer"])
    assert await asked.place() == Place("198.51.100.7")
    assert asked.slept == [2.0, 2.0]
    assert asked.said == [
        "loadBalancer: Service derp-0 has none yet (0 of 6 s)",
        "loadBalancer: Service derp-0 has none yet (2 of 6 s)",
        "198.51.100.7: from loadBalancer",
    ]


async def test_a_balancer_may_have_a_name(api: KubeApi):
    """As on AWS."""
    name = "k8s-net-derp0-1.elb.us-east-1.amazonaws.com"
    api.objects[SERVICE] = service(ingress=[{"hostname": name}])
    assert await Asked(api, ["loadBalancer"]).place() == Place(name)


async def test_a_balancer_that_never_comes(api: KubeApi):
    """The end of the wait says what was tried, and what to do."""
    api.objects[SERVICE] = service()
    asked = Asked(api, ["hosts", "loadBalancer"])
    with pytest.raises(NoAddress) as caught:
        await asked.place()
    assert str(caught.value) == (
        "address.sources: none of hosts, loadBalancer has an address; "
        "say it in address.hosts, or name another source"
    )


async def test_the_address_of_a_service(api: KubeApi):
    """For clients inside, or behind a balancer that keeps it."""
    api.objects[SERVICE] = service(cluster=("10.96.3.7", "fd00::37"))
    found = await Asked(api, ["clusterIP"]).place()
    assert found == Place("10.96.3.7", None, "fd00::37")


async def test_what_may_not_be_read_is_no_reason_to_take_another(api: KubeApi):
    """Else a missing right would publish the address of a private network."""
    api.objects[NODE] = 403
    with pytest.raises(NoAddress) as caught:
        await Asked(api, ["nodeExternalIP", "hostIP"]).place()
    assert str(caught.value) == (
        f"nodeExternalIP: the API answers 403 to {NODE}; "
        "allow it, as rbac.create does, or name another source"
    )


async def test_an_api_that_is_away_is_asked_again(api: KubeApi):
    """A hiccup of the control plane must not move a node in the map."""
    api.objects[NODE] = [503, 500, machine(("ExternalIP", "198.51.100.1"))]
    asked = Asked(api, ["nodeExternalIP", "hostIP"])
    assert await asked.place() == Place("198.51.100.1")
    assert asked.said[0] == (
        "nodeExternalIP: the API cannot be asked: it answers 503 (0 of 6 s)"
    )


async def test_an_api_that_stays_away_ends_the_start(api: KubeApi):
    """It does not fall to the next source."""
    api.objects[NODE] = 503
    with pytest.raises(NoAddress, match="nodeExternalIP: the API cannot be asked"):
        await Asked(api, ["nodeExternalIP", "hostIP"]).place()


async def test_a_stranger_in_the_place_of_the_api_is_not_believed(
    api: KubeApi, tmp_path_factory: pytest.TempPathFactory
):
    """The token is not shown to whom the cluster's authority does not vouch for."""
    async with kube_api(tmp_path_factory.mktemp("other")) as other:
        api.url = other.url
        with pytest.raises(NoAddress, match="certificate verify failed"):
            await Asked(api, ["nodeExternalIP"]).place()
        assert other.asked == []


async def test_without_a_cluster_the_api_is_no_source():
    """A source that needs one says so."""
    with pytest.raises(NoAddress, match="there is no cluster here to ask"):
        await Asked(None, ["loadBalancer"]).place()


async def test_ports_on_the_machine(api: KubeApi):
    """They are there once the cluster has given them."""
    ports = [("derp", 30443), ("stun", 30478)]
    api.objects[SERVICE] = [service(), service(ports=ports)]
    found = await Asked(api, ["hostIP"]).finder.ports()
    assert found == {"derp": 30443, "stun": 30478}


async def test_a_service_without_ports_on_the_machine(api: KubeApi):
    """The end says what to look at."""
    api.objects[SERVICE] = service()
    with pytest.raises(NoAddress, match="has no port on the machines"):
        await Asked(api, ["hostIP"]).finder.ports()


async def test_an_annotation_of_the_pod(tmp_path: Path):
    """As the downward API writes it."""
    file = tmp_path / "annotations"
    file.write_text('derpmesh.io/host="derp-a.example.com"\n')
    asked = Asked(None, ["annotation"], annotations={"file": str(file)})
    assert await asked.place() == Place("derp-a.example.com")


async def test_a_stun_server_says_where_we_are():
    """One where nobody answers is passed over, and so is one that is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()[1]
    server = StunServer([Address("127.0.0.1", 0)])
    server.start()
    try:
        servers = ["none", f"127.0.0.1:{nobody}", f"127.0.0.1:{server.ports[0]}"]
        asked = Asked(None, ["stun"], stun_servers=servers)
        assert await asked.place() == Place("127.0.0.1")
    finally:
        server.close()


async def test_without_any_stun_server_there_is_no_address():
    """The same line as for every other source that has nothing."""
    with pytest.raises(NoAddress, match="none of stun has an address"):
        await Asked(None, ["stun"], stun_servers=["none"]).place()
