"""Make the tables and lines that commands print of runs, trials and plans."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tune_jobs.errors import EarlierVersion, ExpectedError, OtherVersion, UnknownKind
from tune_jobs.job.rung_epochs import reach_text
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.curve import numbers
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord, TrialRecord, failures
from tune_jobs.results import Run, open_run
from tune_jobs.selection.rule import rank
from tune_jobs.text import WINNER, configuration_text, count_text, number_text, quoted, train_command
from tune_jobs.trainers.interface import Seal

if TYPE_CHECKING:
    from tune_jobs.job.job import Job
    from tune_jobs.trainers.data import PreparedData


def trials_display(record: RunRecord, most: int | None = None) -> Table:
    """Make the table of a run's trials, best first: those that may win, then the others, those without a score last.

    The column `epoch` has the best epoch, and how many there are.
    """
    ranked = [candidate.trial for candidate in rank(record)]

    def cost(trial: TrialRecord) -> float:
        best = record.best(trial.trial_id)
        return math.inf if best is None else record.score.cost(best.score)

    others = sorted((trial for trial in record.trials.values() if trial not in ranked), key=cost)
    shown = [*ranked, *others][:most]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("trial", "status"):
        table.add_column(heading, no_wrap=True)
    for heading in (record.score.metric, "epoch"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("configuration", overflow="fold")
    for trial in shown:
        _add_row(table, *_cells(trial, record), configuration_text(trial.configuration))
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Add a row of literal text: in a plain `str`, rich would take `[red]` for a colour."""
    table.add_row(*map(Text, cells))


def _cells(trial: TrialRecord, record: RunRecord) -> Sequence[str]:
    best = record.best(trial.trial_id)
    return (
        trial.trial_id,
        str(trial.status),
        number_text(best.score) if best else "",
        f"{best.epoch if best else '-'} of {len(trial.epochs)}",
    )


def trial_display(opened: Run, trial_id: str) -> list[str | Table]:
    """Describe one trial in full: how it ended, its epochs, and the command that trains it again without Ray."""
    trial = opened.record.trials[trial_id]
    rows = [numbers(trial.epochs[epoch]) for epoch in sorted(trial.epochs)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(number_text(value) for value in row.values()))
    damaged = [
        f"notice: {event.file} was damaged ({event.reason}), so the trial continued from an earlier checkpoint, "
        "or from its start; the epochs are the same"
        for event in trial.damaged
    ]
    parts: list[str | Table] = [
        f"trial {trial_id}: {trial.status}: {trial.reason}",
        f"configuration: {configuration_text(trial.configuration)}",
        *damaged,
        table,
    ]
    if trial.details:
        parts.append(trial.details)
    where = f"cd {quoted(opened.job.folder)} && "
    return [
        *parts,
        *_output_lines(RunFolder(opened.path), trial_id),
        f"again, alone: {where}{train_command(RunFolder(opened.path).job, trial.configuration)}",
    ]


LINES_OF_OUTPUT = 20
"""Lines of a trial's output that `show --trial` prints."""


def _output_lines(folder: RunFolder, trial_id: str) -> list[str]:
    """Return the last lines that a trial's code has printed, below the path of the whole output."""
    path = folder.output / f"{trial_id}.log"
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    last = lines[-LINES_OF_OUTPUT:]
    which = f"the last {len(last)} of {len(lines)} lines" if len(lines) > len(last) else "all"
    return [f"output ({folder.relative(path)}, {which}):", *(f"  {line}" for line in last)]


def failures_display(record: RunRecord) -> list[str]:
    """Return a line for each reason of failures, the commonest first: how often, and an example."""
    return [
        f"{len(trials)} failed (such as trial {trials[0].trial_id}): {reason}"
        for reason, trials in failures(record.trials.values())
    ]


def outcome_lines(opened: Run) -> list[str]:
    """Return the lines that say how a run ended, who won, and whether the holdout was opened."""
    record = opened.record
    cut_off = len(record.with_status(Status.INTERRUPTED))
    ended = sum(trial.status.ended for trial in record.trials.values()) - cut_off
    in_middle = f", {cut_off} in their middle" if cut_off else ""
    lines = [f"{count_text(ended, 'trial')} ended{in_middle}; {ending_text(opened)}"]
    if record.ending and opened.winner_id is None:
        why = "no trial had ended before the run stopped" if record.ending.cut_off else "no trial succeeded"
        lines.append(f"{WINNER}none, because {why}")
    elif record.ending:
        winner = opened.winner
        lines.append(
            f"{WINNER}trial {winner.trial_id}, {record.score.metric} {number_text(winner.score)} at epoch "
            f"{winner.epoch}: {configuration_text(winner.configuration)}"
        )
    openings = opened.openings
    for opening in openings:
        results = ", ".join(f"{name} {number_text(value)}" for name, value in (opening.results or {}).items())
        why = f" ({opening.reason})" if opening.reason else ""
        lines.append(
            f"holdout: opened for trial {opening.trial_id}{why}: {results or 'no result was recorded'}"
        )
    if not (opened.job.seals_test or opened.job.tests_itself):
        lines.append("holdout: none, because the trainings read their own data")
    elif record.ending and opened.winner_id is not None and not openings:
        then = "when the run has ended, " if record.ending.cut_off else ""
        sealed = "sealed" if opened.job.seals_test else f"{opened.job.seal} ({opened.job.seal.sentence})"
        lines.append(f"holdout: {sealed}; {then}`tune-jobs test {quoted(opened.address)}` opens it, once")
    if record.test_seen:
        lines.append(
            "test seen: trials were trained after the holdout was opened, so its result is not an honest estimate"
        )
    return lines


