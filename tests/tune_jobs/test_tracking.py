import json
import logging
import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tune_jobs import Job, driver, ray_connection
from tune_jobs.errors import ResourceError
from tune_jobs.events import (
    CheckpointWritten,
    Ending,
    EpochsReported,
    Event,
    RunEnded,
    RunStarted,
    Status,
    TrialCreated,
    TrialEnded,
    TrialStarted,
    WinnerSelected,
    WorkerLost,
)
from tune_jobs.folder import RunFolder
from tune_jobs.journal import Journal, read_journal
from tune_jobs.ray_connection import Cluster
from tune_jobs.records import RunRecord
from tune_jobs.tracking import Guest, open_trackers

CONFIGURATIONS = {
    "0000": {"lr": 0.1, "optimizer": "sgd", "model.hidden": [64, 32], "nesterov": True},
    "0001": {"lr": 1e-3, "optimizer": "adam", "model.hidden": [], "batch_size": None},
    "0002": {"lr": 10.0, "optimizer": "adam", "model.hidden": [8]},
    "0003": {"lr": 0.5, "optimizer": "adam", "model.hidden": [8]},
}
KEY = "0123456789abcdef" * 2 + "deadbeef"
WAIT_SECONDS = 60.0
"""For what comes at once, unless it never comes."""


def result(epoch: int, val_loss: float) -> dict[str, float]:
    return {
        "epoch": epoch,
        "train_loss": 2.0 / epoch,
        "val_loss": val_loss,
        "accuracy": 1 - 1 / (epoch + 1),
        "lr": 0.1 / epoch,
        "seconds": 0.25 * epoch,
    }


def reported(trial_id: str, *val_losses: float, first: int = 1) -> EpochsReported:
    results = [result(epoch, loss) for epoch, loss in enumerate(val_losses, start=first)]
    return EpochsReported(trial_id=trial_id, results=results, worker="host:1")


def run_events() -> list[Event]:
    """A run with a trial of every kind; the first loses its worker, the last has no end."""
    created = [
        TrialCreated(trial_id=trial_id, number=number, configuration=configuration)
        for number, (trial_id, configuration) in enumerate(CONFIGURATIONS.items())
    ]
    first, second, third, last = (TrialStarted(trial_id=trial_id) for trial_id in CONFIGURATIONS)
    return [
        RunStarted(name="demo", job_folder=".", trials=4, rows={"train": 3}, fingerprints={}, versions={}),
        *created[:2],
        first,
        second,
        reported("0000", 0.9, 0.7),
        CheckpointWritten(trial_id="0000", epoch=2, file="checkpoints/0000/2.pt"),
        reported("0000", 0.4, first=3),
        reported("0001", 0.8),
        WorkerLost(trial_id="0000", reason="the worker died"),
        first,
        reported("0000", 0.4, 0.6, 0.65, first=3),
        TrialEnded(trial_id="0000", status=Status.COMPLETED, reason="reached max_epochs"),
        reported("0001", math.nan, first=2),
        TrialEnded(
            trial_id="0001", status=Status.STOPPED_EARLY, reason="stopped by the scheduler at epoch 2"
        ),
        *created[2:],
        third,
        TrialEnded(trial_id="0002", status=Status.FAILED, reason="the loss is not finite", details="…"),
        last,
        reported("0003", 0.5),
        RunEnded(ending=Ending.ALL_TRIALS),
        WinnerSelected(winner="0000"),
    ]


def make_job(**tracking: object) -> Job:
    return Job.from_mapping(
        {
            "name": "demo",
            "data": {"source": "digits"},
            "model": {"name": "mlp"},
            "training": {"max_epochs": 5, "loss": "cross_entropy", "metrics": ["accuracy"]},
            "search": {"space": {"lr": {"low": 1e-4, "high": 1.0, "log": True}}},
            "tracking": tracking,
        }
    )


