"""The certificate of the map server follows its files."""

import ssl

import pytest

from derpctl.authority import Authority
from derpctl.errors import CtlError
from derpctl.serve.tls import Pair, ServerTls


class Files:
    """A pair on disk."""

    def __init__(self, folder):
        self.certificate, self.key = folder / "map.crt", folder / "map.key"
        self.pair = Pair(self.certificate, self.key)

    def put(self, name):
        """Write a new pair; give its certificate."""
        made = Authority().issue([name])
        self.certificate.write_bytes(made.certificate)
        self.key.write_bytes(made.key)
        return made.certificate


@pytest.fixture
def files(tmp_path):
    """A pair for localhost."""
    found = Files(tmp_path)
    found.put("localhost")
    return found


def shown(context):
    """What a client is shown, PEM."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up)
    other = context.wrap_bio(up, down, server_side=True)
    for side in (one, other, one):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = one.getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der).encode()


def test_a_new_pair_is_used(files):
    """Once its writer is done with it, and it is told."""
    said = []
    tls = ServerTls(files.pair, said.append)
    tls.step()
    assert said == []
    new = files.put("other.example")
    tls.step()
    assert shown(tls.context) != new
    tls.step()
    assert shown(tls.context) == new
    assert said == [f"{files.certificate}: a new certificate is used"]


def test_a_pair_that_does_not_fit(files):
    """The former one is used on, whole."""
    said = []
    tls = ServerTls(files.pair, said.append)
    before = shown(tls.context)
    files.certificate.write_bytes(Authority().issue(["localhost"]).certificate)
    for _ in range(3):
        tls.step()
    assert shown(tls.context) == before
    (line,) = said
    assert line.endswith("give a certificate, and its own key; the former one is used")


def test_files_that_go_away_and_come_back(files):
    """While they are away nothing changes but that it is told."""
    said = []
    tls = ServerTls(files.pair, said.append)
    files.key.unlink()
    tls.step()
    tls.step()
    new = files.put("other.example")
    tls.step()
    tls.step()
    assert shown(tls.context) == new
    assert [line.rpartition("; ")[2] for line in said] == [
        "the former one is used",
        f"{files.certificate}: a new certificate is used",
    ]


def test_no_pair_from_the_start(files):
    """Then nothing is served at all."""
    files.key.write_text("no PEM")
    with pytest.raises(CtlError, match="are no pair in PEM, without a password"):
        ServerTls(files.pair, print)
