"""W&B's own files, read back by W&B itself; and a server that turns everybody away."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tests.tune_jobs.tracking.conftest import (
    CONFIGURATIONS,
    interrupted,
    make_folder,
    make_job,
    run_events,
    trial_records,
)
from tune_jobs import Job
from tune_jobs.events import Event
from tune_jobs.folder import RunFolder
from tune_jobs.journal import Journal, read_journal

KEY = "0123456789abcdef" * 2 + "deadbeef"

TRACK = """
import os
import subprocess
import sys
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from tune_jobs import Job
from tune_jobs.events import in_force
from tune_jobs.folder import RunFolder
from tune_jobs.journal import Journal, read_journal
from tune_jobs.tracking import open_trackers

job, folder = Job.from_file(sys.argv[1]), RunFolder(Path(sys.argv[2]))
events = read_journal(Path(sys.argv[3]))
with ExitStack() as stack, Journal(folder.journal) as journal:
    past = in_force([*journal.past, events[0]]) if journal.past else []
    for guest in open_trackers(job, folder, past):
        journal.follow(stack.enter_context(guest))
    for event in events:
        journal.append(event)
processes = subprocess.run(["ps", "-A", "-o", "ppid=,pid=,comm="], capture_output=True, text=True, check=True)
rows = [row.split(None, 2) for row in processes.stdout.splitlines()]
print(*[pid for parent, pid, command in rows if int(parent) == os.getpid() and "wandb" in command])
"""


class Server:
    """A W&B server that turns everybody away and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.requests.append(self.path)
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(403)
                self.end_headers()

            do_GET = do_POST  # noqa: N815 (the name is http.server's)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@dataclass(frozen=True)
class Tracked:
    """A run that was tracked in a process of its own."""

    folder: RunFolder
    events: list[Event]
    process: subprocess.CompletedProcess[str]
    requests: list[str]


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Nobody's W&B account and settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = {name: str(home) for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    return {**kept, **places, **variables}


