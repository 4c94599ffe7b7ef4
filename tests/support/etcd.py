"""Real etcd servers for tests, on free ports and in folders that tests throw away.

What a test arranges is arranged with `post`, so that the client under test is not
judged by itself.
"""

import base64
import json
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from tests.support.peers import MissingTool, peer


PATIENCE = 30.0
"""Seconds until a server must serve, on a machine that has other things to do."""

Version = Literal["debian", "current"]
"""Which etcd: the one on PATH, 3.4 on Debian; or 3.7.3, built from its Go module."""

VERSIONS: tuple[Version, ...] = get_args(Version)

_PORTS = range(10_000, 32_768)
"""None of those that Linux gives to connections: one could have a port before its
server has, or while that is started again. Source: ``ip_local_port_range``.
"""

_LOOK = 0.05  # seconds between two looks

_USERS = (b"user name is empty", b"permission denied")
"""What a server with users says to nobody, without client certificates and with."""

_DIRECT = urllib.request.ProxyHandler({})  # never by way of the machine's proxy


@dataclass(frozen=True)
class ServerFiles:
    """What a server proves itself with over TLS, as PEM files."""

    ca: Path
    certificate: Path
    key: Path
    client_auth: bool = False
    """Whether clients must prove themselves as well."""


def require_etcd(version: Version = "debian") -> str:
    """Return where an etcd is; one that is not on PATH is built first.

    Raises:
        MissingTool: It is nowhere, or Go is not.
        BuildFailed: Go refused.
    """
    if version == "current":
        return str(peer("etcd-3.7.3"))
    found = shutil.which("etcd")
    if found is None:
        remedy = "install it: apt install etcd-server (or etcd, on some systems)"
        raise MissingTool("etcd", remedy)
    return found


