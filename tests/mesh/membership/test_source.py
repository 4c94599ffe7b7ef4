"""What a node records of itself that is nowhere else."""

import pytest

from derpmesh.config import load_daemon_config
from derpmesh.membership.source import admin_url


TLS = (
    "admin.certificate=/etc/admin.crt",
    "admin.key=/etc/admin.key",
    "admin.token_file=/etc/token",
)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("[]", None),
        ("['127.0.0.1:9090']", None),
        ("['127.0.0.1:9090', '192.0.2.7:9443']", "https://192.0.2.7:9443"),
        ("['[2001:db8::7]:9443']", "https://[2001:db8::7]:9443"),
        ("['0.0.0.0:9443']", "https://192.0.2.1:9443"),
        ("[':9443']", "https://192.0.2.1:9443"),
    ],
)
def test_admin_url(listen, url):
    """Where others reach it: the first address that is not loopback."""
    settings = ("node.host=192.0.2.1", "admission.key_file=/etc/clients", *TLS)
    found = load_daemon_config(None, {}, (*settings, f"admin.listen={listen}"))
    assert admin_url(found) == url


def test_admin_host():
    """Operators come by another name than clients, in a pod say."""
    settings = ("node.host=192.0.2.1", "admission.key_file=/etc/clients", *TLS)
    more = ("admin.listen=[':9443']", "admin.host=node-0.relay.internal")
    found = load_daemon_config(None, {}, (*settings, *more))
    assert admin_url(found) == "https://node-0.relay.internal:9443"
