"""Objects of the Kubernetes API, as far as they say where a pod is found. No I/O.

Source: kubernetes ``staging/src/k8s.io/api/core/v1/types.go``.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field


class _Seen(BaseModel):
    """A part of an object; what is not read here may be anything."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Ingress(_Seen):
    ip: str = ""
    hostname: str = ""


class _LoadBalancer(_Seen):
    ingress: Sequence[_Ingress] | None = None


class _ServiceStatus(_Seen):
    load_balancer: _LoadBalancer = Field(_LoadBalancer(), alias="loadBalancer")


class _Port(_Seen):
    name: str = ""
    node_port: int | None = Field(None, alias="nodePort")


class _ServiceSpec(_Seen):
    cluster_ips: Sequence[str] | None = Field(None, alias="clusterIPs")
    ports: Sequence[_Port] | None = None


class Service(_Seen):
    """A Service of one pod."""

    spec: _ServiceSpec = _ServiceSpec()
    status: _ServiceStatus = _ServiceStatus()

    @property
    def balanced(self) -> list[str]:
        """What its balancer is reached by; empty while that has nothing."""
        found = self.status.load_balancer.ingress or ()
        return [text for one in found for text in (one.hostname, one.ip) if text]

    @property
    def own(self) -> list[str]:
        """Its addresses in the cluster."""
        return [ip for ip in self.spec.cluster_ips or () if ip != "None"]

    @property
    def machine_ports(self) -> Mapping[str, int]:
        """Its ports on the machines, by name."""
        return {
            port.name: port.node_port
            for port in self.spec.ports or ()
            if port.node_port
        }


class _Address(_Seen):
    type: str
    address: str


class _NodeStatus(_Seen):
    addresses: Sequence[_Address] | None = None


class Machine(_Seen):
    """A Node."""

    status: _NodeStatus = _NodeStatus()

    @property
    def external(self) -> list[str]:
        """Its addresses for those outside; often none."""
        found = self.status.addresses or ()
        return [one.address for one in found if one.type == "ExternalIP"]
