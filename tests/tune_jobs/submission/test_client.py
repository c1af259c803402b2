"""Addresses without a Jobs server, reported at once in one message, and the output of a driver."""

import asyncio
import http.server
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
import ray
from aiohttp import web

from tests.processes import PATIENCE
from tune_jobs.errors import ClusterError
from tune_jobs.submission import client
from tune_jobs.submission.client import JobsServer, driver_output, driver_output_parts, parse_url


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server of another kind."""

    body = b"<html>welcome</html>"
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None: ...


class Missing(Pages):
    status = 404


class OlderRay(Pages):
    body = b'{"version": "4", "ray_version": "2.40.0"}'


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), request.param) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("server", [Pages, Missing], indirect=True)
def test_another_web_server_is_no_cluster(server: str) -> None:
    with pytest.raises(
        ClusterError, match="the program that answers there is not the dashboard of a Ray cluster"
    ):
        JobsServer(server)


@pytest.mark.parametrize("server", [OlderRay], indirect=True)
def test_another_version_of_ray_is_named(server: str) -> None:
    with pytest.raises(
        ClusterError, match=r"the cluster has Ray 2\.40\.0, but this machine has Ray [\d.]+; install"
    ):
        JobsServer(server)


def test_no_server_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        ClusterError, match=rf"nothing listens there; .*`ssh -N -L {port}:127\.0\.0\.1:8265 HEAD`"
    ):
        JobsServer(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("words", [b"", b"\x00\x00\x06\x04\x00\x00"])
def test_a_server_without_http_is_no_cluster(words: bytes) -> None:
    def answer() -> None:
        with listening.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(words)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(
            ClusterError,
            match="closes the connection or does not speak HTTP: it is not the dashboard of a Ray",
        ):
            JobsServer(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize("server", [Pages], indirect=True)
def test_https_at_a_server_of_http_is_reported(server: str) -> None:
    with pytest.raises(ClusterError, match="the server there does not speak https; Ray's dashboard"):
        JobsServer(server.replace("http:", "https:"))


def test_an_unknown_host_is_reported() -> None:
    with pytest.raises(ClusterError, match=r"there is no machine called nobody\.invalid; give the address"):
        JobsServer("http://nobody.invalid:8265")


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SECONDS_TO_ANSWER", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ClusterError, match=r"no answer within 0\.5 s"),
    ):
        JobsServer(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_the_address_that_is_given_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"^http://127\.0\.0\.1:{port}: nothing listens"):
        JobsServer(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "http://", "http://a:b", "auto"]
)
def test_wrong_addresses_of_a_dashboard(address: str) -> None:
    with pytest.raises(ClusterError, match="valid is http://HOST:PORT of the dashboard"):
        parse_url(address)


def test_an_address_is_taken_without_its_path() -> None:
    assert parse_url("http://127.0.0.1:8265/#/jobs") == "http://127.0.0.1:8265"


def test_messages_of_ray_before_the_driver_are_left_out() -> None:
    assert driver_output("runtime env is made\nRunning entrypoint for job a: exec sh\nhello\n") == "hello\n"
    assert driver_output("runtime env is made\n") == ""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_log_that_comes_in_parts_is_the_same(size: int) -> None:
    log = "runtime env is made\nRunning entrypoint for job a: exec sh\n\nhello\nRunning entrypoint for job b\nend\n"
    assert "".join(
        driver_output_parts(log[at : at + size] for at in range(0, len(log), size))
    ) == driver_output(log)
    assert list(driver_output_parts(["runtime env is made\n"])) == []


def test_a_long_log_is_not_read_again_for_each_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(client, "driver_output", lambda log: read.append(len(log)) or driver_output(log))
    parts = ["env\n", "Running entrypoint for job a: x\n", *(f"{number}\n" for number in range(1000))]
    assert list(driver_output_parts(parts)) == parts[2:]
    assert sum(read) < 200


@pytest.fixture
def falls_silent() -> Iterator[str]:
    """Yield a Jobs server that sends half of its followed log and then falls silent."""
    log = "Running entrypoint for job a: x\nhello\nend\n"
    details = {
        "type": "SUBMISSION",
        "submission_id": "a",
        "entrypoint": "x",
        "metadata": {"tune_jobs": "run"},
    }

    async def tail(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(log[:-4])
        await socket.receive()
        return socket

    def answer(content: object) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(_: web.Request) -> web.Response:
            return web.json_response(content)

        return handle

    async def serve() -> None:
        application = web.Application()
        application.router.add_get(
            "/api/version", answer({"version": "4", "ray_version": ray.__version__, "ray_commit": ""})
        )
        application.router.add_get("/api/jobs/a", answer({**details, "status": "SUCCEEDED"}))
        application.router.add_get("/api/jobs/a/logs", answer({"logs": log}))
        application.router.add_get("/api/jobs/a/logs/tail", tail)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        addresses.append(runner.addresses[0][1])
        ready.set()
        await over.wait()
        await runner.cleanup()

    addresses: list[int] = []
    ready, over, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(PATIENCE)
    yield f"http://127.0.0.1:{addresses[0]}"
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # Ray's own call
def test_a_followed_log_that_falls_silent_is_asked_for_again(
    falls_silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SECONDS_OF_SILENCE", 0.3)
    assert "".join(JobsServer(falls_silent).follow("a")) == "hello\nend\n"
