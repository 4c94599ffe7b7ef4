"""Writes into etcd all the time: `python -m tests.mesh.storm URL SECONDS`.

A process of its own, so that those who are tested keep their time. Prints how many
puts there were in a second.
"""

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit

from tests.support.etcd import putting


BATCH = 100
"""Puts in a transaction; etcd takes 128 by default."""

WRITERS = 4
"""Connections; etcd makes one commit of what comes at the same time."""

PAUSE = BATCH * WRITERS / 20_000
"""Seconds from one transaction of a writer to its next: 20,000 puts a second in all."""


def main(url: str, seconds: str) -> None:
    """Write for so long, below a prefix that nobody reads."""
    address = urlsplit(url)
    assert address.hostname is not None
    end = time.monotonic() + float(seconds)
    counts = [0] * WRITERS

    def write(writer: int) -> None:
        connection = http.client.HTTPConnection(address.hostname, address.port)
        keys = [f"/storm/{writer}/{number}".encode() for number in range(BATCH)]
        body = json.dumps({"success": [putting(key, b"x" * 16) for key in keys]})
        due = time.monotonic()
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + PAUSE, time.monotonic())
            connection.request("POST", "/v3/kv/txn", body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == http.client.OK, answer.reason
            counts[writer] += BATCH

    writers = [threading.Thread(target=write, args=[n]) for n in range(WRITERS)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    sys.stdout.write(f"{sum(counts) / float(seconds):.0f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
