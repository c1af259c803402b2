"""The record of a run is the same from live events and from its journal."""

from collections.abc import Callable
from typing import Any

import pytest

from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    CheckpointDamaged,
    CheckpointWritten,
    EpochsReported,
    Event,
    HoldoutUnsealed,
    RunEnded,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WinnerSelected,
    WorkerLost,
)
from tune_jobs.record.run_record import RunRecord
from tune_jobs.trainers.scores import BestEpoch
from tune_jobs.trainers.settings import ScoreSettings

MakeRecord = Callable[..., RunRecord]

NAN, INF = float("nan"), float("inf")


def result(epoch: int, val_loss: float, **metrics: float) -> dict[str, Any]:
    return {"epoch": epoch, "train_loss": 1.0, "val_loss": val_loss, **metrics, "lr": 0.1, "seconds": 0.25}


def replayed(*events: Event, **score: Any) -> RunRecord:
    created = TrialCreated(time=10.0, trial_id="0000", number=0, configuration={"lr": 0.1})
    return RunRecord.replay([created, *events], ScoreSettings(**{"metric": "val_loss", **score}))


def test_a_trial_goes_from_pending_over_running_to_its_end() -> None:
    record = replayed()
    trial = record.trials["0000"]
    assert (trial.status, trial.created, trial.started, trial.ended) == (Status.PENDING, 10.0, None, None)
    record.apply(TrialStarted(time=11.0, trial_id="0000"))
    assert (trial.status, trial.started) == (Status.RUNNING, 11.0)
    record.apply(
        TrialEnded(
            time=12.0,
            trial_id="0000",
            status=Status.FAILED,
            cause=Cause.TRAINING_FAILED,
            reason="too hot",
            details="a traceback",
        )
    )
    assert (trial.status, trial.reason, trial.details, trial.ended) == (
        Status.FAILED,
        "too hot",
        "a traceback",
        12.0,
    )


def test_a_worker_that_was_lost_with_its_machine_does_not_count() -> None:
    record = replayed(
        WorkerLost(trial_id="0000", reason="killed"),
        TrialStarted(trial_id="0000"),
        WorkerLost(trial_id="0000", reason="the machine died", node_lost=True),
    )
    assert (record.trials["0000"].status, record.trials["0000"].workers_lost) == (Status.PENDING, 1)


def test_machines_that_are_lost_count_until_the_trial_comes_further() -> None:
    lost = WorkerLost(trial_id="0000", reason="the machine died", node_lost=True)
    first = EpochsReported(trial_id="0000", results=[result(1, 0.5)], worker="one:7")
    assert replayed(lost, first, lost, lost).trials["0000"].machines_lost == 2
    assert replayed(first, lost, first, lost).trials["0000"].machines_lost == 2  # the same epoch, done again


def test_a_lost_worker_puts_the_trial_back_and_keeps_its_first_start_and_its_epochs() -> None:
    record = replayed(
        TrialStarted(time=11.0, trial_id="0000"),
        EpochsReported(trial_id="0000", results=[result(1, 0.5), result(2, 0.4)], worker="one:7"),
        WorkerLost(trial_id="0000", reason="killed"),
    )
    trial = record.trials["0000"]
    assert (trial.status, trial.workers_lost, list(trial.epochs)) == (Status.PENDING, 1, [1, 2])
    record.apply(TrialStarted(time=20.0, trial_id="0000"))
    record.apply(EpochsReported(trial_id="0000", results=[result(2, 0.4), result(3, 0.3)], worker="two:8"))
    assert (trial.status, trial.started, trial.node) == (Status.RUNNING, 11.0, "two")
    assert list(trial.epochs) == [1, 2, 3]
    assert trial.seconds == pytest.approx(0.75)
    assert record.best("0000") == BestEpoch(3, 0.3)


def test_damaged_checkpoints_of_a_trial_are_remembered() -> None:
    damage = [
        CheckpointDamaged(trial_id="0000", file=f"checkpoints/0000/epoch-00000{epoch}.pt", reason="torn")
        for epoch in (3, 1)
    ]
    assert replayed(*damage).trials["0000"].damaged == damage
    assert replayed().trials["0000"].damaged == []


