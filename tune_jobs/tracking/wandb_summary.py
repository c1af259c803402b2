"""Write the W&B runs that are no trials: one for the run as a whole, and one for each opening of the holdout."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import wandb

from tune_jobs.job.job import Job
from tune_jobs.record.events import HoldoutEvaluated, WinnerSelected
from tune_jobs.record.run_record import RunRecord
from tune_jobs.record.tables import trials_table
from tune_jobs.tracking.wandb_runs import WandbRuns, job_config

SUMMARY: Final = "summary"
"""Name, in the run, of the W&B run for the run as a whole."""

_LOG = logging.getLogger(__name__)


def write_summary_run(
    runs: WandbRuns, job: Job, record: RunRecord, selected: WinnerSelected, report: Path | None
) -> wandb.Run:
    """Write the W&B run of job type `summary`: the winner, how the trials ended, their table, the report.

    Args:
        runs: Opens the W&B runs of the run folder.
        job: Job of the run.
        record: Record of the run, which has ended.
        selected: The event that names the winner.
        report: File of the report; None leaves it out.

    Raises:
        OSError, wandb.Error: See `WandbRuns.open`.
    """
    started = record.started.time if record.started else selected.time
    run = runs.open(SUMMARY, "summary", {"job": job_config(job)}, started)
    table = _table(record)
    # A table that is bound before it is logged is a file in the folder of the W&B run. Otherwise it would be an
    # artifact too, whose files W&B keeps elsewhere in the user's home, and deletes if their upload fails.
    step = sum(len(trial.epochs) for trial in record.trials.values())  # a later summary has a later step
    table.bind_to_run(run, "trials", step)  # type: ignore[no-untyped-call]
    media: dict[str, Any] = {"trials": table}
    if report is not None:
        media["report"] = wandb.Html(report, inject=False)
    run.log(media, step=step)
    run.summary.update(_outcome(record, selected))
    run.finish(exit_code=0 if selected.winner else 1)
    return run


def write_test_run(runs: WandbRuns, job: Job, record: RunRecord, test: HoldoutEvaluated) -> wandb.Run:
    """Write the W&B run of job type `test`: the winner's results on the test rows, and why they were read.

    Args:
        runs: Opens the W&B runs of the run folder.
        job: Job of the run.
        record: Record of the run.
        test: The event that has the results.

    Raises:
        OSError, wandb.Error: See `WandbRuns.open`.
    """
    best, metric = record.best(test.trial_id), record.score.metric
    trial = record.trials.get(test.trial_id)  # missing if the journal was cut
    config = {
        **(trial.configuration if trial else {}),
        "trial": {"id": test.trial_id},
        "job": job_config(job),
    }
    run = runs.open(test_part(test), "test", config, test.time)
    run.log(dict(test.results), step=0)
    run.summary.update(
        {
            "winner": test.trial_id,
            "validation": {metric: best.score, "epoch": best.epoch} if best else None,
            "opening": test.number,
            "reason": test.reason,
        }
    )
    run.finish(exit_code=0)
    return run


def test_part(test: HoldoutEvaluated) -> str:
    """Return the name of the W&B run of this opening of the holdout."""
    return f"test-{test.number}"


def try_report(write_report: Callable[[], Path]) -> Path | None:
    """Return the file of the report; None if it cannot be written: the summary goes without."""
    try:
        return write_report()
    except Exception as error:
        _LOG.warning(
            "W&B: the summary has no report: %s: %s", type(error).__name__, " ".join(str(error).split())
        )
        return None


def _outcome(record: RunRecord, selected: WinnerSelected) -> dict[str, Any]:
    statuses = Counter(str(trial.status) for trial in record.trials.values())
    epochs = sum(len(trial.epochs) for trial in record.trials.values())
    outcome: dict[str, Any] = {
        "ending": record.ending.value if record.ending else None,
        "trials_by_status": dict(statuses),
        "trials_made": len(record.trials),
        "epochs_done": epochs,
        "winner": None,
    }
    best = None if selected.winner is None else record.best(selected.winner)
    if selected.winner is not None and best is not None:
        outcome["winner"] = {
            "id": selected.winner,
            "score": best.score,
            "epoch": best.epoch,
            "configuration": dict(record.trials[selected.winner].configuration),
        }
    return outcome


def _table(record: RunRecord) -> wandb.Table:
    """Return the table with a row for each trial, as in `trials.parquet`."""
    trials = trials_table(record)
    rows: list[Iterable[Any]] = [list(row.values()) for row in trials.to_pylist()]
    return wandb.Table(columns=trials.column_names, data=rows, allow_mixed_types=True)
