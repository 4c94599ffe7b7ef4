"""Real tailscaled in pairs that can reach each other through a relay only.

They run without a network interface (userspace networking), log in at a control server
of their own, and never send a packet of WireGuard directly.
"""

import contextlib
import functools
import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.interop.region import LOOPBACK, Region, await_port, free_ports, running
from tests.support.peers import peer


# Seconds that a command to a tailscaled may take.
COMMAND_LIMIT = 30.0

# tailscaled's own knobs for tests, its logs here and nowhere else, no direct path.
KNOBS = {
    "TS_ASSUME_NETWORK_UP_FOR_TEST": "1",
    "TS_DEBUG_NEVER_DIRECT_UDP": "1",
    "TS_DISABLE_PORTMAPPER": "1",
    "TS_PANIC_IF_HIT_MAIN_CONTROL": "1",
}


@dataclass(frozen=True)
class Member:
    """A tailscaled that has logged in."""

    api: Path
    proxy_port: int
    control: "Control"

    @property
    def name(self) -> str:
        """What the control server calls it."""
        return self.api.parent.name

    @functools.cached_property
    def address(self) -> str:
        """Its address in the tailnet."""
        return self.tailscale("ip", "-4").strip()

    def tailscale(self, *arguments: str) -> str:
        """Run the tailscale command against it; return what it printed."""
        result = subprocess.run(
            self._command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )
        assert result.returncode == 0, f"{arguments}: {result.stdout}"
        return result.stdout

    def _command(self, *arguments: str) -> list[str | Path]:
        return [peer("tailscale-1.102"), f"--socket={self.api}", *arguments]

    def log_in(self) -> None:
        """Become a member of the control server's tailnet."""
        key = self.control.auth_key
        self.tailscale(
            *("up", "--login-server", self.control.url, "--accept-dns=false"),
            *("--timeout", "20s", "--hostname", self.name),
            *(("--auth-key", key) if key else ()),
        )

    def use_map(self, derp_map: object) -> None:
        """Get another DERP map than the others, and nothing else any more.

        What there is to know of them must be known by then.
        """
        request = urllib.request.Request(  # noqa: S310 - http
            f"{self.control.url}/derpmap/{self.name}",
            json.dumps(derp_map).encode(),
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=COMMAND_LIMIT):  # noqa: S310
            pass

    def ping(self, other: "Member", attempts: int = 10) -> str:
        """Return the path by which another member answers, ``DERP(code)`` for one.

        Fails if it never does, as when the relay does not admit one of the two.
        """
        for _ in range(attempts):
            if path := self.hears(other, "2s"):
                return path
        message = f"{other.address} does not answer"
        raise AssertionError(message)

    def hears(self, other: "Member", within: str) -> str:
        """Return the path by which another member answers one ping, or nothing.

        Returns with the pong; the command itself would still sleep for a second.
        """
        ping = ("ping", "--until-direct=false", "-c", "1", "--timeout", within)
        with subprocess.Popen(
            self._command(*ping, other.address), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.match(r"pong from .* via (\S+) in ", line):
                    process.kill()
                    return found[1]
        return ""

    def direct_path(self, other: "Member") -> str:
        """Return the address at which it reaches another member directly, if any."""
        for known in json.loads(self.tailscale("status", "--json"))["Peer"].values():
            if other.address in known["TailscaleIPs"]:
                return str(known["CurAddr"])
        raise KeyError(other.address)

    def connect(self, other: "Member", port: int) -> socket.socket:
        """Open a TCP connection to a port of another member, by SOCKS5."""
        tunnel = socket.create_connection((LOOPBACK, self.proxy_port), COMMAND_LIMIT)
        tunnel.sendall(b"\x05\x01\x00")  # version, one method, no authentication
        assert tunnel.recv(2) == b"\x05\x00"
        tunnel.sendall(
            b"\x05\x01\x00\x01"  # version, connect, reserved, IPv4
            + socket.inet_aton(other.address)
            + port.to_bytes(2, "big")
        )
        answer = tunnel.recv(10, socket.MSG_WAITALL)
        assert answer[:2] == b"\x05\x00", f"SOCKS5 answers {answer.hex()}"
        return tunnel


@dataclass(frozen=True)
class Control:
    """A control server that runs, and the region that it hands out."""

    url: str
    region: Region
    auth_key: str = ""
    """What it lets members in by; empty: it lets everybody in."""


@contextlib.contextmanager
def control_server(folder: Path, region: Region) -> Iterator[Control]:
    """Run a control server that hands out the region's map."""
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [peer("testcontrol-1.102"), "-map", region.map_file]
    log = folder / "control.log"
    with running(command, log) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, log.read_text()
        yield Control(url, region)


@contextlib.contextmanager
def tailscaled(folder: Path, control: Control) -> Iterator[Member]:
    """Run a tailscaled that has its state in a folder and is not logged in yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (proxy_port,) = free_ports(1)
    command: list[str | Path] = [
        *(peer("tailscaled-1.102"), "--tun=userspace-networking", "--port=0"),
        *(f"--statedir={folder}", f"--socket={folder / 'sock'}"),
        *(f"--socks5-server={LOOPBACK}:{proxy_port}", "--no-logs-no-support"),
    ]
    environment = control.region.environment | KNOBS | {"TS_LOGS_DIR": str(folder)}
    environment["TS_NETCHECK_GENERATE_204_URL"] = f"{control.url}/generate_204"
    log = folder / "tailscaled.log"
    with running(command, log, environment) as process:
        await_port(process, proxy_port, log)
        yield Member(folder / "sock", proxy_port, control)


@contextlib.contextmanager
def tailnet(folder: Path, region: Region) -> Iterator[tuple[Member, Member]]:
    """Run two members whose only way to each other is the region."""
    with (
        control_server(folder, region) as control,
        tailscaled(folder / "one", control) as one,
        tailscaled(folder / "other", control) as other,
    ):
        one.log_in()
        other.log_in()
        yield one, other
