"""What certificates of tests have in common, whatever they are for."""

import ipaddress

from cryptography import x509


SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""For an authority: it signs certificates, and nothing else."""


def alternative(name: str) -> x509.GeneralName:
    """Give a host's name or address, as a certificate holds it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
