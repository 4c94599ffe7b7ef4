"""How clients know that a node is the right one."""

import re
from collections.abc import Iterator

from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.lint.place import Place
from derpctl.map.model import PIN_PREFIX


PIN = re.compile(r"sha256-raw:[0-9a-f]{64}")
"""What clients compare with: one text with another."""


def pins(place: Place) -> Iterator[Finding]:
    """DM010: a pin can match."""
    for path, node in place.nodes():
        is_pin = node.cert_name.lower().startswith(PIN_PREFIX)
        if is_pin and not PIN.fullmatch(node.cert_name):
            message = (
                f"{node.cert_name!r:.90} can match no certificate; a pin is"
                f" {PIN_PREFIX} and 64 lower-case hex digits"
            )
            yield Finding("DM010", Severity.ERROR, f"{path}.CertName", message)


def insecure(place: Place) -> Iterator[Finding]:
    """DM012: nothing is in it that only tests may use."""
    allowed = place.world.terms.allow_insecure
    severity = Severity.WARNING if allowed else Severity.ERROR
    for path, node in place.nodes():
        if node.insecure_for_tests:
            message = (
                "true, so that clients take any certificate, and anybody on the way may"
                f" be the relay; pin it instead: CertName {PIN_PREFIX}…"
            )
            yield Finding("DM012", severity, f"{path}.InsecureForTests", message)
        if node.stun_test_ip:
            message = (
                f"{node.stun_test_ip!r:.60} is measured instead of the node, as only"
                " tests want it; take STUNTestIP out"
            )
            yield Finding("DM012", severity, f"{path}.STUNTestIP", message)