def free_ports(count: int) -> list[int]:
    """Give TCP ports of loopback that nobody had a moment ago, all different."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            listener = stack.enter_context(socket.socket())
            port = random.choice(_PORTS)  # noqa: S311 - no secret
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                found.append(port)
    return found


class Server:
    """One etcd process, and what may happen to it.

    Args:
        name: Its name in the cluster.
        folder: Its own; data and log are there.
        ports: For clients, and for other servers.
        version: Which etcd it is.
        host: What clients call it; it listens on 127.0.0.1.
        tls: What clients see; None: plain HTTP.
        arguments: More words for its command line.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        ports: Sequence[int],
        *,
        version: Version = "debian",
        host: str = "127.0.0.1",
        tls: ServerFiles | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.port, peer_port = ports
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self._scheme = "https" if tls else "http"
        self.url = f"{self._scheme}://{host}:{self.port}"
        self._version = version
        self._folder = folder
        self._tls = tls
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self._folder / "log").read_text("utf-8", "replace")

    def launch(self, cluster: Mapping[str, str]) -> None:
        """Start it, with the data it had; the cluster is peer URLs by name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        members = ",".join(f"{name}={url}" for name, url in cluster.items())
        listen = f"{self._scheme}://127.0.0.1:{self.port}"
        command = [
            *(require_etcd(self._version), "--name", self.name),
            *("--data-dir", str(self._folder / "data"), "--logger", "zap"),
            *("--listen-client-urls", listen, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", members),
            *("--heartbeat-interval", "100", "--election-timeout", "1000"),
            *self._tls_arguments(),
            *self._arguments,
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _tls_arguments(self) -> Sequence[str]:
        if self._tls is None:
            return ()
        files = self._tls
        words = ["--cert-file", str(files.certificate), "--key-file", str(files.key)]
        if files.client_auth:
            words += ["--trusted-ca-file", str(files.ca), "--client-cert-auth"]
        return words

    def until_ready(self, context: ssl.SSLContext | None = None) -> None:
        """Wait until it serves, with a leader."""
        deadline = time.monotonic() + PATIENCE
        while not self._is_healthy(context):
            assert self._process is not None
            assert self._process.poll() is None, f"etcd ended: {self.log[-2000:]}"
            assert time.monotonic() < deadline, f"etcd is late: {self.log[-2000:]}"
            time.sleep(_LOOK)

    def _is_healthy(self, context: ssl.SSLContext | None) -> bool:
        try:
            post(self.url, "/kv/range", {"key": encoded(b"health")}, context=context)
        except urllib.error.HTTPError as exc:
            body = exc.read()
            return any(said in body for said in _USERS)  # it has users: it serves
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it as the power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it stand still: connections stay, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True
        state = Path(f"/proc/{self._process.pid}/stat")
        # The signal is on its way for a moment, in which it would still answer.
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None and self._stopped:
            self._process.send_signal(signal.SIGCONT)
        self._stopped = False


class Cluster:
    """Some servers that know each other."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers

    @property
    def urls(self) -> list[str]:
        """Where clients ask."""
        return [server.url for server in self.servers]

    @property
    def peers(self) -> dict[str, str]:
        """Where they speak to each other, by name."""
        return {server.name: server.peer_url for server in self.servers}

    def start(self, context: ssl.SSLContext | None = None) -> "Cluster":
        """Start all of them, and wait until they serve."""
        for server in self.servers:
            server.launch(self.peers)
        for server in self.servers:
            server.until_ready(context)
        return self

    def kill(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.resume()
            server.kill()


def cluster(
    folder: Path,
    count: int = 1,
    *,
    version: Version = "debian",
    host: str = "127.0.0.1",
    tls: ServerFiles | None = None,
    arguments: Sequence[str] = (),
) -> Cluster:
    """Make a cluster that is not started yet."""
    ports = free_ports(2 * count)
    servers: list[Server] = []
    for number in range(count):
        name, own = f"e{number + 1}", ports[2 * number : 2 * number + 2]
        server = Server(
            name,
            folder / name,
            own,
            version=version,
            host=host,
            tls=tls,
            arguments=arguments,
        )
        servers.append(server)
    return Cluster(servers)


def post(
    url: str,
    method: str,
    payload: Mapping[str, object],
    *,
    token: str = "",
    context: ssl.SSLContext | None = None,
) -> dict[str, object]:
    """Ask a server for something, without the client under test.

    Raises:
        OSError: It cannot be had, or an `HTTPError`: it refused.
    """
    headers = {"Authorization": token} if token else {}
    request = urllib.request.Request(  # noqa: S310 - the URL is a server of ours
        f"{url}/v3{method}", json.dumps(payload).encode(), headers
    )
    https = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(_DIRECT, https)
    with opener.open(request, timeout=5) as response:
        return cast("dict[str, object]", json.load(response))


def encoded(data: bytes) -> str:
    """Write bytes as the gateway wants them."""
    return base64.b64encode(data).decode()


def putting(key: bytes, value: bytes) -> Mapping[str, object]:
    """Give a step of a transaction that stores a value."""
    return {"request_put": {"key": encoded(key), "value": encoded(value)}}


def deleting(prefix: bytes) -> Mapping[str, object]:
    """Give a step of a transaction that deletes every key that begins so."""
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    words = {"key": encoded(prefix), "range_end": encoded(end)}
    return {"request_delete_range": words}


def transaction(
    url: str,
    *steps: Mapping[str, object],
    token: str = "",
    context: ssl.SSLContext | None = None,
) -> int:
    """Do some steps at once; give the revision that they made."""
    payload = {"success": list(steps)}
    answer = post(url, "/kv/txn", payload, token=token, context=context)
    return int(cast("dict[str, str]", answer["header"])["revision"])


@dataclass(frozen=True)
class Found:
    """What is stored under a key."""

    value: bytes
    lease: int
    create_revision: int
    mod_revision: int


def stored(
    url: str, key: bytes, *, token: str = "", context: ssl.SSLContext | None = None
) -> Found | None:
    """Look what is stored under a key."""
    payload = {"key": encoded(key)}
    answer = post(url, "/kv/range", payload, token=token, context=context)
    for item in cast("list[dict[str, str]]", answer.get("kvs", [])):
        return Found(
            base64.b64decode(item.get("value", "")),
            int(item.get("lease", 0)),
            int(item["create_revision"]),
            int(item["mod_revision"]),
        )
    return None


def names(url: str, prefix: bytes) -> list[str]:
    """List the keys that begin so."""
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    payload = {"key": encoded(prefix), "range_end": encoded(end), "keys_only": True}
    items = cast("list[dict[str, str]]", post(url, "/kv/range", payload).get("kvs", []))
    return [base64.b64decode(item["key"]).decode() for item in items]


def revoke(url: str, lease: int) -> None:
    """End a lease, and delete its keys."""
    post(url, "/lease/revoke", {"ID": lease})


def compact(url: str, revision: int) -> None:
    """Have everything before a revision forgotten."""
    post(url, "/kv/compaction", {"revision": revision, "physical": True})


def token_of(
    url: str, user: str, password: str, *, context: ssl.SSLContext | None = None
) -> str:
    """Log in as a user."""
    payload = {"name": user, "password": password}
    return str(post(url, "/auth/authenticate", payload, context=context)["token"])


def add_user(
    url: str,
    user: str,
    password: str,
    prefix: bytes,
    *,
    token: str = "",
    context: ssl.SSLContext | None = None,
) -> None:
    """Add a user who may read and write below a prefix."""

    def ask(method: str, **payload: object) -> None:
        post(url, f"/auth{method}", payload, token=token, context=context)

    end = prefix[:-1] + bytes([prefix[-1] + 1])
    permission = {
        "permType": "READWRITE",
        "key": encoded(prefix),
        "range_end": encoded(end),
    }
    ask("/user/add", name=user, password=password)
    ask("/role/add", name=user)
    ask("/role/grant", name=user, perm=permission)
    ask("/user/grant", user=user, role=user)


def enable_users(
    url: str, root_password: str, *, context: ssl.SSLContext | None = None
) -> str:
    """Let nobody in without a login; return a token of root."""
    root = {"name": "root", "password": root_password}
    post(url, "/auth/user/add", root, context=context)
    post(url, "/auth/role/add", {"name": "root"}, context=context)
    post(url, "/auth/user/grant", {"user": "root", "role": "root"}, context=context)
    post(url, "/auth/enable", {}, context=context)
    return token_of(url, "root", root_password, context=context)
