"""Make the report as one page: its content, and the HTML that holds it with its figures and its script."""

import base64
import gzip
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tune_jobs.holdout.ledger import read_openings
from tune_jobs.job.job import Job
from tune_jobs.record.events import Event, seconds_spent
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord, failures
from tune_jobs.report import sentences
from tune_jobs.report.scales import value_text
from tune_jobs.report.sections import Section, make_sections
from tune_jobs.report.trials_table import TrialsTable, make_trials_table
from tune_jobs.selection.rule import RULE, Candidate, select_winner
from tune_jobs.text import configuration_text, count_text, number_text, quoted, time_text, train_command
from tune_jobs.trainers.interface import RESERVED_COLUMNS

_MOST_NAMED = 12
"""Largest number of trials with one kind of failure that are named."""


@dataclass(frozen=True, kw_only=True)
class WinnerCard:
    """The winner, or the best trial so far."""

    trial_id: str
    score: str
    epoch: int
    epochs: int
    configuration: Sequence[tuple[str, str]]
    metrics: Sequence[tuple[str, str]]
    """Metrics of the scoring epoch, on validation rows."""


@dataclass(frozen=True, kw_only=True)
class FailureCard:
    """The trials that failed for one reason."""

    count: str
    reason: str
    trials: str
    example: str
    details: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template shows, as text."""

    name: str
    job: str
    state: sentences.RunState
    outcome: str
    request: str
    effort: str
    notices: Sequence[str]
    metric: str
    best_title: str
    winner: WinnerCard | None
    no_winner: str
    load: str
    again: str
    openings: Sequence[sentences.Opening]
    scores: Mapping[str, str]
    seal: str
    """How well the trainings' own test rows are sealed, in words; empty if tune-jobs keeps test rows."""
    tests_itself: bool
    """Whether the winner's own code evaluates its own test set."""
    test_rows: str
    open_hint: str
    open_command: str
    test_seen: bool
    optimism: str
    rule: str
    sections: Sequence[Section]
    failures: Sequence[FailureCard]
    table: TrialsTable
    provenance: Sequence[tuple[str, str]]
    job_text: str
    version: str
    written: str


def make_page(
    folder: RunFolder, job: Job, record: RunRecord, events: Sequence[Event], *, in_progress: bool
) -> Page:
    """Return the content of the report of a run.

    Args:
        folder: Folder of the run.
        job: Job of the run.
        record: Record of the events in force.
        events: All events of the run's journal.
        in_progress: Whether a process is at work on the run.
    """
    winner = select_winner(record) if record.ending is not None else None
    best = winner or _best_so_far(record)
    over = winner is not None and record.ending is not None and not record.ending.cut_off
    shown = best.trial.trial_id if best else None
    now = time.time() if in_progress else None
    openings = sentences.openings(read_openings(folder, events))
    return Page(
        name=folder.name,
        job=job.name,
        state=sentences.run_state(record, in_progress=in_progress),
        outcome=sentences.outcome(job, record, best, won=winner is not None),
        request=sentences.request(job, record),
        effort=sentences.effort(record, seconds_spent(events)),
        notices=record.started.notices if record.started else (),
        metric=record.score.metric,
        best_title="The winner" if winner else "The best so far",
        winner=_winner_card(record, best, job.facts.reported_settings) if best else None,
        no_winner="No trial has a score." if record.ending else "No trial has a score yet.",
        load=_load(folder) if winner else "",
        again=_again(folder, job, best) if best else "",
        openings=openings,
        scores={trial_id: number_text(b.score) for trial_id in record.trials if (b := record.best(trial_id))},
        seal="" if job.seals_test else f"{job.seal} ({job.seal.sentence})",
        tests_itself=job.tests_itself,
        test_rows=f"{record.started.rows.get('test', 0):,}" if record.started else "",
        open_hint=". For the winner they are opened once, by:" if over else ".",
        open_command=f"tune-jobs test {quoted(folder.address)}" if over else "",
        test_seen=record.test_seen,
        optimism=sentences.optimism(record) if winner else "",
        rule=RULE,
        sections=make_sections(job, record, events, shown, now),
        failures=_failures(record),
        table=make_trials_table(record, shown),
        provenance=_provenance(folder, record),
        job_text=folder.job.read_text(encoding="utf-8"),
        version=version("tune-jobs"),
        written=time_text(time.time()),
    )


