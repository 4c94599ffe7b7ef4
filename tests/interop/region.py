"""Regions of one relay on loopback: ours by ``derpctl demo``, and stock derper's.

Both come with the JSON document that ``derpctl demo -o json`` prints, so that whatever
asks a relay cannot tell which one it is.
"""

import contextlib
import hashlib
import http.client
import json
import os
import secrets
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Literal, TypedDict

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.peers import peer


Tls = Literal["pinned", "ca"]
Server = Literal["ours", "derper-1.104"]

# Seconds that a relay may take to be ready, and to be gone.
START_LIMIT = 30.0
STOP_LIMIT = 10.0

LOOPBACK = "127.0.0.1"


class Node(TypedDict):
    """One relay in the document of a demo."""

    name: str
    host: str
    derp_port: int
    http_port: int
    stun_port: int
    pin: str
    admin: str
    pid: int


class Demo(TypedDict):
    """What of that document is used here."""

    region: int
    mesh_key_file: str
    derp_map_file: str
    ca_file: str | None
    nodes: list[Node]


@dataclass(frozen=True)
class Region:
    """A running region and how to reach it."""

    document: Path
    demo: Demo

    @property
    def node(self) -> Node:
        """The region's only node, as the document has it."""
        return self.demo["nodes"][0]

    @property
    def map_file(self) -> Path:
        """The region's DERP map."""
        return Path(self.demo["derp_map_file"])

    @property
    def environment(self) -> dict[str, str]:
        """What Go programs need to trust the region's certificates."""
        ca_file = self.demo["ca_file"]
        return os.environ | ({"SSL_CERT_FILE": ca_file} if ca_file else {})

    def metric(self, name: str) -> float:
        """Read one of the node's metrics by derper's name."""
        admin = self.node["admin"].removeprefix("http://")
        for path in ("/metrics", "/debug/varz"):
            for line in _page(admin, path):
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        pytest.fail(f"{admin} shows no {name}")


def _page(address: str, path: str) -> list[str]:
    """Return the lines at a path, none if the answer is not 200."""
    connection = http.client.HTTPConnection(address, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        return body.splitlines() if response.status == HTTPStatus.OK else []


@contextlib.contextmanager
def run_region(
    server: Server, folder: Path, tls: Tls, verify: Path | None = None
) -> Iterator[Region]:
    """Run a region until the block ends.

    Args:
        server: Whose relay.
        folder: Where it keeps its files; made if need be.
        tls: How clients know it.
        verify: Socket of the tailscaled that says who is admitted; all if ``None``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if server == "ours":
        starting = _demo(folder, tls, verify)
    else:
        starting = _derper(peer(server), folder, tls, verify)
    with starting as demo:
        document = folder / "region.json"
        document.write_text(json.dumps(demo))
        yield Region(document, demo)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends; what it says on stderr goes to the log."""
    with (
        log.open("a") as stderr,
        subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


# Ours


@contextlib.contextmanager
def _demo(folder: Path, tls: Tls, verify: Path | None) -> Iterator[Demo]:
    command: list[str | Path] = [
        *(sys.executable, "-m", "derpctl", "demo", "--nodes", "1", "--hold"),
        *("-o", "json", "--dir", folder, "--tls", tls),
    ]
    if verify is not None:
        command += ["--set", "admission.mode=any"]
        command += ["--set", f"admission.tailscaled=[{json.dumps(str(verify))}]"]
    log = folder / "demo.log"
    with running(command, log) as process:
        demo: Demo = json.loads(_line(process, log))
        try:
            yield demo
        finally:
            _end_demo(process, demo)


def _line(process: subprocess.Popen[str], log: Path) -> str:
    """The one line that a demo prints once everything is ready."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(START_LIMIT)
    assert ready, f"not ready in {START_LIMIT} s:\n{log.read_text()}"
    line = process.stdout.readline()
    assert line, f"ended instead of being ready:\n{log.read_text()}"
    return line


def _end_demo(process: subprocess.Popen[str], demo: Demo) -> None:
    """A held demo stops all it started within 5 s of SIGTERM, and says nothing more."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        for node in demo["nodes"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node["pid"], signal.SIGKILL)
        raise
    assert process.stdout is not None
    assert process.stdout.read() == ""


# Stock derper


@contextlib.contextmanager
def _derper(
    binary: Path, folder: Path, tls: Tls, verify: Path | None
) -> Iterator[Demo]:
    host = LOOPBACK if tls == "pinned" else "localhost"
    ca_file = _make_certificates(folder, host) if tls == "ca" else None
    mesh_key = folder / "mesh.key"
    mesh_key.write_text(secrets.token_hex(32))
    derp_port, http_port, stun_port = free_ports(3)
    command: list[str | Path] = [
        *(binary, "-hostname", host, "-certmode", "manual", "-certdir", folder),
        *("-a", f"{LOOPBACK}:{derp_port}", "-http-port", str(http_port)),
        *("-stun-port", str(stun_port), "-c", folder / "derper.key"),
        *("-mesh-psk-file", mesh_key, "-home", "blank"),
    ]
    if verify is not None:
        command += ["-verify-clients", "-socket", verify]
    log = folder / "derper.log"
    with running(command, log) as process:
        await_port(process, derp_port, log)
        node: Node = {
            "name": "900a",
            "host": host,
            "derp_port": derp_port,
            "http_port": http_port,
            "stun_port": stun_port,
            "pin": _pin(folder / f"{host}.crt") if tls == "pinned" else "",
            "admin": f"http://{LOOPBACK}:{http_port}",
            "pid": process.pid,
        }
        map_file = folder / "derpmap.json"
        map_file.write_text(json.dumps(_map(node)))
        yield {
            "region": 900,
            "mesh_key_file": str(mesh_key),
            "derp_map_file": str(map_file),
            "ca_file": str(ca_file) if ca_file else None,
            "nodes": [node],
        }


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def await_port(process: subprocess.Popen[str], port: int, log: Path) -> None:
    """Return once the process, which must not end before, accepts connections."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
            return
        assert process.poll() is None, f"ended at once:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not listening:\n{log.read_text()}"
        time.sleep(0.02)


def _pin(certificate: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return f"sha256-raw:{hashlib.sha256(der).hexdigest()}"


def _map(node: Node) -> object:
    mapped = {
        "Name": node["name"],
        "RegionID": 900,
        "HostName": node["host"],
        "CertName": node["pin"],
        "IPv4": LOOPBACK,
        "IPv6": "none",
        "DERPPort": node["derp_port"],
        "STUNPort": node["stun_port"],
    }
    region = {
        "RegionID": 900,
        "RegionCode": "stock",
        "RegionName": "Stock derper",
        "Nodes": [mapped],
    }
    return {"Regions": {"900": region}}


def _make_certificates(folder: Path, host: str) -> Path:
    """Make a CA and a certificate for the host; return the CA's file."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "interop CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    ca = _certificate(ca_name, ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    leaf = _certificate(name, key).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
    )
    ca_file = folder / "ca.pem"
    for builder, file in ((ca, ca_file), (leaf, folder / f"{host}.crt")):
        signed = builder.issuer_name(ca_name).sign(ca_key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / f"{host}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ca_file


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=60))
    )
