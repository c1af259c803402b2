"""A Jobs server that answers with what was recorded, on a loopback port."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import ray

from tune_jobs.submission.client import OURS, RUN

LOG = "Running entrypoint for job x: python\n"


def job(name: str, status: str, exit_code: int | None, said: str, *, run: str = "", ours: bool = True) -> Any:
    """A submission with the log of its driver."""
    return {
        "type": "SUBMISSION",
        "submission_id": name,
        "job_id": None,
        "status": status,
        "entrypoint": "python -m tune_jobs",
        "metadata": {OURS: RUN, "run": run or f"/shared/{name}"} if ours else {},
        "start_time": 1_760_000_000_000,
        "end_time": None if status in {"PENDING", "RUNNING"} else 1_760_000_090_000,
        "driver_exit_code": exit_code,
        "log": LOG + said,
    }


@contextmanager
def serving(jobs: Mapping[str, Any], *, version: str = ray.__version__, status: int = 200) -> Iterator[str]:
    """Serve these submissions; yields `127.0.0.1:PORT`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/").split("/")
            if path[:2] == ["api", "version"]:
                self.answer(
                    {"version": "4", "ray_version": version, "ray_commit": "x", "session_name": "s"}, status
                )
            elif path == ["api", "jobs"]:
                self.answer(list(jobs.values()), status)
            elif len(path) > 2 and path[2] not in jobs:
                self.answer(f"Job {path[2]} does not exist", 404)
            elif path[-1] == "logs":
                self.answer({"logs": jobs[path[2]]["log"]}, status)
            else:
                self.answer(jobs[path[2]], status)

        def do_POST(self) -> None:
            name = self.path.strip("/").split("/")[2]
            jobs[name].update(status="STOPPED", end_time=1_760_000_090_000)
            self.answer({"stopped": True}, status)

        def answer(self, content: object, code: int) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
