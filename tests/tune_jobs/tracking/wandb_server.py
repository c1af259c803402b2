"""A small W&B server on loopback that accepts W&B's requests or fails as real servers do.

It has the part of W&B's API that an upload needs. A run has one row per step, as in W&B: a row that is sent twice, as
`wandb sync` after an upload that broke off, replaces itself.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.processes import PATIENCE

WAIT_SECONDS = 60.0
"""Seconds to wait for an event that comes within seconds if it comes at all."""


_FAILURES: dict[str, tuple[int, dict[str, Any]]] = {
    "refuse": (403, {"errors": [{"message": "permission denied"}]}),
    "throttle": (429, {"error": "too many requests"}),
    "fail": (500, {"error": "the server is on fire"}),
    "garble": (200, {"data": {"upsertBucket": {"bucket": None}, "createRunFiles": None}}),
}


@dataclass
class UploadedRun:
    """The server's data of one W&B run."""

    job_type: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    """History by step."""
    files: set[str] = field(default_factory=set)
    exit_code: int | None = None

    @property
    def epochs(self) -> dict[int, dict[str, float]]:
        """Return the values by step, without W&B's own."""
        return {
            step: {name: float(value) for name, value in row.items() if not name.startswith("_")}
            for step, row in self.rows.items()
        }


class WandbServer:
    """A server that listens from its creation to `close`."""

    def __init__(self) -> None:
        self.behaviour = "accept"
        """How it answers requests from now on: `accept`, `refuse`, `throttle`, `fail`, `hang` or `garble`."""
        self.runs: dict[str, UploadedRun] = {}
        self.requests: list[str] = []
        self.keys: set[str] = set()
        """Values of the header by which clients identify themselves."""
        self._closing = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop answering."""
        if not self._closing.is_set():
            self._closing.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def wait_until(self, there: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not there():
            assert time.monotonic() < until, f"it never came; {len(self.requests)} requests did"
            time.sleep(0.05)

    def answer(self, path: str, body: bytes, host: str) -> tuple[int, dict[str, Any]]:
        """Return status and content, or never return."""
        if self.behaviour == "hang":
            self._closing.wait()
        if self.behaviour in _FAILURES:
            return _FAILURES[self.behaviour]
        if path == "/graphql":
            return 200, {"data": self._graphql(json.loads(body), host)}
        if path.endswith("/file_stream"):
            return 200, self._stream(path.split("/")[4], json.loads(body))
        if path.startswith("/upload/"):
            run_id, name = path.removeprefix("/upload/").split("/", 1)
            self.runs[run_id].files.add(name)
        return 200, {}

    def _graphql(self, query: dict[str, Any], host: str) -> dict[str, Any]:
        variables = query.get("variables") or {}
        match re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1]:  # type: ignore[index]
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(variables)}
            case "CreateRunFiles":
                run_id = variables["run"]
                files = [
                    {"name": n, "uploadUrl": f"http://{host}/upload/{run_id}/{n}"} for n in variables["files"]
                ]
                return {"createRunFiles": {"runID": run_id, "uploadHeaders": [], "files": files}}
        return {}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run_id = given["name"]
        new = run_id not in self.runs
        run = self.runs.setdefault(run_id, UploadedRun())
        run.job_type, run.group = given["jobType"] or run.job_type, given["groupName"] or run.group
        run.tags = given["tags"] or run.tags
        if given["config"]:
            run.config = {name: item["value"] for name, item in json.loads(given["config"]).items()}
        project = {"id": "project", "name": given["project"], "entity": {"id": "entity", "name": "somebody"}}
        bucket = {
            "id": run_id, "name": run_id, "displayName": given["displayName"], "description": "",
            "config": given["config"], "sweepName": None, "historyLineCount": len(run.rows), "project": project,
        }  # fmt: skip
        return {"bucket": bucket, "inserted": new}

    def _stream(self, run_id: str, sent: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[run_id]
        history = sent.get("files", {}).get("wandb-history.jsonl") if sent.get("files") else None
        for line in history["content"] if history else ():
            row = json.loads(line)
            run.rows[row["_step"]] = row
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]
        return {"exitcode": None, "limits": {}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore killed clients, which close connections without a request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.owner.requests.append(self.path)
        self.owner.keys.add(self.headers.get("authorization") or "")
        status, content = self.owner.answer(self.path, body, self.headers["host"])
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST  # noqa: N815 (the names are http.server's)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def wandb_server(behaviour: str = "accept") -> Iterator[WandbServer]:
    server = WandbServer()
    server.behaviour = behaviour
    try:
        yield server
    finally:
        server.close()