def make_folder(path: Path) -> RunFolder:
    return RunFolder.create(path, "demo")


def track(folder: RunFolder, events: Sequence[Event], guests: Sequence[Guest]) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(guest) for guest in guests]
        with Journal(folder.journal, *listeners) as journal:
            for event in events:
                journal.append(event)


def trial_records(events: Sequence[Event]) -> dict[str, dict[int, dict[str, float]]]:
    """Epochs by trial, as the run's own records have them."""
    record = RunRecord.replay(events, make_job().selection)
    return {
        trial.trial_id: {epoch: dict(values) for epoch, values in trial.epochs.items()}
        for trial in record.trials.values()
    }


# --- Guests ---------------------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """Keeps what it is called with; holds each call up, and fails, where it is told to."""

    fail_at: int = 0
    error: BaseException = field(default_factory=lambda: RuntimeError("the server said\nno"))
    go_on: threading.Event | None = None
    fail_to_close: bool = False
    seen: list[Event] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        self.entered.set()
        if self.go_on is not None:
            assert self.go_on.wait(WAIT_SECONDS)
        if len(self.seen) == self.fail_at:
            raise self.error

    def close(self) -> None:
        self.closed.set()
        if self.fail_to_close:
            raise self.error


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_guest_gets_every_event_in_order_and_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    events = run_events() * 100
    track(make_folder(tmp_path), events, [Guest(recorder, "the recorder")])
    assert recorder.seen == events
    assert recorder.closed.is_set()
    assert messages(caplog) == []


@pytest.mark.parametrize("error", [RuntimeError("the server said\nno"), SystemExit(3), KeyboardInterrupt()])
def test_a_tracker_that_raises_is_switched_off_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    failing, healthy = Recorder(fail_at=3, error=error, fail_to_close=True), Recorder()
    folder, events = make_folder(tmp_path), run_events()
    track(folder, events, [Guest(failing, "the dashboard"), Guest(healthy, "the other")])
    assert failing.seen == events[:3]
    assert failing.closed.is_set()
    assert healthy.seen == events
    assert read_journal(folder.journal)[-1] == events[-1]
    assert len(read_journal(folder.journal)) == len(events)
    (message,) = messages(caplog)
    assert message.startswith(f"the dashboard is switched off: {type(error).__name__}")
    assert message.endswith("; the run's own records are complete")
    assert "\n" not in message


def test_a_tracker_that_fails_to_close_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(fail_to_close=True)
    track(make_folder(tmp_path), run_events(), [Guest(recorder, "the dashboard")])
    assert isinstance(recorder.seen[-1], WinnerSelected)
    assert messages(caplog) == [
        "the dashboard is switched off: RuntimeError: the server said no; the run's own records are complete"
    ]


def test_a_tracker_that_hangs_holds_nothing_up_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(go_on=threading.Event())
    folder, events = make_folder(tmp_path), run_events()
    with Guest(recorder, "the dashboard") as guest:
        with Journal(folder.journal, guest) as journal:
            for event in events:
                journal.append(event)
        assert recorder.entered.wait(WAIT_SECONDS)
        # All of the run has happened and is on disk while the tracker is still at the first event.
        assert len(read_journal(folder.journal)) == len(events)
        assert recorder.seen == events[:1]
        recorder.go_on.set()
    assert recorder.seen == events
    assert messages(caplog) == []


def test_a_tracker_that_never_answers_is_given_up_when_the_run_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(go_on=threading.Event())
    folder, events = make_folder(tmp_path), run_events()
    with Guest(recorder, "the dashboard", patience=0.01) as guest, Journal(folder.journal, guest) as journal:
        for event in events:
            journal.append(event)
        assert recorder.entered.wait(WAIT_SECONDS)
    assert not recorder.closed.is_set()
    assert len(read_journal(folder.journal)) == len(events)
    assert messages(caplog) == [
        "the dashboard is switched off: it had not finished 0.01 s after the run; "
        "the run's own records are complete"
    ]
    recorder.go_on.set()  # it answers after all: it is told to end, and of no event more
    assert recorder.closed.wait(WAIT_SECONDS)
    assert recorder.seen == events[:1]


