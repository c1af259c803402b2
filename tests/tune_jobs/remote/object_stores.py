"""Real servers of object stores on loopback, and a proxy that throttles a server or makes it unreachable."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import pytest
from pyarrow import fs

from tests.processes import running
from tune_jobs.location import Location

BUCKET = "bucket-of-tests"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "of-tests",
    "AWS_SECRET_ACCESS_KEY": "of-tests",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


_GS_SERVER = """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=sys.argv[1])
server.start()
print(server._api._httpd.server_address[1], flush=True)
sys.stdin.read()
server.stop()
"""
_S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def s3_server(**variables: str) -> Iterator[str]:
    """Yield the address of an S3 server with an empty bucket: `http://127.0.0.1:PORT`."""
    with _serving(_S3_SERVER, variables) as port:
        with environment(CREDENTIALS):
            files = fs.S3FileSystem(
                endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True
            )
            files.create_dir(BUCKET)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _serving(code: str, variables: Mapping[str, str]) -> Iterator[int]:
    """Yield the port of a server in a separate process: pyarrow may block all threads of this process."""
    with running(
        [sys.executable, "-c", code, BUCKET],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
            server.stdout.close()
        finally:
            server.stdin.close()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    with patch.dict(os.environ, variables):
        yield


class Proxy:
    """Forwards requests to the server at `address` unless its mode is `slow`, `silent` or `down`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.mode = "up"
        """`up`, `slow` (each request is answered with SlowDown), `silent` (connections are held, and nothing is
        said, until it is something else), or `down` (connections are dropped).
        """
        self.refused = 0
        """The number of requests that were not forwarded."""
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Allow one request per connection: each then meets the mode of its own time."""
        with ExitStack() as open_:
            open_.enter_context(client)
            try:
                head, body = _request(client)
                mode = self.mode
                if mode != "up":
                    self.refused += 1
                if mode == "slow":
                    client.sendall(
                        b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN)
                    )
                while self.mode == mode == "silent":
                    time.sleep(0.05)
                if mode != "up" or not head:
                    return
                server = open_.enter_context(socket.create_connection(self._server))
                server.sendall(_closing(head) + body)
                while data := server.recv(1 << 16):
                    client.sendall(data)
            except OSError:
                return


def _request(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(1 << 16)
        if not more:
            return b"", b""
        data += more
        if b"expect: 100-continue" in data.lower() and data.endswith(b"\r\n\r\n"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    length = int(fields.get(b"content-length", 0))
    while len(body) < length:
        more = client.recv(1 << 16)
        if not more:
            break
        body += more
    while fields.get(b"transfer-encoding") == b"chunked" and not body.endswith(b"0\r\n\r\n"):
        more = client.recv(1 << 16)
        if not more:
            break
        body += more
    return head, body


def _closing(head: bytes) -> bytes:
    first, *lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def gs_address() -> Iterator[str]:
    with _serving(_GS_SERVER, {}) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def s3(s3_address: str, request: pytest.FixtureRequest) -> Iterator[Location]:
    """Yield an empty place on a real S3 server for this test alone. The environment has the way to it."""
    with environment({**CREDENTIALS, "AWS_ENDPOINT_URL": s3_address}):
        yield Location("s3", BUCKET, _named(request))


@pytest.fixture
def gs(gs_address: str, request: pytest.FixtureRequest) -> Iterator[Location]:
    """Yield an empty place on a server with the API of Google Cloud Storage."""
    with environment({"STORAGE_EMULATOR_HOST": gs_address}):
        yield Location("gs", BUCKET, _named(request))


@pytest.fixture(params=["s3", "gs"])
def place(request: pytest.FixtureRequest) -> Location:
    """Return an empty place in either kind of store."""
    found: Location = request.getfixturevalue(request.param)
    return found


def _named(request: pytest.FixtureRequest) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


@pytest.fixture
def proxy(s3_address: str, s3: Location) -> Iterator[Proxy]:
    """Yield a proxy that is the only way to `s3` in the environment."""
    made = Proxy(s3_address)
    with environment({"AWS_ENDPOINT_URL": made.address}):
        yield made
    made.close()