def render(page: Page) -> str:
    """Return the page as HTML that needs no other file and no network."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["embed"] = embed
    template = environment.from_string(_asset("report.html.j2"))
    return template.render(
        page=page,
        css=Markup(_asset("report.css")),  # noqa: S704 (our own file)
        js=Markup(_asset("report.js")),  # noqa: S704 (our own file)
        plotly=_packed_plotly(),
    )


def embed(figure: go.Figure) -> Markup:
    """Return `figure` as JSON for a script element: nothing in it can end the element."""
    return Markup(figure.to_json().replace("<", "\\u003c"))  # noqa: S704 (no letter of it opens a tag)


def _asset(name: str) -> str:
    return files("tune_jobs.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """Return plotly.js compressed to a third: the page stays small enough for mail."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode()


def _best_so_far(record: RunRecord) -> Candidate | None:
    """Return the trial with the best score of all, whatever its state."""
    scored = [
        Candidate(trial, best) for trial in record.trials.values() if (best := record.best(trial.trial_id))
    ]
    return min(scored, key=lambda candidate: record.score.cost(candidate.best.score), default=None)


def _winner_card(record: RunRecord, best: Candidate, settings: Sequence[str]) -> WinnerCard:
    """Return the card of the best trial; the reported `settings` are no metrics, so they are left out."""
    epoch = best.trial.epochs[best.best.epoch]
    shown = [name for name in epoch if name not in {*RESERVED_COLUMNS, *settings, record.score.metric}]
    return WinnerCard(
        trial_id=best.trial.trial_id,
        score=number_text(best.best.score),
        epoch=best.best.epoch,
        epochs=len(best.trial.epochs),
        configuration=[(name, value_text(value)) for name, value in best.trial.configuration.items()],
        metrics=[(name, number_text(epoch[name])) for name in shown],
    )


def _load(folder: RunFolder) -> str:
    return f"from tune_jobs import open_run\nmodel = open_run({folder.address!r}).load_model()"


def _again(folder: RunFolder, job: Job, best: Candidate) -> str:
    return f"cd {quoted(job.folder)}\n{train_command(folder.job, best.trial.configuration)}"


def _failures(record: RunRecord) -> list[FailureCard]:
    cards = []
    for reason, trials in failures(record.trials.values()):
        named = ", ".join(trial.trial_id for trial in trials[:_MOST_NAMED])
        more = f" and {len(trials) - _MOST_NAMED} more" if len(trials) > _MOST_NAMED else ""
        cards.append(
            FailureCard(
                count=count_text(len(trials), "trial"),
                reason=reason,
                trials=f"Trials: {named}{more}",
                example=trials[0].trial_id,
                details=trials[0].details,
            )
        )
    return cards


def _provenance(folder: RunFolder, record: RunRecord) -> list[tuple[str, str]]:
    """Return what the run is based on: fingerprints, versions, rows, times."""
    started = record.started
    if started is None:
        return [("run folder", folder.address)]
    rows = ", ".join(f"{count:,} {part}" for part, count in started.rows.items()) or "read by the trainings"
    return [
        ("run folder", folder.address),
        ("started", time_text(started.time)),
        *([("ended", time_text(record.ended.time))] if record.ended else []),
        ("rows", rows),
        *(
            (f"changed on {time_text(change.time)}", configuration_text(change.changes))
            for change in record.changes
        ),
        *((f"fingerprint of the {name}", value) for name, value in started.fingerprints.items()),
        ("software", ", ".join(f"{name} {value}" for name, value in started.versions.items())),
    ]
