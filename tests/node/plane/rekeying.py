"""TLS 1.3 key updates, which the `ssl` module cannot send: RFC 8446, 4.6.3."""

import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


_KEY_UPDATE = bytes.fromhex("18 000001 01")  # type, length, update_requested
_HANDSHAKE = 22
_DATA = 23

CIPHERS = {
    "TLS_AES_128_GCM_SHA256": (hashes.SHA256(), AESGCM, 16),
    "TLS_AES_256_GCM_SHA384": (hashes.SHA384(), AESGCM, 32),
    "TLS_CHACHA20_POLY1305_SHA256": (hashes.SHA256(), ChaCha20Poly1305, 32),
}


class Rekeying:
    """Goes on where an `ssl` client stopped sending.

    Args:
        tls: The client; it still receives.
        key_log: Where its context has written its secrets.
        records: How many records of data it has sent.
    """

    def __init__(self, tls: ssl.SSLObject, key_log: Path, records: int) -> None:
        cipher = tls.cipher()
        assert cipher is not None
        self._hash, self._aead, self._key_size = CIPHERS[cipher[0]]
        self._secret = _client_secret(key_log)
        self._number = records

    def data(self, data: bytes) -> bytes:
        """Seal data."""
        return self._seal(data, _DATA)

    def update(self) -> bytes:
        """Ask for new keys, and use new ones."""
        record = self._seal(_KEY_UPDATE, _HANDSHAKE)
        self._secret = self._expand(b"traffic upd", self._hash.digest_size)
        self._number = 0
        return record

    def _seal(self, content: bytes, kind: int) -> bytes:
        nonce = int.from_bytes(self._expand(b"iv", 12)) ^ self._number
        self._number += 1
        inner = content + bytes([kind])
        header = struct.pack("!BHH", _DATA, 0x0303, len(inner) + 16)
        aead = self._aead(self._expand(b"key", self._key_size))
        return header + aead.encrypt(nonce.to_bytes(12), inner, header)

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\0"
        return HKDFExpand(self._hash, size, info).derive(self._secret)


def _client_secret(key_log: Path) -> bytes:
    for line in key_log.read_text().splitlines():
        if line.startswith("CLIENT_TRAFFIC_SECRET_0 "):
            return bytes.fromhex(line.split()[2])
    raise AssertionError
