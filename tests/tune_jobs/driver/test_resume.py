"""Resumed runs under a real Ray: they end as without the interruption, at whatever moment they were cut off."""

import shutil
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from tests.tune_jobs.holdout.lines import unseal
from tests.tune_jobs.later import checkpoint_of_later_version, make_checkpoints_later
from tests.tune_jobs.runs import (
    assert_curves_are_those_of_training_alone,
    assert_tables_tell_every_decision,
    copy_run,
    events_of,
    job_in,
    line_in,
)
from tune_jobs import Job, Run, open_run, resume, run
from tune_jobs.errors import DamagedRun, Interrupted, JobError, LaterVersion, RunFolderError, RunInUse
from tune_jobs.holdout.ledger import read_ledger
from tune_jobs.record.codes import Ending
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    TrialPaused,
    WinnerSelected,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.tracking.optuna_study import STUDY_NAME, study_storage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    return lambda changes: line_in(tmp_path, changes)


class Copies:
    """Copies the run folder after certain events, while workers continue: the copies are killed runs."""

    def __init__(self, folder: Path, wanted: Callable[[int, Event], bool]) -> None:
        self.paths: list[Path] = []
        self._folder = folder
        self._wanted = wanted
        self._count = 0

    def __call__(self, event: Event) -> None:
        self._count += 1
        if self._wanted(self._count, event):
            (made,) = (self._folder / "runs").iterdir()
            copy = self._folder / "copies" / f"after-{self._count:03d}-{event.type}"
            copy_run(made, copy)
            self.paths.append(copy)


COUNTS = (5, 9, 20, 40, 82)
"""Numbers of events after which a run is copied. The 9th and the 82nd report epochs at whose end the trial has written
a checkpoint, a new trial and a promoted one."""


class Killed:
    """A run by one worker, and copies of it as a driver would leave them if it were killed then.

    Attributes:
        expected: The undisturbed run.
        paths: All copies.
        late: Copies after the events of its end.
        folder: The folder of the job.
    """

    def __init__(self, job: Job, folder: Path, counts: Collection[int] = COUNTS) -> None:
        def wanted(count: int, event: Event) -> bool:
            return count in counts or isinstance(event, RunEnded | WinnerSelected)

        copies = Copies(folder, wanted)
        self.expected = run(job, listeners=[copies])
        self.paths, self.folder = copies.paths, folder
        self.late = [path for path in self.paths if path.name.endswith(("ended", "selected"))]

    def after(self, count: int, folder: Path) -> Path:
        """Return a copy of the run folder after `count` events, in a folder of the test."""
        (found,) = (path for path in self.paths if f"after-{count:03d}-" in path.name)
        return Path(shutil.copytree(found, folder / found.name))


def write_rows(file: Path, last: str = "59,1,2") -> Path:
    """Write a table of 60 rows."""
    rows = [f"{i / 7},{i % 5},{i * 0.3}" for i in range(59)]
    file.write_text("\n".join(["a,b,y", *rows, last]))
    return file