def track_in_subprocess(
    path: Path, server: Server, job: Job, *drivers: list[Event], **variables: str
) -> Tracked:
    """A run that was tracked by one driver after the other; with none given, straight through."""
    before = len(server.requests)
    folder = make_folder(path / "runs")
    (path / "job.yaml").write_text(job.to_yaml())
    for number, events in enumerate(drivers or (run_events(),)):
        with Journal(path / f"events-{number}.jsonl") as journal:
            for event in events:
                journal.append(event)
        process = subprocess.run(
            [sys.executable, "-c", TRACK, path / "job.yaml", folder.path, path / f"events-{number}.jsonl"],
            env=environment(path, WANDB_BASE_URL=server.url, **variables),
            cwd=path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 0, process.stderr
    return Tracked(folder, read_journal(folder.journal), process, server.requests[before:])


OFFLINE = {"project": "curves", "tags": ["digits", "small"]}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Tracked:
    return track_in_subprocess(tmp_path_factory.mktemp("offline"), server, make_job(wandb=OFFLINE))


def read_wandb(folder: RunFolder, home: Path) -> dict[str, list[list[dict]]]:
    """By trial the records of each of its `.wandb` files, oldest first, read by W&B itself."""
    readers = []
    for file in sorted(folder.wandb.glob("*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", str(file), "--json"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment(home, WANDB_MODE="offline")
        )
        readers.append((file.stem.rpartition("-")[2], process))
    found: dict[str, list[list[dict]]] = {}
    for trial_id, process in readers:
        lines = process.communicate(timeout=120)[0].splitlines()
        found.setdefault(trial_id, []).append([json.loads(line) for line in lines])
    return found


@pytest.fixture(scope="module")
def wandb_records(offline: Tracked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """Records of each trial's `.wandb` file."""
    found = read_wandb(offline.folder, tmp_path_factory.mktemp("reader"))
    return {trial_id: records for trial_id, (records,) in found.items()}


def epochs_of(records: list[dict]) -> dict[int, dict[str, float]]:
    epochs: dict[int, dict[str, float]] = {}
    for record in records:
        if record["type"] == "history":
            item, step = record["history"]["item"], int(record["history"]["step"]["num"])
            assert step not in epochs
            epochs[step] = {name: float(value) for name, value in item.items() if not name.startswith("_")}
    return epochs


def summary_of(records: list[dict]) -> dict[str, object]:
    summary: dict[str, object] = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    return summary


@pytest.mark.slow
def test_wandb_has_every_epoch_of_every_trial(offline: Tracked, wandb_records: dict[str, list[dict]]) -> None:
    tracked = {trial_id: epochs_of(records) for trial_id, records in wandb_records.items()}
    np.testing.assert_equal(tracked, trial_records(offline.events))  # NaN equals NaN here


@pytest.mark.slow
def test_wandb_runs_say_whose_they_are(offline: Tracked, wandb_records: dict[str, list[dict]]) -> None:
    assert list(wandb_records) != []
    for trial_id, records in wandb_records.items():
        (run,) = [record["run"] for record in records if record["type"] == "run"]
        assert run["project"] == "curves"
        assert run["run_group"] == offline.folder.name
        assert run["display_name"] == trial_id
        assert run["run_id"] == f"{offline.folder.name}-{trial_id}"
        assert run["tags"] == ["digits", "small"]
        configuration = {key: value for key, value in run["config"]["update"].items() if key != "_wandb"}
        assert configuration == CONFIGURATIONS[trial_id]


@pytest.mark.slow
def test_wandb_summaries_have_the_end_and_the_best(wandb_records: dict[str, list[dict]]) -> None:
    summaries = {trial_id: summary_of(records) for trial_id, records in wandb_records.items()}
    assert summaries["0000"]["val_loss"] == {"min": 0.4}
    assert summaries["0001"]["val_loss"] == {"min": 0.8}, "its last is no number"
    chosen = {
        trial_id: [summary.get(key) for key in ("status", "reason", "score", "best_epoch")]
        for trial_id, summary in summaries.items()
    }
    assert chosen == {
        "0000": ["completed", "reached max_epochs", 0.4, 3],
        "0001": ["stopped_early", "stopped by the scheduler at epoch 2", 0.8, 1],
        "0002": ["failed", "the loss is not finite", None, None],
        "0003": [None, None, None, None],
    }
    exits = {
        trial_id: [record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit"]
        for trial_id, records in wandb_records.items()
    }
    assert exits == {"0000": [0], "0001": [0], "0002": [1], "0003": [1]}


@pytest.mark.slow
def test_wandb_offline_is_quiet_and_leaves_neither_processes_nor_requests(offline: Tracked) -> None:
    (pid,) = offline.process.stdout.split()  # of W&B's own process; nothing else was printed
    assert offline.process.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert offline.requests == []


@pytest.mark.slow
def test_wandb_that_refuses_is_one_line_and_the_key_is_nowhere(tmp_path: Path, server: Server) -> None:
    job = make_job(wandb={"project": "curves", "mode": "online"})
    tracked = track_in_subprocess(tmp_path, server, job, WANDB_API_KEY=KEY)
    assert tracked.requests != []
    assert len(read_journal(tracked.folder.journal)) == len(tracked.events)
    (line,) = tracked.process.stderr.splitlines()
    assert line.startswith("W&B is switched off: CommError: ")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any("wandb" in file.parts for file in files)
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    assert KEY not in tracked.process.stdout + tracked.process.stderr


@pytest.mark.slow
def test_wandb_without_a_key_says_what_to_do_and_asks_nothing(tmp_path: Path, server: Server) -> None:
    tracked = track_in_subprocess(tmp_path, server, make_job(wandb={"project": "curves", "mode": "online"}))
    assert len(read_journal(tracked.folder.journal)) == len(tracked.events)
    assert tracked.process.stderr == (
        "W&B is switched off: UsageError: No API key configured. Use `wandb login` to log in; "
        "the run's own records are complete\n"
    )


@pytest.mark.slow
def test_wandb_runs_of_trials_that_go_on_are_resumed(tmp_path: Path, server: Server) -> None:
    # 0000 has three epochs by then, the best of them the last; 0001 has one.
    first, second = interrupted(run_events(), 11)
    tracked = track_in_subprocess(tmp_path, server, make_job(wandb=OFFLINE), first, second)
    assert (tracked.process.stderr, tracked.requests) == ("", [])
    found = read_wandb(tracked.folder, tmp_path)
    assert {trial_id: len(files) for trial_id, files in found.items()} == {
        "0000": 2, "0001": 2, "0002": 1, "0003": 1,
    }  # fmt: skip
    # `wandb sync` uploads the files of one W&B run in the order of their start.
    merged = {trial_id: list(chain(*files)) for trial_id, files in found.items()}
    np.testing.assert_equal(
        {trial_id: epochs_of(records) for trial_id, records in merged.items()}, trial_records(tracked.events)
    )
    for trial_id, files in found.items():
        runs = [record["run"] for records in files for record in records if record["type"] == "run"]
        assert [run["run_id"] for run in runs] == [f"{tracked.folder.name}-{trial_id}"] * len(files)
        assert [run.get("resume", False) for run in runs] == [False, True][: len(files)]
    assert [epochs_of(records).keys() for records in found["0000"]] == [{1, 2, 3}, {4, 5}]
    assert summary_of(found["0000"][0])["status"] == "interrupted"
    summaries = {trial_id: summary_of(records) for trial_id, records in merged.items()}
    assert summaries["0000"]["val_loss"] == {"min": 0.4}, "it was before the interruption"
    assert [summaries["0000"][key] for key in ("status", "score", "best_epoch")] == ["completed", 0.4, 3]
    assert summaries["0001"]["status"] == "stopped_early"
