"""optuna-dashboard on the study of a run in progress: its pages, and that it cannot change the run."""

import json
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.processes import PATIENCE, running
from tune_jobs.cli.main import main
from tune_jobs.errors import ResourceError
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    Event,
    RunResumed,
    TrialPaused,
    TrialStarted,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.results import open_run
from tune_jobs.tracking.optuna_dashboard import StudyPages, study_server
from tune_jobs.tracking.optuna_study import StudyMirror

MakeRun = Callable[..., RunFolder]
CONFIGURATION = {"lr": 0.25, "batch_size": "full", "optimizer": "sgd", "momentum": 0.5}
TRIALS: list[dict[str, Any]] = [
    {"losses": [0.9, 0.8, 0.7, *[0.5] * 5, 0.4], "configuration": CONFIGURATION},
    {"losses": [0.9, 0.6], "status": Status.STOPPED_EARLY},
    {"losses": [math.nan], "status": Status.FAILED, "reason": "the loss is nan"},
    {"losses": [0.8], "status": Status.RUNNING},
    {"losses": [0.75, 0.75], "status": Status.RUNNING},  # waits, see below
    {"status": Status.PENDING},
]
STATES = ["Complete", "Pruned", "Fail", "Running", "Waiting", "Waiting"]


def mirror_of(folder: RunFolder, *more: Event) -> StudyMirror:
    """Return the study of the run as its driver keeps it."""
    job = open_run(folder.path).job
    events = in_force([*read_journal(folder.journal), *more])
    return StudyMirror.on(folder, job.search.space, job.selection, (2, 6, 9), events)


@pytest.fixture
def run_folder(make_run: MakeRun) -> RunFolder:
    trials = [{"configuration": {**CONFIGURATION, "lr": 0.1}, **trial} for trial in TRIALS]
    folder = make_run(trials, ending=None)
    mirror_of(folder, TrialPaused(trial_id="0004", epoch=2))
    return folder


@contextmanager
def served(folder: RunFolder) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `tune-jobs dashboard` in a separate process and yield its address."""
    command = [sys.executable, "-m", "tune_jobs", "dashboard", str(folder.path)]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("dashboard: http://127.0.0.1:"), process.communicate()
            yield process, first.split()[1].removesuffix("/dashboard/studies/0")
        finally:
            process.kill()


def get(url: str, **how: Any) -> Any:
    with urlopen(Request(url, **how), timeout=PATIENCE) as answer:
        return json.loads(answer.read())


def contents(folder: RunFolder) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(folder.path)): path.read_bytes() if path.is_file() else b""
        for path in folder.path.rglob("*")
    }


@pytest.mark.slow
def test_every_trial_is_served_in_its_state_with_its_parameters_and_steps_and_the_folder_stays_as_it_is(
    run_folder: RunFolder,
) -> None:
    before = contents(run_folder)
    with served(run_folder) as (process, url):
        (summary,) = get(f"{url}/api/studies")["study_summaries"]
        trials = get(f"{url}/api/studies/{summary['study_id']}")["trials"]
        with urlopen(f"{url}/dashboard/studies/0", timeout=PATIENCE) as page:
            assert b"<html" in page.read().lower()
        for path, method in [
            ("/api/studies/0", "DELETE"),
            ("/api/studies/0/rename", "POST"),
            ("/api/studies/0/note", "PUT"),
            ("/api/trials/3/tell", "POST"),
        ]:
            with pytest.raises(HTTPError, match="405") as refused:
                get(f"{url}{path}", method=method, data=b'{"study_name": "mine", "state": "Fail"}')
            assert json.loads(refused.value.read()) == {
                "reason": "this dashboard shows the run, and cannot change it"
            }
        with pytest.raises(HTTPError, match="403"):
            get(f"{url}/api/studies", headers={"Host": "a.page.of.another.site"})
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert contents(run_folder) == before

    assert [trial["state"] for trial in trials] == STATES
    assert [one["value"] for trial in trials for one in trial["user_attrs"]] == [
        f"{number:04d}" for number in range(6)
    ]
    steps = [{one["step"]: one["value"] for one in trial["intermediate_values"]} for trial in trials]
    assert steps == [{2: 0.8, 6: 0.5, 9: 0.4}, {2: 0.6}, {}, {}, {2: 0.75}, {}]
    assert [trial.get("values") for trial in trials] == [[0.4], [0.6], *[None] * 4]
    parameters = {one["name"]: one["param_external_value"] for one in trials[0]["params"]}
    assert parameters == {name: str(value) for name, value in CONFIGURATION.items()}


class Pages:
    """The application, for requests without a server."""

    def __init__(self, folder: RunFolder) -> None:
        self.pages = StudyPages(folder.study)

    def states(self) -> list[str]:
        environ: dict[str, Any] = {"PATH_INFO": "/api/studies/0", "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
        answers: list[str] = []
        text = b"".join(self.pages(environ, lambda status, *_: answers.append(status)))  # type: ignore[arg-type,return-value]
        assert answers == ["200 OK"], text
        return [trial["state"] for trial in json.loads(text)["trials"]]


@pytest.mark.slow
def test_a_run_in_progress_is_shown_while_it_grows(run_folder: RunFolder) -> None:
    mirror, pages = mirror_of(run_folder), Pages(run_folder)
    assert pages.states()[5] == "Waiting"
    mirror(TrialStarted(trial_id="0005"))
    deadline = time.monotonic() + PATIENCE
    while pages.states()[5] != "Running":  # the dashboard keeps what it has read for two seconds
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_study_that_was_made_again_is_opened_again(run_folder: RunFolder) -> None:
    pages = Pages(run_folder)
    assert pages.states() == STATES
    mirror_of(run_folder, RunResumed(trials=6, versions={}))
    assert pages.states() == [*STATES[:3], *["Waiting"] * 3]


def test_no_request_writes_to_the_file(run_folder: RunFolder) -> None:
    import optuna

    from tune_jobs.tracking.optuna_dashboard import ReadOnlyStudy

    before = contents(run_folder)
    storage = optuna.storages.JournalStorage(ReadOnlyStudy(str(run_folder.study)))
    with pytest.raises(PermissionError, match="for reading alone"):
        storage.set_study_user_attr(0, "a", 1)
    assert contents(run_folder) == before


# Mistakes of users


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["dashboard", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


def test_without_the_package_it_says_how_to_install_it(
    run_folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert call(capsys, run_folder.path) == (
        2,
        "tune-jobs: optuna-dashboard is not installed; `pip install 'tune-jobs[dashboard]'` installs it. "
        "`tune-jobs report RUN` needs nothing more\n",
    )


def test_a_run_without_a_study_says_what_makes_it(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(TRIALS)
    code, errors = call(capsys, folder.path)
    assert code == 2
    assert f"no such file; `tune-jobs repair {folder.path}` rebuilds the study" in errors
    assert not folder.study.exists()


def test_a_port_that_is_taken_is_one_message(run_folder: RunFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ResourceError, match=rf"^--port {port}: cannot be listened on \(Address already in"
        ):
            study_server(run_folder, port)


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_a_wrong_port_is_refused(
    run_folder: RunFolder, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["dashboard", str(run_folder.path), "--port", port])
    assert (
        f"argument --port: given '{port}'; valid: 0 to 65535, where 0 takes a free one"
        in capsys.readouterr().err
    )
