"""Write the sentences of a report: what was asked, what came out, and the results on the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from tune_jobs.holdout.ledger import LedgerEntry
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.run_record import RunRecord
from tune_jobs.selection.rule import Candidate
from tune_jobs.text import count_text, duration_text, list_text, number_text, time_text

_METHODS = {
    "gp": "a Gaussian process",
    "tpe": "TPE",
    "random": "random search",
    "grid": "the grid",
}
_SCHEDULERS = {
    "asha": "ASHA let the best continue",
    "asha_stopping": "ASHA stopped the worse ones",
    "median": "the median rule stopped the worse ones",
}


@dataclass(frozen=True)
class RunState:
    """The state of the run, as the head of the page shows it."""

    text: str
    kind: str
    """`done`, `running` or `broken`: its colour."""


def run_state(record: RunRecord, *, in_progress: bool) -> RunState:
    """Return the state of the run."""
    if record.ending is None:
        return (
            RunState("in progress", "running")
            if in_progress
            else RunState("its process was killed", "broken")
        )
    if record.ending.cut_off:
        return RunState(record.ending.sentence, "broken")
    return RunState("done" if record.ending is Ending.ALL_TRIALS else record.ending.sentence, "done")


def outcome(job: Job, record: RunRecord, best: Candidate | None, *, won: bool) -> str:
    """Say the outcome in a sentence; `best` has `won` if the run has ended and it may be the winner."""
    tried = f"{count_text(len(record.trials), 'configuration')} of {job.facts.title}"
    if best is None:
        nothing = "none has a score yet" if record.ending is None else "none succeeded"
        return f"Of {tried}, {nothing}."
    superlative = "lowest" if record.score.mode == "min" else "highest"
    verb = "has" if won else "has had" if record.ending else "so far has"
    return (
        f"Of {tried}, trial {best.trial.trial_id} {verb} the {superlative} {record.score.metric}: "
        f"{number_text(best.best.score)}, at epoch {best.best.epoch}."
        f"{'' if won or record.ending is None else ' No trial has ended that may win.'}"
    )


def request(job: Job, record: RunRecord) -> str:
    """Say what was asked for, in a sentence."""
    compared = (
        f"{_SCHEDULERS[job.scheduler.method]} after {list_text(job.rungs)} epochs"
        if job.rungs
        else "every trial could run to its end"
    )
    superlative = "lowest" if record.score.mode == "min" else "highest"
    rows = record.started.rows.get("validation") if record.started else None
    where = f"{rows:,} validation rows" if rows is not None else "the validation rows"
    return (
        f"Asked for: {count_text(job.trials, 'trial')} of at most {count_text(job.max_epochs, 'epoch')}, "
        f"proposed by {_METHODS[job.search.method]} in a space of "
        f"{count_text(len(job.search.space.parameters), 'parameter')}; "
        f"{compared}; the {superlative} {record.score.metric} on {where} chooses."
    )


def effort(record: RunRecord, seconds: float) -> str:
    """Say what was done, in a sentence."""
    counts = [f"{number:,} {status.text}" for status in Status if (number := len(record.with_status(status)))]
    epochs = sum(len(trial.epochs) for trial in record.trials.values())
    lost = sum(trial.workers_lost for trial in record.trials.values())
    losses = f"; {count_text(lost, 'worker')} lost" if lost else ""
    return f"{', '.join(counts) or 'No trial yet'}; {count_text(epochs, 'epoch')} in {duration_text(seconds)}{losses}."


def optimism(record: RunRecord) -> str:
    """Say why the winner's score is optimistic."""
    scores = sum(record.best(trial_id) is not None for trial_id in record.trials)
    epochs = sum(len(trial.epochs) for trial in record.trials.values())
    return (
        f"It was chosen as the best of {count_text(scores, 'trial')} and {count_text(epochs, 'epoch')} on the same "
        "validation rows, so it is better than the score to expect on new rows."
    )


@dataclass(frozen=True)
class Opening:
    """One opening of the holdout."""

    when: str
    trial_id: str
    reason: str
    results: Sequence[tuple[str, str]]
    """Names and values; empty if the evaluation failed."""


def openings(ledger: Sequence[LedgerEntry]) -> list[Opening]:
    """Return all openings of the holdout, the first one first."""
    return [
        Opening(
            when=time_text(entry.time),
            trial_id=entry.trial_id,
            reason=entry.reason or "",
            results=[(name, number_text(value)) for name, value in (entry.results or {}).items()],
        )
        for entry in ledger
    ]
