"""Make the table of all trials, which the page sorts and filters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.record.run_record import RunRecord, TrialRecord
from tune_jobs.report.scales import value_text
from tune_jobs.text import configuration_text, number_text


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    name: str
    numeric: bool
    """Whether the column is sorted as numbers and aligned to the right."""


@dataclass(frozen=True)
class Cell:
    """The text that is shown, and the key that is sorted by."""

    text: str
    key: str


@dataclass(frozen=True)
class Row:
    """A trial."""

    number: int
    trial_id: str
    state: str
    wins: bool
    configuration: str
    """The configuration in one line, for the details under a figure."""
    cells: Sequence[Cell]


@dataclass(frozen=True)
class TrialsTable:
    """All trials, in the order of their creation."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    states: Sequence[str]
    """The states that occur, for the filter."""


def make_trials_table(record: RunRecord, winner: str | None) -> TrialsTable:
    """Return the table of a run. A parameter that is not active in a trial is empty there, and sorts last."""
    names = list(dict.fromkeys(name for trial in record.trials.values() for name in trial.configuration))
    parameters = [Column(name, _numeric(record, name)) for name in names]
    columns = [
        Column("trial", True),
        Column("state", False),
        Column(record.score.metric, True),
        Column("best epoch", True),
        Column("epochs", True),
        Column("seconds", True),
        *parameters,
        Column("reason", False),
    ]
    rows = [_row(record, trial, names, winner) for trial in record.trials.values()]
    return TrialsTable(columns, rows, sorted({row.state for row in rows}))


def _row(record: RunRecord, trial: TrialRecord, names: Sequence[str], winner: str | None) -> Row:
    best = record.best(trial.trial_id)
    state = trial.status.text
    cells = [
        Cell(trial.trial_id, str(trial.number)),
        Cell(state, state),
        Cell(number_text(best.score), repr(best.score)) if best else Cell("", ""),
        Cell(str(best.epoch), str(best.epoch)) if best else Cell("", ""),
        Cell(str(len(trial.epochs)), str(len(trial.epochs))),
        Cell(f"{trial.seconds:.3g}", repr(trial.seconds)),
        *(_value_cell(trial.configuration[name]) if name in trial.configuration else Cell("", "") for name in names),
        Cell(trial.reason, trial.reason),
    ]  # fmt: skip
    return Row(
        number=trial.number,
        trial_id=trial.trial_id,
        state=state,
        wins=trial.trial_id == winner,
        configuration=configuration_text(trial.configuration),
        cells=cells,
    )


def _value_cell(value: Any) -> Cell:
    text = value_text(value)
    return Cell(text, repr(value) if _is_number(value) else text)


def _numeric(record: RunRecord, name: str) -> bool:
    """Return whether every trial that has the parameter has a number there."""
    values = [t.configuration[name] for t in record.trials.values() if name in t.configuration]
    return all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