@pytest.fixture(scope="module")
def killed_training(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Return such a run of the built-in kind, with PyTorch, on a table."""
    folder = tmp_path_factory.mktemp("killed-training")
    write_rows(folder / "rows.csv")
    changes = {"data": {"source": "rows.csv", "target": "y"}, "search/trials": 14}
    return Killed(job_in(folder, changes), folder, frozenset({46}))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Return such a run of the small kind."""
    folder = tmp_path_factory.mktemp("killed")
    return Killed(line_in(folder, {"search/trials": 14}), folder)


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """Return the refusals of a second driver while `two_trials` was at work."""
    return []


@pytest.fixture(scope="module")
def two_trials(tmp_path_factory: pytest.TempPathFactory, refused: list[str]) -> Run:
    folder = tmp_path_factory.mktemp("two")

    def intrude(event: Event) -> None:
        if isinstance(event, TrialPaused) and not refused:
            (path,) = (folder / "runs").iterdir()
            with pytest.raises(RunInUse) as caught:
                resume(path)
            refused.append(str(caught.value))

    return run(line_in(folder, {"search/trials": 2}), listeners=[intrude])


@pytest.fixture
def short(two_trials: Run, tmp_path: Path) -> Run:
    """Return a finished run of two trials that a test may change."""
    return open_run(shutil.copytree(two_trials.path, tmp_path / "runs" / two_trials.path.name))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Return a killed run of 20 trials that a model proposed."""
    folder = tmp_path_factory.mktemp("tuned")
    return Killed(line_in(folder, {"search/method": "gp"}), folder, frozenset({74}))


def without_clock(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["seconds", "node"], errors="ignore")


def assert_the_same(made: Run, expected: Run) -> None:
    """Check that both tables agree bit for bit, and the winner and the study."""
    pd.testing.assert_frame_equal(
        without_clock(made.trials), without_clock(expected.trials), check_exact=True
    )
    pd.testing.assert_frame_equal(
        without_clock(made.epochs), without_clock(expected.epochs), check_exact=True
    )
    assert (made.winner.trial_id, made.winner.epoch, made.winner.score) == (
        expected.winner.trial_id, expected.winner.epoch, expected.winner.score,
    )  # fmt: skip
    assert made.winner.checkpoint.name == expected.winner.checkpoint.name
    assert made.winner.checkpoint.is_file()
    assert study_of(made) == study_of(expected)


def study_of(made: Run) -> list[Any]:
    study = optuna.load_study(study_name=STUDY_NAME, storage=study_storage(RunFolder(made.path)))
    return [(t.user_attrs["trial_id"], t.state, t.params, t.intermediate_values) for t in study.trials]


# Killed at any moment


def assert_ends_as_it_would_have(path: Path, expected: Run, *changes: tuple[str, object]) -> None:
    made = resume(path, changes)
    assert made.path == path
    assert made.ending is Ending.ALL_TRIALS
    assert_the_same(made, expected)
    assert_tables_tell_every_decision(made)
    assert_everything_is_in_the_journal_once(made)


def assert_everything_is_in_the_journal_once(made: Run) -> None:
    """Check that no trial was created again, and no epoch reported again."""
    created = [event.trial_id for event in events_of(made) if isinstance(event, TrialCreated)]
    assert len(created) == len(set(created)) == len(made.trials)
    reports = [
        (event.trial_id, result["epoch"])
        for event in events_of(made)
        if isinstance(event, EpochsReported)
        for result in event.results
    ]
    assert len(set(reports)) == len(made.epochs)


def test_with_one_worker_a_killed_run_ends_as_it_would_have(killed: Killed, tmp_path: Path) -> None:
    """The folder is copied after a few events, and the copy is resumed. `make chaos` really kills, and often."""
    assert_ends_as_it_would_have(killed.after(5, tmp_path), killed.expected)


def test_with_pytorch_a_killed_run_ends_as_it_would_have_unless_its_data_have_changed(
    killed_training: Killed, tmp_path: Path
) -> None:
    path = killed_training.after(46, tmp_path)
    before = RunFolder(path).journal.read_bytes()
    write_rows(killed_training.folder / "rows.csv", "1,2,3")
    with pytest.raises(RunFolderError, match="the data differ from the start of the run"):
        resume(path)
    assert RunFolder(path).journal.read_bytes() == before
    moved = write_rows(tmp_path / "moved.csv")
    assert_ends_as_it_would_have(path, killed_training.expected, ("data.source", str(moved)))


def test_with_a_model_a_killed_run_ends_as_it_would_have(tuned: Killed) -> None:
    (path,) = (path for path in tuned.paths if path not in tuned.late)
    assert_ends_as_it_would_have(path, tuned.expected)


def test_with_two_workers_every_curve_is_what_it_would_have_been(make_job: MakeJob, tmp_path: Path) -> None:
    copies = Copies(tmp_path, lambda count, _: count == 30)
    run(make_job({"search/trials": 10, "resources/max_concurrent": 2}), listeners=[copies])
    for path in copies.paths:
        before = open_run(path)
        made = resume(path)
        assert len(made.trials) == 10
        assert list(made.trials["status"].unique()) != ["interrupted"]
        assert_curves_are_those_of_training_alone(made)
        assert_tables_tell_every_decision(made)
        kept = before.epochs.set_index(["trial_id", "epoch"])["error"]
        assert made.epochs.set_index(["trial_id", "epoch"])["error"].loc[kept.index].equals(kept)


def test_a_run_may_be_cut_off_again_while_it_is_resumed(killed: Killed, tmp_path: Path) -> None:
    path = killed.after(9, tmp_path)
    for _ in range(2):
        received: list[Event] = []

        def interrupt(event: Event, received: list[Event] = received) -> None:
            received.append(event)
            if len(received) == 14:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted, match=f"Continue with `tune-jobs resume {path}`"):
            resume(path, listeners=[interrupt])
        assert isinstance(received[0], RunResumed), "listeners receive new events alone"
        assert open_run(path).ending is Ending.INTERRUPTED
    assert_the_same(resume(path), killed.expected)


def test_a_checkpoint_that_was_never_reported_is_known_to_the_next_driver(
    killed: Killed, tmp_path: Path
) -> None:
    """The driver died between a report and the event of its checkpoint. The trial had been promoted."""
    path = killed.after(82, tmp_path)
    assert open_run(path).record.trials["0008"].checkpoint_epoch == 1
    files = (path / "checkpoints" / "0008").iterdir()
    assert sorted(file.stem for file in files) == ["epoch-000001", "epoch-000003"]
    assert_ends_as_it_would_have(path, killed.expected)


def test_a_run_that_was_killed_while_it_concluded_is_concluded(killed: Killed) -> None:
    assert len(killed.late) == 2
    for path in killed.late:
        assert not (path / "selection.json").exists()
        assert_the_same(resume(path), killed.expected)


def test_a_torn_line_is_dropped_with_a_notice(killed: Killed, tmp_path: Path) -> None:
    path = killed.after(20, tmp_path)
    journal = RunFolder(path).journal
    content = journal.read_bytes()
    journal.write_bytes(content[:-7])
    made = resume(path)
    assert_the_same(made, killed.expected)
    (again,) = [event for event in events_of(made) if isinstance(event, RunResumed)]
    assert any("the last line of the journal was incomplete" in notice for notice in again.notices)


def test_checkpoints_that_are_gone_cost_time_and_nothing_else(killed: Killed, tmp_path: Path) -> None:
    path = killed.after(40, tmp_path)
    shutil.rmtree(path / "checkpoints")
    (path / "checkpoints").mkdir()
    assert_the_same(resume(path), killed.expected)


def test_a_run_with_checkpoints_of_a_later_version_is_refused_and_loses_nothing(
    killed: Killed, tmp_path: Path
) -> None:
    path = killed.after(40, tmp_path)
    before = make_checkpoints_later(path / "checkpoints")
    for _ in range(2):
        with pytest.raises(LaterVersion, match="was written by a later version of tune-jobs"):
            resume(path)
    left = {file: file.read_bytes() for file in (path / "checkpoints").rglob("*") if file.is_file()}
    assert left == {file: checkpoint_of_later_version(content) for file, content in before.items()}
    for file, content in before.items():
        file.write_bytes(content)
    assert_the_same(resume(path), killed.expected)


def test_the_run_knows_its_driver_while_it_lasts(two_trials: Run) -> None:
    events = events_of(two_trials)
    assert isinstance(events[0], RunStarted)
    assert events[0].driver.rpartition(":")[2].isdigit()


# More trials, more time


def test_a_finished_run_that_is_extended_equals_one_of_that_length(make_job: MakeJob, tuned: Killed) -> None:
    """Trials that were not promoted continue if there are more places now."""
    short = run(make_job({"search/method": "gp", "search/trials": 8}))
    assert max(short.trials["epochs"]) == 3
    made = resume(short.path, [("search.trials", 20)])
    assert max(made.trials["epochs"]) == 9
    assert_the_same(made, tuned.expected)
    assert made.job.search.trials == 20
    assert [event.trials for event in events_of(made) if isinstance(event, RunResumed)] == [20]


def test_a_finished_run_is_left_as_it_is(short: Run) -> None:
    journal, trials = RunFolder(short.path).journal.read_bytes(), short.trials
    RunFolder(short.path).trials.unlink()
    again = resume(short.path)
    assert RunFolder(short.path).journal.read_bytes() == journal
    assert again.trials.equals(trials)
    assert RunFolder(short.path).trials.is_file(), "missing files were made again"


def test_a_run_whose_time_was_over_continues_if_it_gets_more(make_job: MakeJob) -> None:
    changes = {"slope/pause": 0.2, "search/trials": 1000, "limits/minutes": 0.1}
    made = run(make_job(changes))
    assert made.ending is Ending.TIME_LIMIT
    before = len(made.record.trials)
    assert len(resume(made.path).record.trials) == before, "the time is over"
    ended = resume(made.path, [("limits.minutes", None), ("search.trials", before + 1)])
    assert ended.ending is Ending.ALL_TRIALS
    assert len(ended.record.trials) == before + 1
    assert not ended.trials["reason"].str.contains("time limit").any()
    assert_curves_are_those_of_training_alone(ended)


# Refused calls


def test_a_holdout_that_was_changed_is_refused(killed: Killed, tmp_path: Path) -> None:
    path = killed.after(20, tmp_path)
    sealed = path / "holdout" / "rows.npz"
    sealed.chmod(0o600)
    sealed.write_bytes(sealed.read_bytes()[:-30])
    before = RunFolder(path).journal.read_bytes()
    with pytest.raises(DamagedRun, match="not the test rows that were sealed"):
        resume(path)
    assert RunFolder(path).journal.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["seed", "slope.epochs", "search.space.rate.high", "resources.cpus_per_trial"]
)
def test_keys_that_a_curve_depends_on_cannot_change(name: str, killed: Killed, tmp_path: Path) -> None:
    path = killed.after(9, tmp_path)
    with pytest.raises(JobError, match=f"{name} +not a key that can change in a run that has begun"):
        resume(path, [(name, 1)])


def test_fewer_trials_than_were_made_are_refused(short: Run) -> None:
    with pytest.raises(JobError, match="given 1; valid: 2 or more"):
        resume(short.path, [("search.trials", 1)])


@pytest.mark.usefixtures("two_trials")
def test_a_second_driver_is_refused_while_the_first_lives(refused: list[str]) -> None:
    assert "another process is at work on this run" in refused[0]


def test_a_run_that_was_killed_before_it_began_says_so(make_job: MakeJob, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "small")
    with pytest.raises(RunFolderError, match="not a run folder"):
        resume(folder.path)
    folder.journal.touch()
    with pytest.raises(DamagedRun, match="run its job again"):
        resume(folder.path)


def test_trials_after_an_unsealing_mark_the_run(short: Run) -> None:
    short.test()
    assert not open_run(short.path).record.test_seen
    longer = resume(short.path, [("search.trials", 3)])
    assert longer.record.test_seen
    assert '"test_seen": true' in (short.path / "selection.json").read_text()


def test_an_opening_that_is_missing_in_the_journal_counts(short: Run) -> None:
    """The process died between the ledger's entry and the journal's."""
    unseal(RunFolder(short.path), short.winner.trial_id)
    assert resume(short.path, [("search.trials", 3)]).record.test_seen


def test_the_holdout_is_not_opened_for_an_outdated_winner(short: Run) -> None:
    assert short.winner.checkpoint.is_file()
    after = resume(short.path, [("search.trials", 3)])
    with pytest.raises(RunFolderError, match="was continued after it was opened"):
        short.test()
    after.test()


def test_the_holdout_stays_sealed_if_a_later_version_wrote_the_winner(short: Run) -> None:
    make_checkpoints_later(short.path / "checkpoints")
    with pytest.raises(LaterVersion, match="was written by a later version of tune-jobs"):
        short.test()
    assert not read_ledger(RunFolder(short.path))


def test_a_job_that_was_changed_by_hand_is_refused(short: Run) -> None:
    job = RunFolder(short.path).job
    job.write_text(job.read_text().replace("epochs: 9", "epochs: 10"))
    with pytest.raises(DamagedRun, match="was changed since the run began"):
        resume(short.path, [("search.trials", 3)])
