"""The etcd that a page speaks of: three members with TLS, which know nobody yet."""

from collections.abc import Iterator
from contextlib import contextmanager

from derpmesh.etcd.tls import client_context
from tests.docs.machine import Machine
from tests.mesh.etcd.certificates import Authority
from tests.support.etcd import cluster


HOST = "localhost"


@contextmanager
def etcd_on(machine: Machine) -> Iterator[None]:
    """Run it until the block ends; `etcd-1.example.net:2379` is its first member."""
    folder = machine.root / "etcd"
    authority = Authority(folder / "ca")
    found = cluster(
        folder,
        3,
        host=HOST,
        tls=authority.server(HOST, client_auth=True),
        arguments=("--bcrypt-cost", "4"),
    )
    machine.install("/etc/derpmesh/etcd-ca.pem", authority.ca.read_bytes())
    machine.install("/etc/etcd/ca.key", authority.ca_key.read_bytes())
    for number, server in enumerate(found.servers, 1):
        machine.translate(f"etcd-{number}.example.net:2379", f"{HOST}:{server.port}")
    try:
        found.start(client_context(authority.ca, *authority.issue("starter")))
        yield
    finally:
        found.kill()
