"""An S3 server on this machine for tests: moto's, in a process of its own, on a port that is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec

START_SECONDS = 120.0
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


def environment(url: str) -> dict[str, str]:
    """Return the variables that have S3 clients ask a server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Server:
    """A running server, which may be taken away and brought back.

    Attributes:
        url: Where it answers.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        end = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=30).close()
                return
            assert time.monotonic() < end
            time.sleep(0.1)

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()

    def pause(self) -> None:
        """Have it answer nobody."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def bucket(server: Server, name: str, copies: Path) -> Iterator[str]:
    """Give the URL of a new bucket, with this process as a client of the server."""
    from cache import locations

    before = dict(os.environ)
    os.environ |= {**environment(server.url), "GAZELAKE_CACHE": str(copies)}
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    locations._filesystem.cache_clear()
    try:
        server.make_bucket(name)
        yield f"s3://{name}"
    finally:
        locations._filesystem.cache_clear()
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        os.environ.clear()
        os.environ |= before
