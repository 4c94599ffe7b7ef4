"""headscale itself on loopback, and what stands before it: who hands it the map."""

import contextlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from tests.interop.region import (
    LOOPBACK,
    Region,
    await_port,
    free_ports,
    running,
)
from tests.interop.relays import eventually
from tests.interop.tailnet import Control
from tests.support.peers import peer


RELEASE = "0.29.2"

# Seconds that one question may take.
LIMIT = 10.0

_REFRESH = "fetching DERPMap updates"


@dataclass(frozen=True)
class Headscale:
    """A headscale that runs."""

    url: str
    debug_url: str
    config: Path
    log: Path

    def command(self, *words: str) -> str:
        """Run one of its commands; return what it printed."""
        command = [peer(f"headscale-{RELEASE}"), "--config", self.config, *words]
        result = subprocess.run(
            [*command], stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True
        )
        return result.stdout.strip()

    def control(self, region: Region) -> Control:
        """Describe it to members, with a key that lets any of them in."""
        user = json.loads(self.command("users", "create", "crew", "-o", "json"))["id"]
        words = ("preauthkeys", "create", "--user", str(user), "--reusable")
        return Control(self.url, region, self.command(*words))

    def nodes(self) -> dict[str, list[str]]:
        """Return the names of the nodes that it hands out, by region."""
        request = urllib.request.Request(  # noqa: S310 - http
            f"{self.debug_url}/debug/derp", headers={"Accept": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:  # noqa: S310
            regions = json.load(answer).get("regions", {})  # left out if empty
        return {
            number: [node["name"] for node in region["nodes"]]
            for number, region in regions.items()
        }

    @property
    def refreshes(self) -> int:
        """How often it has begun to read its map again."""
        return self.log.read_text().count(_REFRESH)

    def await_refreshes(self, count: int) -> None:
        """Return once it has begun that many more; all but the last are done then."""
        wanted = self.refreshes + count
        eventually(lambda: self.refreshes >= wanted, f"{count} refreshes")


@contextlib.contextmanager
def headscale(
    folder: Path, derp: Mapping[str, object], environment: Mapping[str, str]
) -> Iterator[Headscale]:
    """Run a headscale until the block ends.

    Args:
        folder: Where it keeps everything; a short name, as there is a socket in it.
        derp: What its configuration says of maps.
        environment: What it needs to trust those who hand them out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, debug_port, grpc_port = free_ports(3)
    tree = {
        "server_url": f"http://{LOOPBACK}:{port}",
        "listen_addr": f"{LOOPBACK}:{port}",
        "metrics_listen_addr": f"{LOOPBACK}:{debug_port}",
        "grpc_listen_addr": f"{LOOPBACK}:{grpc_port}",
        "noise": {"private_key_path": str(folder / "noise.key")},
        "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48"},
        "database": {"type": "sqlite", "sqlite": {"path": str(folder / "db.sqlite")}},
        "dns": {"magic_dns": False, "override_local_dns": False},
        "unix_socket": str(folder / "sock"),
        "disable_check_updates": True,
        "derp": {"server": {"enabled": False}, **derp},
    }
    config, log = folder / "config.yaml", folder / "headscale.log"
    config.write_text(yaml.safe_dump(tree))
    command = [peer(f"headscale-{RELEASE}"), "--config", config, "serve"]
    with running(command, log, environment) as process:
        await_port(process, debug_port, log)
        await_port(process, port, log)
        urls = (f"http://{LOOPBACK}:{one}" for one in (port, debug_port))
        yield Headscale(*urls, config, log)


@contextlib.contextmanager
def map_server(config: Path, folder: Path, *options: str) -> Iterator[str]:
    """Run `derpctl map serve` until the block ends; give its URL without a path."""
    (port,) = free_ports(1)
    command: Sequence[str | Path] = [
        *(sys.executable, "-m", "derpctl", "--config", config, "map", "serve"),
        *("--listen", f"{LOOPBACK}:{port}", "--interval", "0.2", *options),
    ]
    log = folder / "serve.log"
    with running(command, log) as process:
        await_port(process, port, log)
        yield f"http://{LOOPBACK}:{port}"
    assert process.returncode == 0, log.read_text()


class Gate:
    """A reverse proxy that remembers what it has answered.

    What it stands before may be replaced, and be away; then it gives an error page.
    """

    def __init__(self) -> None:
        self.target = ""
        """URL without a path; empty: it gives `page` itself."""

        self.page = b"<html>Bad Gateway</html>"
        self.answers: list[tuple[int, bytes]] = []
        """Status and body of each answer."""

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Pass a question on; give status, type and body."""
        error = 502, "text/html", self.page
        if not self.target:
            return error
        try:
            with urllib.request.urlopen(self.target + path, timeout=LIMIT) as found:  # noqa: S310
                return found.status, found.headers["Content-Type"], found.read()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.headers["Content-Type"], exc.read()
        except OSError:
            return error

    def await_status(self, status: int, count: int = 1) -> None:
        """Return once it has answered so, that many times from now on."""
        before = len(self.answers)

        def has() -> bool:
            said = [answered for answered, _ in self.answers[before:]]
            return said.count(status) >= count

        eventually(has, f"{count} answers {status}")


@contextlib.contextmanager
def gate() -> Iterator[tuple[Gate, str]]:
    """Run a gate until the block ends; give its URL as well."""
    found = Gate()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = found.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            found.answers.append((status, body))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found, f"http://{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
