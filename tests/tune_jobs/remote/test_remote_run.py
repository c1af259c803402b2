"""Whole runs under a real Ray that are kept on a real S3 server.

The workers of one Ray know one way to the server, so all tests close the same way.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.processes import PATIENCE
from tests.trainers.slope import slope_registered
from tests.trainers.slope_command import COMMAND, with_repository
from tests.tune_jobs.remote.object_stores import CREDENTIALS, Proxy, environment
from tests.tune_jobs.runs import line_in
from tune_jobs import Job, Run, open_run, resume, run
from tune_jobs.errors import HoldoutOpened, RunFolderError, RunInUse, StorageFailed
from tune_jobs.location import Location
from tune_jobs.record.events import Event, TrialEnded
from tune_jobs.remote.segments import read_from
from tune_jobs.remote.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def way(s3_address: str) -> Iterator[Proxy]:
    made = Proxy(s3_address)
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def ray_running(way: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start one Ray for all runs of this process."""
    from tune_jobs.tuning.ray_session import ray_connection

    own = {"TUNE_JOBS_CACHE": str(tmp_path_factory.mktemp("workers")), "TUNE_JOBS_OUTAGE_SECONDS": "25"}
    with ExitStack() as stack:
        with environment({**CREDENTIALS, "AWS_ENDPOINT_URL": way.address, **own}):
            stack.enter_context(ray_connection())
        stack.enter_context(slope_registered())
        yield


@pytest.fixture
def proxy(way: Proxy, s3: Location) -> Iterator[Proxy]:
    """Yield a proxy that is the only way to `s3` for this process and its workers."""
    way.refused = 0
    with environment({"AWS_ENDPOINT_URL": way.address}):
        yield way
    way.mode = "up"


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    """Yield this machine's folder of copies."""
    with environment({"TUNE_JOBS_CACHE": str(tmp_path / "here")}):
        yield tmp_path / "here"


def on_another_machine(tmp_path: Path, name: str = "there") -> Any:
    return environment({"TUNE_JOBS_CACHE": str(tmp_path / name)})