# --- W&B ------------------------------------------------------------------------------------------------------

TRACK = """
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tune_jobs import Job
from tune_jobs.folder import RunFolder
from tune_jobs.journal import Journal, read_journal
from tune_jobs.tracking import open_trackers

job, folder = Job.from_file(sys.argv[1]), RunFolder(Path(sys.argv[2]))
with ExitStack() as stack:
    listeners = [stack.enter_context(guest) for guest in open_trackers(job, folder)]
    with Journal(folder.journal, *listeners) as journal:
        for event in read_journal(Path(sys.argv[3])):
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


def track_in_subprocess(path: Path, server: Server, job: Job, **variables: str) -> Tracked:
    before = len(server.requests)
    folder, events = make_folder(path / "runs"), run_events()
    (path / "job.yaml").write_text(job.to_yaml())
    with Journal(path / "events.jsonl") as journal:
        for event in events:
            journal.append(event)
    process = subprocess.run(
        [sys.executable, "-c", TRACK, path / "job.yaml", folder.path, path / "events.jsonl"],
        env=environment(path, WANDB_BASE_URL=server.url, **variables),
        cwd=path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return Tracked(folder, events, process, server.requests[before:])


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Tracked:
    job = make_job(wandb={"project": "curves", "tags": ["digits", "small"]}, tensorboard=True)
    return track_in_subprocess(tmp_path_factory.mktemp("offline"), server, job)


@pytest.fixture(scope="module")
def wandb_records(offline: Tracked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """Records of each trial's `.wandb` file, read by W&B itself."""
    home = tmp_path_factory.mktemp("reader")
    readers = {}
    for file in offline.folder.wandb.glob("*/*.wandb"):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", str(file), "--json"]
        readers[file.stem.rpartition("-")[2]] = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment(home, WANDB_MODE="offline")
        )
    output = {trial_id: reader.communicate(timeout=120)[0] for trial_id, reader in readers.items()}
    return {trial_id: [json.loads(line) for line in text.splitlines()] for trial_id, text in output.items()}


def summary_of(records: list[dict]) -> dict[str, object]:
    summary: dict[str, object] = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    return summary


@pytest.mark.slow
def test_wandb_has_every_epoch_of_every_trial(offline: Tracked, wandb_records: dict[str, list[dict]]) -> None:
    tracked: dict[str, dict[int, dict[str, float]]] = {trial_id: {} for trial_id in wandb_records}
    for trial_id, records in wandb_records.items():
        for record in records:
            if record["type"] == "history":
                item, step = record["history"]["item"], int(record["history"]["step"]["num"])
                assert step not in tracked[trial_id]
                tracked[trial_id][step] = {
                    name: float(value) for name, value in item.items() if not name.startswith("_")
                }
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


# --- TensorBoard ----------------------------------------------------------------------------------------------


def file_events(folder: Path) -> list:
    """Events of the one event file in `folder`: TFRecords, a length, its checksum, the bytes, their checksum."""
    from tensorboardX.proto.event_pb2 import Event as FileEvent

    (file,) = folder.iterdir()
    data, events = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(FileEvent.FromString(data[12 : 12 + length]))
        data = data[12 + length + 4 :]
    return events


