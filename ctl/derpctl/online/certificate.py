"""Whether the certificates that a node presents are those that its map wants. Pure."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509

from derpctl.map.lint.finding import Finding, Severity
from derpctl.map.model import Node
from derpnode.client import PIN_PREFIX, own_certificates


_PIN = re.compile(re.escape(PIN_PREFIX) + "[0-9a-f]{64}")
_RENEWED = 3
"""Certificates are renewed when one part in so many of their lifetime is left."""


def judge(
    path: str, node: Node, address: str, chain: Sequence[bytes], now: datetime
) -> Iterator[Finding]:
    """Apply DM011 and DM021 to what one address of a node presents.

    Args:
        path: Of the node.
        node: As the map has it.
        address: Where it was asked, for the message.
        chain: DER, the leaf first; the meta certificate may be among them.
        now: An aware datetime.
    """
    own = own_certificates(chain)
    pinned = f"{path}.CertName"
    if _PIN.fullmatch(node.cert_name):  # DM010 has said what is no pin
        for message in _wrong_pin(node.cert_name, own):
            said = f"{address} {message}"
            yield Finding("DM011", Severity.ERROR, pinned, said)
    if own:
        where = pinned if node.cert_name else f"{path}.HostName"
        for severity, message in _wrong_time(own[0], now):
            yield Finding("DM021", severity, where, f"{address} {message}")


def _wrong_pin(pin: str, own: Sequence[bytes]) -> Iterator[str]:
    if not own:
        yield "presents no certificate; give the node one"
        return
    actual = PIN_PREFIX + hashlib.sha256(own[0]).hexdigest()
    if actual != pin:
        yield (
            "presents another certificate, which clients refuse; if it is the node"
            f" that you mean, its pin is {actual}"
        )
    if len(own) > 1:
        yield (
            f"presents {len(own)} certificates, and where one is pinned clients take"
            " it alone; serve the leaf without its issuers"
        )


def _wrong_time(leaf: bytes, now: datetime) -> Iterator[tuple[Severity, str]]:
    try:
        found = x509.load_der_x509_certificate(leaf)
    except ValueError:
        return  # the handshake says so
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    if now > end:
        message = f"presents a certificate that expired {_date(end)}; renew it"
        yield Severity.ERROR, message
    elif now < begin:
        message = (
            f"presents a certificate that is not valid before {_date(begin)}; check"
            " both clocks"
        )
        yield Severity.ERROR, message
    elif (end - now) * _RENEWED < end - begin:
        message = (
            f"presents a certificate that expires {_date(end)}, less than a third of"
            " its lifetime from now; see that it is renewed"
        )
        yield Severity.INFO, message


def _date(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