def ending_text(opened: Run) -> str:
    """Say how the run ended, and how to continue it if it was cut off."""
    if opened.ending is None and opened.in_progress:
        return "in progress"
    text = "its process was killed" if opened.ending is None else opened.ending.sentence
    if opened.ending is None or opened.ending.cut_off:
        return f"{text}; continue with `tune-jobs resume {quoted(opened.address)}`"
    return text


def plan_lines(job: "Job", prepared: "PreparedData | None") -> list[str]:
    """Return the lines of `tune-jobs validate`: what a run of `job` would do."""
    lines = [
        f"{job.name}: valid",
        f"data       {job.facts.labels.get('data', job.facts.title)}: {_data_text(prepared, job.seal)}",
        f"search     {job.search.method}, {count_text(job.trials, 'trial')}, "
        f"{count_text(len(job.search.space.parameters), 'parameter')}:",
    ]
    for name, parameter in job.search.space.parameters.items():
        when = " and ".join(
            f"{parent} is {' or '.join(map(number_text, values))}"
            for parent, values in parameter.when.items()
        )
        lines.append(f"             {name}: {parameter.domain.describe()}{f' (when {when})' if when else ''}")
    compared = (
        f"trials are compared after {', '.join(map(str, job.rungs))} epochs"
        if job.rungs
        else "every trial runs its course"
    )
    lines.append(
        f"training   at most {count_text(job.max_epochs, 'epoch')} a trial, {job.trials * job.max_epochs:,} in all"
    )
    lines.append(f"scheduler  {job.scheduler.method}: {compared}")
    if job.rungs and job.scheduler.pauses_trials:
        lines.append(f"           {reach_text(job.trials, job.rungs, job.scheduler.reduction_factor)}")
    lines.append(f"selection  {job.selection.mode} {job.selection.metric} on validation rows")
    notices = [*(prepared.report.notices if prepared else ()), *job.notices()]
    return [*lines, *(f"notice     {notice}" for notice in notices)]


def _data_text(prepared: "PreparedData | None", seal: Seal) -> str:
    if prepared is None:
        return f"{seal.sentence} (seal: {seal})"
    info = prepared.info
    rows = ", ".join(f"{count} {part}" for part, count in prepared.report.rows.items())
    what = f"{len(info.classes)} classes" if info.classes else f"{info.outputs} target(s)"
    return f"{rows} rows; a row is {list(info.input_shape)}; {what}"


_ENDED = {
    Ending.ALL_TRIALS: "done",
    Ending.TIME_LIMIT: "time limit",
    Ending.INTERRUPTED: "interrupted",
    Ending.STORAGE: "storage",
    Ending.RAY: "Ray died",
    Ending.LIKE_FAILURES: "all failed",
    Ending.FAILED: "error",
}


def _ended(opened: Run) -> str:
    if opened.ending is None:
        return "not yet" if opened.in_progress else "killed"
    return _ENDED[opened.ending]


def _holdout_text(opened: Run) -> str:
    if not (opened.job.seals_test or opened.job.tests_itself):
        return "none"
    return "opened" if opened.openings else "sealed"


def runs_display(folder: Path, damaged: Collection[str] = ()) -> tuple[Table, list[str]]:
    """Return a table of the runs in `folder`, the newest last, and why some of them cannot be read here.

    Args:
        folder: The folder of the runs.
        damaged: Names of runs that are damaged where they are kept; the folder may have an old copy or none.
    """
    runs = sorted(
        (path for path in folder.iterdir() if RunFolder(path).is_run and path.name not in damaged),
        key=lambda p: p.stat().st_mtime,
    )
    longest = max((len(name) for name in (*damaged, *(path.name for path in runs))), default=3)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold", width=max(min(longest, 36), len("run")))
    for heading in ("ended", "trials", "metric", "best", "holdout"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in {"trials", "best"} else "left")
    refused: list[str] = []
    for name in damaged:
        _add_row(table, name, "damaged", "", "", "", "")
    for path in runs:
        try:
            opened = open_run(path)
            best = rank(opened.record)[:1]
            _add_row(
                table,
                path.name,
                _ended(opened),
                str(len(opened.record.trials)),
                opened.record.score.metric,
                number_text(best[0].best.score) if best else "",
                _holdout_text(opened),
            )
        except OtherVersion as error:
            which = "earlier version" if isinstance(error, EarlierVersion) else "later version"
            _add_row(table, path.name, which, "", "", "", "")
            refused.append(str(error))
        except UnknownKind as error:
            _add_row(table, path.name, "unknown kind", "", "", "", "")
            refused.append(str(error))
        except (ExpectedError, OSError):
            _add_row(table, path.name, "damaged", "", "", "", "")
    return table, refused
