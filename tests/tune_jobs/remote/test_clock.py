"""Every reader of a run uses the clock of the store, not that of its own machine."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.tune_jobs.remote.object_stores import CREDENTIALS, environment
from tune_jobs.location import Location
from tune_jobs.remote.clock import store_time
from tune_jobs.remote.servers import address_of

PLACE = Location("s3", "bucket", "runs/x")


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Yield the requests to the only server of the environment. The test's parameter is the year on the server."""
    paths: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            paths.append(self.path)
            self.send_response_only(403)
            if request.param:
                self.send_header(
                    "Date", format_datetime(datetime(request.param, 1, 1, tzinfo=UTC), usegmt=True)
                )
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with environment({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}"}):
            yield paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("asked", [2001], indirect=True)
def test_the_time_of_the_store_is_asked_for_and_kept_for_a_while(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    then = datetime(2001, 1, 1, tzinfo=UTC).timestamp()
    assert then <= store_time(PLACE) < then + 600
    clock = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 30.0)
    assert then + 30 <= store_time(PLACE) < then + 630
    assert asked == ["/bucket"]
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 90.0)
    assert then <= store_time(PLACE) < then + 60, "which is not this machine's count any more"
    assert asked == ["/bucket"] * 2


@pytest.mark.parametrize("asked", [None], indirect=True)
def test_without_the_time_of_the_store_the_clock_of_this_machine_counts(asked: list[str]) -> None:
    before = time.time()
    told = store_time(PLACE)
    assert before - 1 <= told <= time.time() + 1, "up to the clock's own steps"
    assert asked == ["/bucket"]


def test_the_servers_that_are_asked() -> None:
    with environment({**CREDENTIALS, "AWS_REGION": "eu-west-1"}):
        assert address_of(PLACE) == "https://s3.eu-west-1.amazonaws.com"
    assert address_of(Location("gs", "bucket")) == "https://storage.googleapis.com"
