"""Runs `derpctl map serve` as a process, and asks it as its consumers do."""

import contextlib
import http.client
import signal
import subprocess
import sys
from urllib.parse import urlsplit


LIMIT = 20.0
"""Seconds for whatever a busy machine may take."""


class Server:
    """A server that runs, and whatever it has said so far."""

    def __init__(self, process):
        self._process = process
        self.said = []
        while not (line := self.line()).startswith("listening at "):
            assert line, self.said
        self.url = line.removeprefix("listening at ")

    def line(self):
        """Wait for its next line."""
        line = self._process.stderr.readline().removeprefix("derpctl: ").rstrip("\n")
        self.said.append(line)
        return line

    def ask(self, path, method="GET", context=None, **headers):
        """Ask once; give status, headers and body."""
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=LIMIT, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=LIMIT)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def end(self, number=signal.SIGTERM):
        """Tell it to stop; give how it ended."""
        self._process.send_signal(number)
        return self._process.wait(LIMIT)


class Servers(contextlib.ExitStack):
    """Starts servers, and ends them with the block."""

    def start(self, config, *options):
        """Start one; give it once it listens."""
        command = ["map", "serve", "--listen", "127.0.0.1:0", "--interval", "0.1"]
        process = self.enter_context(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "derpctl", "--config", config),
                    *(*command, *map(str, options)),
                ],
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self.callback(process.kill)
        return Server(process)
