import math

from benchmarks.runs import DIGITS_JOB, WORKERS, FinishedRun
from benchmarks.whole_run import Totals, totals_of, totals_table
from tune_jobs import Job
from tune_jobs.record.events import EpochsReported


def test_totals_are_added_up_over_reports_and_a_loss_that_is_no_number_is_not_the_best() -> None:
    events = [
        EpochsReported(
            trial_id=trial, results=[{"seconds": 0.5, "val_loss": loss} for loss in losses], worker="w:1"
        )
        for trial, losses in {"0000": [0.3, 0.2], "0001": [math.nan]}.items()
    ]

    totals = totals_of(FinishedRun(100.0, 130.0, events))

    assert totals == Totals(wall_seconds=30.0, epochs=3, training_seconds=1.5, best_val_loss=0.2)


def test_the_table_shows_medians_over_the_rounds() -> None:
    rounds = [
        Totals(wall_seconds=wall, epochs=700, training_seconds=9.0, best_val_loss=0.05)
        for wall in (10.0, 30.0, 12.0)
    ]

    row = totals_table({"ours": rounds}).splitlines()[2]

    assert [cell.strip() for cell in row.strip("|").split("|")] == ["ours", "12.0", "700", "9.0", "0.0500"]


def test_the_job_is_valid_and_trains_as_many_trials_at_a_time_as_the_measurements_take_for_granted() -> None:
    job = Job.from_file(DIGITS_JOB)

    assert (job.trials, job.max_epochs) == (64, 27)
    assert job.resources.max_concurrent == WORKERS