@pytest.mark.slow
def test_tensorboard_has_every_epoch_of_every_trial(offline: Tracked) -> None:
    expected = {
        trial_id: {
            (name, epoch): np.float32(value)
            for epoch, values in epochs.items()
            for name, value in values.items()
            if name in {"train_loss", "val_loss", "accuracy", "lr"}
        }
        for trial_id, epochs in trial_records(offline.events).items()
    }
    expected["0000"]["best/val_loss", 3] = np.float32(0.4)
    expected["0001"]["best/val_loss", 1] = np.float32(0.8)
    tracked = {
        trial_id: [
            ((value.tag, event.step), value.simple_value)
            for event in file_events(offline.folder.tensorboard / trial_id)
            for value in event.summary.value
            if not value.tag.startswith("_hparams_")
        ]
        for trial_id in CONFIGURATIONS
    }
    np.testing.assert_equal({trial_id: dict(pairs) for trial_id, pairs in tracked.items()}, expected)
    assert {trial_id: len(pairs) for trial_id, pairs in tracked.items()} == {
        trial_id: len(scalars) for trial_id, scalars in expected.items()
    }


@pytest.mark.slow
def test_tensorboard_has_the_configuration_of_every_trial_that_ended(offline: Tracked) -> None:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    found = {}
    for trial_id in CONFIGURATIONS:
        for event in file_events(offline.folder.tensorboard / trial_id):
            for value in event.summary.value:
                if value.tag == "_hparams_/session_start_info":
                    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    found[trial_id] = {
                        name: getattr(given, given.WhichOneof("kind"))
                        for name, given in content.session_start_info.hparams.items()
                    }
    assert found == {
        "0000": {"lr": 0.1, "optimizer": "sgd", "model.hidden": "[64, 32]", "nesterov": True},
        "0001": {"lr": 1e-3, "optimizer": "adam", "model.hidden": "[]", "batch_size": "None"},
        "0002": {"lr": 10.0, "optimizer": "adam", "model.hidden": "[8]"},
    }


# --- Opening --------------------------------------------------------------------------------------------------


def test_without_tracking_nothing_of_it_is_imported_or_made(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(make_job().to_yaml())
    code = (
        "import sys; from pathlib import Path; import tune_jobs.driver; from tune_jobs import Job;"
        "from tune_jobs.folder import RunFolder; from tune_jobs.tracking import open_trackers;"
        "print(open_trackers(Job.from_file('job.yaml'), RunFolder(Path('run'))));"
        "print({'wandb', 'tensorboardX', 'torch', 'ray'} & sys.modules.keys())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert output.stdout == "[]\nset()\n"
    assert [file.name for file in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.parametrize(
    ("package", "hidden", "module", "tracking"),
    [
        ("wandb", "wandb", "tune_jobs.tracking.wandb", {"wandb": {"project": "curves"}}),
        (
            "tensorboardX",
            "tensorboardX.event_file_writer",
            "tune_jobs.tracking.tensorboard",
            {"tensorboard": True},
        ),
    ],
)
def test_a_missing_package_is_one_clear_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    hidden: str,
    module: str,
    tracking: dict[str, object],
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(ResourceError) as caught:
        open_trackers(make_job(**tracking), make_folder(tmp_path))
    (key,) = tracking
    assert str(caught.value).startswith(f"tracking.{key}: the package {package} cannot be imported (")
    assert str(caught.value).endswith(
        f"; install it with `pip install {package}`, or leave tracking.{key} out of the job"
    )


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_breaks_off_tells_its_trackers_to_the_last_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    recorder = Recorder()

    @contextmanager
    def no_ray(address: str | None) -> Iterator[Cluster]:
        yield Cluster(cpus=1, gpus=0)

    def break_off(*_: object) -> None:
        raise error

    monkeypatch.setattr(ray_connection, "ray_connection", no_ray)
    monkeypatch.setattr(driver, "trial_task", break_off)
    monkeypatch.setattr(driver, "open_trackers", lambda *_: [Guest(recorder, "the recorder")])
    with pytest.raises(error):
        driver.run(make_job().model_copy(update={"storage": str(tmp_path)}))
    assert [type(event) for event in recorder.seen] == [RunStarted, RunEnded, WinnerSelected]
    assert recorder.closed.is_set()