STEADY: dict[str, Any] = {
    "slope": {"epochs": 4, "pause": 0.2},
    "scheduler": {"method": "none"},
    "search/trials": 6,
}
"""Changes to a job whose trials all run to their end: their curves are then the same in spite of failures."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(line_in(tmp_path_factory.mktemp("undisturbed"), STEADY))


def assert_same(made: Run, other: Run) -> None:
    for table in (lambda of: of.trials, lambda of: of.epochs):
        mine, theirs = (
            table(one).drop(columns=["seconds", "node"], errors="ignore") for one in (made, other)
        )
        pd.testing.assert_frame_equal(
            mine.sort_values(list(mine.columns[:2]), ignore_index=True),
            theirs.sort_values(list(theirs.columns[:2]), ignore_index=True),
        )
    assert made.winner.trial_id == other.winner.trial_id
    assert made.winner.score == other.winner.score


@contextmanager
def driver(job: Job, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `tune-jobs run` in a separate process, and kill it after the block if it still runs."""
    (folder / "job.yaml").write_text(job.to_yaml())
    with (folder / "log").open("wb") as log:
        command = [*COMMAND, "run", str(folder / "job.yaml")]
        own = with_repository(os.environ)
        process = subprocess.Popen(command, env=own, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def kept(storage: Location, process: "subprocess.Popen[bytes]", enough: Callable[[bytes], bool]) -> Location:
    """Return the only run at `storage` as soon as `enough` accepts its journal in the store."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for name in Store(storage).folders():
            if enough(read_from(Store(storage / name))):
                return storage / name
        time.sleep(0.1)
    raise AssertionError(f"the driver has not come so far; it ended with {process.poll()}")


def ended_trials(content: bytes) -> int:
    return content.count(b'"type":"trial_ended"')


def test_a_run_is_kept_in_the_store_and_read_from_another_machine(s3: Location, tmp_path: Path) -> None:
    made = run(line_in(tmp_path, {"storage": str(s3), "search/trials": 6}))
    store = Store(s3 / made.path.name)
    names = [stored.name for stored in store.objects()]
    assert {"job.yaml", "data.json", "trials.parquet", "epochs.parquet", "selection.json", "study.log"} <= {
        *names
    }
    assert "holdout/rows.npz" in names
    assert not [name for name in names if name.startswith("lease/")]
    assert read_from(store) == (made.path / "journal/events.jsonl").read_bytes()
    assert list((made.path / "checkpoints").iterdir()) == []
    with on_another_machine(tmp_path):
        there = open_run(made.address)
        assert there.path != made.path
        pd.testing.assert_frame_equal(there.trials, made.trials)
        pd.testing.assert_frame_equal(there.epochs, made.epochs)
        assert not (there.path / "holdout/rows.npz").exists(), "who only looks has no test rows"
        assert there.load_model() is not None
        assert there.test().keys() == {"test_error"}
    with pytest.raises(HoldoutOpened):
        open_run(made.address).test()


def test_another_machine_continues_the_run_of_a_killed_driver(
    s3: Location, tmp_path: Path, undisturbed: Run
) -> None:
    job = line_in(tmp_path, {**STEADY, "storage": str(s3)})
    with driver(job, tmp_path) as process:
        place = kept(s3, process, lambda content: ended_trials(content) >= 2)
        with on_another_machine(tmp_path):
            assert open_run(str(place)).in_progress
            with pytest.raises(RunInUse, match=rf"{place}: another process .*:{process.pid}, last seen"):
                resume(str(place))
        process.kill()
        process.wait()
    reported = read_from(Store(place))
    with on_another_machine(tmp_path):
        assert not open_run(str(place)).in_progress
        resumed = resume(str(place))
        assert_same(resumed, undisturbed)
        assert read_from(Store(place)).startswith(reported), "nothing that was reported is lost"
    with on_another_machine(tmp_path, "third"):
        pd.testing.assert_frame_equal(open_run(str(place)).trials, resumed.trials)


def test_a_driver_that_was_killed_in_an_outage(
    proxy: Proxy, s3: Location, tmp_path: Path, undisturbed: Run
) -> None:
    """Its machine has more events than the store. Another machine continues from the events in the store."""
    job = line_in(tmp_path, {**STEADY, "storage": str(s3)})
    with driver(job, tmp_path) as process:
        place = kept(s3, process, lambda content: ended_trials(content) >= 2)
        proxy.mode = "down"
        before = proxy.refused
        while proxy.refused < before + 5:
            time.sleep(0.1)
        process.kill()
        process.wait()
    proxy.mode = "up"
    with on_another_machine(tmp_path):
        assert_same(resume(str(place)), undisturbed)


@pytest.mark.parametrize("mode", ["slow", "down"])
def test_a_store_that_fails_for_a_while_harms_no_trial(
    proxy: Proxy, s3: Location, tmp_path: Path, undisturbed: Run, mode: str
) -> None:
    """The store fails in the middle of the run, for longer than its own client retries."""
    ended: list[Event] = []
    timers = []

    def follow(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ended.append(event)
            if len(ended) == 2:
                proxy.mode = mode
                timers.append(threading.Timer(8.0, lambda: setattr(proxy, "mode", "up")))
                timers[0].start()

    made = run(line_in(tmp_path, {**STEADY, "storage": str(s3)}), listeners=[follow])
    timers[0].join()
    assert proxy.refused > 3
    assert_same(made, undisturbed)
    with on_another_machine(tmp_path):
        assert_same(open_run(made.address), undisturbed)


def test_a_store_that_fails_for_long_stops_the_run_which_can_be_continued_later(
    proxy: Proxy, s3: Location, tmp_path: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.remote.mirror.END_SECONDS", 1.0)
    ended: list[Event] = []

    def follow(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ended.append(event)
            if len(ended) == 2:
                proxy.mode = "down"

    with environment({"TUNE_JOBS_OUTAGE_SECONDS": "3"}), pytest.raises(StorageFailed) as caught:
        run(line_in(tmp_path, {**STEADY, "storage": str(s3)}), listeners=[follow])
    text = str(caught.value)
    place = s3 / caught.value.path.name
    assert "it cannot be reached at" in text
    assert f"tune-jobs resume {place}" in text
    assert caught.value.exit_code == 130
    with pytest.raises(RunFolderError, match=r"cannot be read .it cannot be reached at"):
        resume(str(place))
    proxy.mode = "up"
    assert_same(resume(str(place)), undisturbed)
