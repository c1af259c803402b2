"""Waiting trials under a real Ray: promotions, ends, losses, and their events in the journal."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from tests.tune_jobs.runs import (
    assert_curves_are_those_of_training_alone,
    assert_tables_tell_every_decision,
    events_of,
    line_in,
    lines,
)
from tune_jobs import Job, Run, open_run, run
from tune_jobs.errors import Interrupted
from tune_jobs.record.codes import Cause, Ending
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunResumed,
    TrialCreated,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WorkerLost,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.scheduling.rungs import make_tables
from tune_jobs.tracking.optuna_study import study_storage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slope_kind", "ray_running")]

MakeJob = Callable[..., Job]


@pytest.fixture
def make_line(tmp_path: Path) -> MakeJob:
    return lambda changes: line_in(tmp_path, changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, slope_kind: None) -> Run:
    return run(line_in(tmp_path_factory.mktemp("finished"), {"resources/max_concurrent": 2}))


# The files of a run


def test_the_share_of_each_rung_is_promoted_and_the_others_end_at_their_rung(finished: Run) -> None:
    """Of 20 trials 6 continue after epoch 1, and 2 after epoch 3."""
    assert sorted(finished.trials["epochs"]) == [1] * 14 + [3] * 4 + [9] * 2
    for trial in finished.trials.itertuples():
        if trial.epochs == 9:
            assert trial.status == "completed"
        else:
            assert trial.status == "stopped_early"
            assert trial.reason == f"waited at epoch {trial.epochs}: not among the best 1/3 of its rung"
    assert finished.ending is Ending.ALL_TRIALS


def test_every_epoch_is_in_the_journal_once(finished: Run) -> None:
    reported = [
        (event.trial_id, result["epoch"])
        for event in events_of(finished)
        if isinstance(event, EpochsReported)
        for result in event.results
    ]
    assert len(reported) == len(set(reported)) == 14 + 4 * 3 + 2 * 9


def test_the_study_knows_that_waiting_trials_were_pruned(finished: Run) -> None:
    study = optuna.load_study(study_name=None, storage=study_storage(RunFolder(finished.path)))
    expected = {"completed": "COMPLETE", "stopped_early": "PRUNED"}
    states = {trial.user_attrs["trial_id"]: trial.state.name for trial in study.trials}
    assert states == {t.trial_id: expected[t.status] for t in finished.trials.itertuples()}
    rungs = {trial.user_attrs["trial_id"]: list(trial.intermediate_values) for trial in study.trials}
    for trial in finished.trials.itertuples():
        assert rungs[trial.trial_id] == [epoch for epoch in (1, 3, 9) if epoch <= trial.epochs]


def test_a_promoted_trial_continues_bit_for_bit(finished: Run) -> None:
    waited = {event.trial_id for event in events_of(finished) if isinstance(event, TrialPaused)}
    promoted = {event.trial_id for event in events_of(finished) if isinstance(event, TrialPromoted)}
    assert waited & promoted, "no trial waited and was promoted"
    assert_curves_are_those_of_training_alone(finished)


def test_no_worker_is_started_in_another_s_place(finished: Run) -> None:
    workers = {event.worker for event in events_of(finished) if isinstance(event, EpochsReported)}
    assert len(workers) <= 2


def test_tables_from_the_journal_give_every_decision(finished: Run) -> None:
    assert_tables_tell_every_decision(finished)


# Few workers, few trials


def test_one_worker_does_it_all(make_line: MakeJob) -> None:
    made = run(make_line({}))
    assert sorted(made.trials["epochs"]) == [1] * 14 + [3] * 4 + [9] * 2
    assert len({event.worker for event in events_of(made) if isinstance(event, EpochsReported)}) == 1
    running: set[str] = set()
    for event in events_of(made):
        if isinstance(event, TrialStarted):
            running.add(event.trial_id)
        elif isinstance(event, TrialPaused) or event.type == "trial_ended":
            running.discard(event.trial_id)  # type: ignore[attr-defined]
        assert len(running) <= 1
    assert_tables_tell_every_decision(made)


def test_a_single_trial_does_not_wait(make_line: MakeJob) -> None:
    made = run(make_line({"search/trials": 1}))
    assert list(made.trials["status"]) == ["stopped_early"]
    assert list(made.trials["reason"]) == ["waited at epoch 1: not among the best 1/3 of its rung"]
    assert made.winner.checkpoint.is_file()


def test_a_grid_is_tried_in_full(make_line: MakeJob) -> None:
    space = {"rate": {"values": [0.001, 0.01, 0.1]}, "decay": {"values": [0.0, 0.1, 0.2]}}
    made = run(make_line({"search/space": space, "search/method": "grid", "search/trials": 100}))
    assert sorted(made.trials["epochs"]) == [1] * 6 + [3] * 2 + [9]
    tried = [dict(record.configuration) for record in made.record.trials.values()]
    assert len(tried) == 9
    assert all(configuration in tried for configuration in made.job.search.space.grid())


def test_a_trial_may_stop_itself_after_it_was_promoted(make_line: MakeJob) -> None:
    space = {"rate": 0.02, "bad": {"values": [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]}}
    search = {"search/space": space, "search/method": "grid", "search/trials": 6}
    made = run(
        make_line({**search, "slope/settled": 3.3})
    )  # the first epoch moves the line by more, the second by less
    assert list(made.trials["epochs"]) == [2, 2, 1, 1, 1, 1]
    assert sorted(made.trials["status"]) == ["stopped_early"] * 6
    assert sum("waited" in reason for reason in made.trials["reason"]) == 4


# Failures


def test_a_waiting_trial_continues_in_another_worker_if_its_own_was_killed(
    make_line: MakeJob, tmp_path: Path
) -> None:
    trials = lines(("", 10.0), ("crash_once", 20.0), ("", 30.0))
    made = run(make_line({**trials, "slope/folder": str(tmp_path)}))
    assert list(made.trials["epochs"]) == [3, 1, 1]
    workers = [
        event.worker
        for event in events_of(made)
        if isinstance(event, EpochsReported) and event.trial_id == "0000"
    ]
    assert len(set(workers)) == 2
    assert sum(isinstance(event, WorkerLost) for event in events_of(made)) == 1
    assert_curves_are_those_of_training_alone(made)
    assert_tables_tell_every_decision(made)


def test_a_killed_idle_worker_delays_nothing(make_line: MakeJob, tmp_path: Path) -> None:
    """The next trial for this worker finds it dead."""
    waits: list[str] = []
    workers: dict[str, int] = {}

    def kill_idle(event: Event) -> None:
        if isinstance(event, EpochsReported):
            workers[event.trial_id] = int(event.worker.rpartition(":")[2])
        elif isinstance(event, TrialPaused):
            waits.append(event.trial_id)
            if len(waits) == 2:  # the third trial is at work, and none is left to start
                os.kill(workers[event.trial_id], signal.SIGKILL)
                (tmp_path / "go").touch()

    trials = lines(("held", 30.0), ("", 10.0), ("", 20.0))
    changes = {"resources/max_concurrent": 2, "slope/folder": str(tmp_path)}
    made = run(make_line({**trials, **changes}), listeners=[kill_idle])
    assert waits[:2] == ["0001", "0002"]
    assert list(made.trials["epochs"]) == [1, 3, 1]
    assert_curves_are_those_of_training_alone(made)


def test_an_interruption_leaves_waiting_trials_as_they_are(make_line: MakeJob) -> None:
    """In the tables, such a trial is interrupted. A resumed run knows that it waits."""
    waits: list[str] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, TrialPaused):
            waits.append(event.trial_id)
            if len(waits) == 2:
                signal.raise_signal(signal.SIGINT)

    job = make_line({})
    with pytest.raises(Interrupted) as raised:
        run(job, listeners=[interrupt])
    made = open_run(raised.value.path)
    assert list(made.trials["status"])[:2] == ["interrupted"] * 2
    tables = make_tables(job.scheduler, job.rungs, job.selection)
    for event in in_force([*events_of(made), RunResumed(trials=job.trials, versions={})]):
        tables.apply(event)
    assert tables.waiting == dict.fromkeys(waits, 1)
    assert {path.name for path in (made.path / "checkpoints").iterdir()} >= set(waits)


def test_failed_trials_do_not_count_at_rungs(make_line: MakeJob) -> None:
    made = run(make_line(lines(("raise", 10.0), ("", 20.0), ("", 30.0), ("raise", 40.0))))
    assert list(made.trials["status"]) == ["failed", "stopped_early", "stopped_early", "failed"]
    assert set(made.trials["epochs"][1:3]) == {1}, "two were compared, and none of two is promoted"


def test_a_trial_that_diverges_counts_as_beaten(make_line: MakeJob) -> None:
    rates = [0.1, 0.0001, 1e30]
    points = [{"rate": rate} for rate in rates]
    space = {"rate": {"values": rates}}
    made = run(make_line({"search/space": space, "search/points": points, "search/trials": 3}))
    assert list(made.trials["status"]) == ["stopped_early", "stopped_early", "failed"]
    assert list(made.trials["epochs"]) == [3, 1, 1]


def test_the_time_limit_ends_waiting_trials(make_line: MakeJob) -> None:
    made = run(make_line({"slope/pause": 0.2, "search/trials": 1000, "limits/minutes": 0.25}))
    assert made.ending is Ending.TIME_LIMIT
    assert set(made.trials["status"]) <= {"stopped_early", "completed"}
    assert Cause.TIME_LIMIT.sentence in set(made.trials["reason"])
    assert not made.trials["reason"].str.contains("waited").any()
    created = sum(isinstance(event, TrialCreated) for event in events_of(made))
    assert len(made.trials) == created