def test_a_trial_waits_and_is_promoted() -> None:
    record = replayed(TrialStarted(time=11.0, trial_id="0000"), TrialPaused(trial_id="0000", epoch=1))
    trial = record.trials["0000"]
    assert (trial.status, trial.status.ended) == (Status.WAITING, False)
    record.apply(TrialPromoted(trial_id="0000", epoch=1))
    assert trial.status is Status.PENDING
    record.apply(TrialStarted(time=20.0, trial_id="0000"))
    record.apply(TrialPromoted(trial_id="0000", epoch=3))
    assert trial.status is Status.RUNNING, "promoted at once, its worker continues"


def test_an_epoch_that_was_done_twice_counts_once() -> None:
    record = replayed(
        EpochsReported(trial_id="0000", results=[result(1, 0.5)], worker="a:1"),
        EpochsReported(trial_id="0000", results=[result(1, 0.5)], worker="b:2"),
    )
    assert len(record.trials["0000"].epochs) == 1
    assert record.trials["0000"].seconds == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([0.5, 0.3, 0.4], BestEpoch(2, 0.3)),
        ([0.5, 0.3, 0.3], BestEpoch(2, 0.3)),
        ([NAN, 0.9, NAN], BestEpoch(2, 0.9)),
        ([INF, 3.0, -INF], BestEpoch(2, 3.0)),
        ([NAN, INF], None),
        ([], None),
    ],
)
def test_the_best_epoch_is_the_first_with_the_lowest_finite_score(
    make_record: MakeRecord, losses: list[float], best: BestEpoch | None
) -> None:
    trial = {"losses": [1.0] * len(losses), "metrics": {"accuracy": losses}}
    assert make_record([trial], metric="accuracy").best("0000") == best


def test_the_best_epoch_goes_by_the_selection_metric_and_its_mode(make_record: MakeRecord) -> None:
    trial = {"losses": [0.1, 0.2, 0.3], "metrics": {"accuracy": [0.5, 0.9, NAN]}}
    assert make_record([trial], metric="accuracy", mode="max").best("0000") == BestEpoch(2, 0.9)
    assert make_record([trial]).best("0000") == BestEpoch(1, 0.1)


def test_the_last_checkpoint_counts() -> None:
    record = replayed(
        CheckpointWritten(trial_id="0000", epoch=1, file="checkpoints/0000/epoch-000001.pt"),
        CheckpointWritten(trial_id="0000", epoch=3, file="checkpoints/0000/epoch-000003.pt"),
    )
    trial = record.trials["0000"]
    assert (trial.checkpoint, trial.checkpoint_epoch) == ("checkpoints/0000/epoch-000003.pt", 3)


def test_trials_of_a_status_come_in_the_order_of_their_creation(make_record: MakeRecord) -> None:
    statuses = [Status.FAILED, Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.PENDING]
    record = make_record([{"status": status, "losses": [1.0]} for status in statuses])
    assert [trial.number for trial in record.with_status(Status.FAILED, Status.PENDING)] == [0, 3, 4]
    assert record.with_status(Status.INTERRUPTED) == []


def test_how_the_run_ended_is_known_once_it_has() -> None:
    record = replayed(WinnerSelected(winner=None), HoldoutUnsealed(trial_id="0000"))
    assert record.ending is None
    record.apply(RunEnded(ending=Ending.TIME_LIMIT))
    assert record.ending is Ending.TIME_LIMIT


def test_epochs_that_were_done_again_take_their_score_back() -> None:
    """A score must be in the tables, even if another machine computes other numbers."""

    def reported(*losses: tuple[int, float]) -> EpochsReported:
        results = tuple({"epoch": epoch, "val_loss": loss, "seconds": 0.1} for epoch, loss in losses)
        return EpochsReported(trial_id="0000", results=results, worker="host:1")

    record = RunRecord(ScoreSettings(metric="val_loss"))
    record.apply(TrialCreated(trial_id="0000", number=0, configuration={}))
    record.apply(reported((1, 0.9), (2, 0.5)))
    record.apply(reported((2, 0.7), (3, 0.6)))
    best = record.best("0000")
    assert best is not None
    assert (best.epoch, best.score) == (3, 0.6)
