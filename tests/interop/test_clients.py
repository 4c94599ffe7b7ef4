"""Stock clients of several releases, one fact about a relay at a time.

The facts are in ``checks/`` (Go, as they are stated with the stock client library).
Each is run against derper as well, so that none of them asks for what is not so.
"""

import subprocess

import pytest

from tests.interop import test_mesh
from tests.interop.conftest import Check, LongChecks, Verdict
from tests.interop.region import Region
from tests.support.peers import peer


pytestmark = [pytest.mark.interop, pytest.mark.timeout(150)]

PINS = ["pin-right", "pin-wrong", "pin-upper-case"]
TRANSPORT = ["connect", "fast-start", "no-fast-start", "tls-1.2", "websocket"]
REST = [
    "latency-check",
    "captive-portal",
    "stun",
    "sizes",
    "to-oneself",
    "order-10000",
    "bulk-600",
    "ping",
    "duplicate-newest",
    "duplicate-speaker",
    "duplicate-survivor",
    "duplicate-bystanders",
    "peer-gone",
    "not-here",
    "left-not-here",
    "note-preferred",
    "prober",
    "watch-flood",
    "presence-fast",
    "probe",
    "presence-per-connection",
    "presence-flags",
    "app-name-limits",
    "forward",
    "close-peer",
    "no-mesh-right",
    "malformed",
]
# Names are told to watchers since 1.104.
NAMES = ["app-name"]
# Run for one client only, below.
SINGLE = ["keepalive", "refused", "websocket-limit"]


def holds(verdict: Verdict) -> None:
    assert verdict["ok"], verdict["detail"]


@pytest.mark.parametrize("name", PINS + TRANSPORT + REST)
@pytest.mark.parametrize("client", ["1.102", "1.104"])
def test_pinned(region_pinned: Region, check: Check, client: str, name: str):
    """What holds for clients that know the relay by its certificate's hash."""
    holds(check(region_pinned, client, name))


@pytest.mark.parametrize("name", NAMES)
def test_names(region_pinned: Region, check: Check, name: str):
    """What is new in 1.104."""
    holds(check(region_pinned, "1.104", name))


@pytest.mark.parametrize("name", TRANSPORT + REST)
def test_old_client(region_ca: Region, check: Check, name: str):
    """Clients before pins need a certificate from a CA; all else holds for them."""
    holds(check(region_ca, "1.80", name))


@pytest.mark.parametrize("name", TRANSPORT)
@pytest.mark.parametrize("client", ["1.102", "1.104"])
def test_ca(region_ca: Region, check: Check, client: str, name: str):
    """What depends on the certificate holds for one from a CA as well."""
    holds(check(region_ca, client, name))


@pytest.mark.parametrize("server", ["ours"])
def test_websocket_limit(region_pinned: Region, check: Check):
    """Unlike derper, we send no WebSocket message that Go's default refuses."""
    holds(check(region_pinned, "1.104", "websocket-limit"))


@pytest.mark.slow
def test_keepalive(region_pinned: Region, long_checks: LongChecks):
    """A client that says nothing hears of the relay within 60 to 65 s."""
    holds(long_checks.verdict(region_pinned, "keepalive"))


@pytest.mark.parametrize("client", ["1.80", "1.102", "1.104"])
def test_every_check_is_run(built: None, client: str):
    """A check that is added to the driver is added here too."""
    listed = subprocess.run(
        [peer(f"check-{client}"), "-list"], capture_output=True, text=True, check=True
    )
    known = {*PINS, *TRANSPORT, *REST, *NAMES, *SINGLE, *test_mesh.KNOWN}
    assert set(listed.stdout.split()) == known
